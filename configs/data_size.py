"""A quarter and a half of the problems: does the winner change with them?

Command:   python launch/study.py --workdir=runs/data_size \
             --config=configs/data_size.py:tiny
           (:math and :gsm8k add the same to the paper's studies)
Hardware:  :tiny on 2 CPU cores; the others as configs/paper_math.py says
Time:      `--dry_run` tells it
"""

from wcse_jax.study import recipes, settings


def get_config(base: str = 'tiny') -> settings.StudyConfig:
  return recipes.data_size(recipes.based(base))
