"""Defaults of `launch/report.py`: give it the configuration of the study.

Command:   python launch/report.py --workdir=runs/quickstart
             --config=configs/quickstart.py
Hardware:  one CPU core
Time:      a few seconds
"""

from wcse_jax.study import settings


def get_config() -> settings.StudyConfig:
  return settings.StudyConfig()
