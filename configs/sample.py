"""Defaults of `launch/sample.py`."""

from wcse_jax.sampler import run


def get_config() -> run.SampleConfig:
  return run.SampleConfig()
