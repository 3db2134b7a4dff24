"""Defaults of `launch/study.py`: name the models, the task and the budgets.

Command:   python launch/study.py --workdir=runs/study
             --config.wc=FOLDER --config.se=FOLDER --config.student=FOLDER
Hardware:  what the models need; the embedded ones run on 2 CPU cores
Time:      see configs/quickstart.py for a smaller study that was timed
"""

from wcse_jax.study import settings


def get_config() -> settings.StudyConfig:
  return settings.StudyConfig()
