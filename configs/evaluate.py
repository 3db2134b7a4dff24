"""Defaults of `launch/evaluate.py`: pass@1 and maj@4 on `arith`.

Command:   python launch/evaluate.py --workdir=runs/tuned
             --config.checkpoint=runs/tuned/model
Hardware:  2 CPU cores for the embedded models
Time:      about 30 s
"""

from wcse_jax import evaluate


def get_config() -> evaluate.EvaluateConfig:
  return evaluate.EvaluateConfig()
