"""Data drawn as the plan of a pilot says, beside those of the arms.

Command:   python launch/study.py --workdir=runs/planned \
             --config=configs/planned.py:tiny
           (:math and :gsm8k add the same to the paper's studies)
Hardware:  :tiny on 2 CPU cores; the others as configs/paper_math.py says
Time:      `--dry_run` tells it
"""

from wcse_jax.study import recipes, settings


def get_config(base: str = 'tiny') -> settings.StudyConfig:
  return recipes.planned(recipes.based(base), problems=96)
