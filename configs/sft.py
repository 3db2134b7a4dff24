"""Defaults of `launch/sft.py`."""

from wcse_jax.sft import settings


def get_config() -> settings.SftConfig:
  return settings.SftConfig()
