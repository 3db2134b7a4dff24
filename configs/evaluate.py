"""Defaults of `launch/evaluate.py`."""

from wcse_jax import evaluate


def get_config() -> evaluate.EvaluateConfig:
  return evaluate.EvaluateConfig()
