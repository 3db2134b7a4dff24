"""Defaults of `launch/grade.py`."""

from wcse_jax import grade


def get_config() -> grade.GradeConfig:
  return grade.GradeConfig()
