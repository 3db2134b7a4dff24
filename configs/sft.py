"""Defaults of `launch/sft.py`: the paper's batch of 32 and its AdamW range.

Command:   python launch/sft.py --workdir=runs/tuned
             --config.checkpoint=tiny-student --config.train=runs/first
             --config.task=arith --config.steps=100
Hardware:  2 CPU cores for the embedded models
Time:      on 2 CPU cores about 0.1 s a step of 32 x 128 tokens for tiny-student
Result:    the best model in runs/tuned/model/
"""

from wcse_jax.sft import settings


def get_config() -> settings.SftConfig:
  return settings.SftConfig()
