"""Defaults of `launch/report.py`: give it the configuration of the study.

Command:   python launch/report.py --workdir=runs/quickstart
             --config=configs/quickstart.py
Hardware:  one CPU core
Time:      a few seconds
"""

from wcse_jax import study


def get_config() -> study.StudyConfig:
  return study.StudyConfig()
