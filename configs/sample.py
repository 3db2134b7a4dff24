"""Defaults of `launch/sample.py`: one sample a problem of `arith`.

Command:   python launch/sample.py --workdir=runs/first
Hardware:  any; 2 CPU cores for the embedded models
Time:      about 20 s for 7,692 problems
"""

from wcse_jax.sampler import run


def get_config() -> run.SampleConfig:
  return run.SampleConfig()
