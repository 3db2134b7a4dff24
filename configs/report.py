"""Defaults of `launch/report.py`; give it the configuration of the study."""

from wcse_jax import study


def get_config() -> study.StudyConfig:
  return study.StudyConfig()
