"""Defaults of `launch/evaluate.py`: pass@1 and maj@4 on `arith`.

Command:   python launch/evaluate.py --workdir=runs/tuned
             --config.checkpoint=runs/tuned/model --config.limit=200
Hardware:  2 CPU cores for the embedded models
Time:      10 s for tiny-student, start and compiling included
Result:    pass@1 and maj@4 in runs/tuned/evaluation.json
"""

from wcse_jax import evaluate


def get_config() -> evaluate.EvaluateConfig:
  return evaluate.EvaluateConfig()
