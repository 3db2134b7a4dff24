"""Defaults of `launch/study.py`: name the models, the task and the budgets.

Command:   python launch/study.py --workdir=runs/study
             --config.wc=FOLDER --config.se=FOLDER --config.student=FOLDER
Hardware:  what the models need; the embedded ones run on 2 CPU cores
Time:      for the embedded models about half an hour
"""

from wcse_jax import study


def get_config() -> study.StudyConfig:
  return study.StudyConfig()
