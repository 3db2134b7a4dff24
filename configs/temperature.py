"""SE at temperature 1: is it diversity that SE lacks?

Command:   python launch/study.py --workdir=runs/temperature \
             --config=configs/temperature.py:tiny
           (:math and :gsm8k add the same to the paper's studies)
Hardware:  :tiny on 2 CPU cores; the others as configs/paper_math.py says
Time:      `--dry_run` tells it
"""

from wcse_jax.study import recipes, settings


def get_config(base: str = 'tiny') -> settings.StudyConfig:
  return recipes.hotter(recipes.based(base), temperature=1.0)
