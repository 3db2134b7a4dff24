"""Defaults of `launch/study.py`: name the models, the task and the budgets."""

from wcse_jax import study


def get_config() -> study.StudyConfig:
  return study.StudyConfig()
