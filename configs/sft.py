"""Defaults of `launch/sft.py`: the paper's batch of 32 and its AdamW range.

Command:   python launch/sft.py --workdir=runs/tuned
             --config.checkpoint=tiny-student --config.train=runs/first
             --config.task=arith --config.steps=100
Hardware:  2 CPU cores for the embedded models
Time:      about 8 steps of 32 x 128 tokens a second for tiny-student
"""

from wcse_jax.sft import settings


def get_config() -> settings.SftConfig:
  return settings.SftConfig()
