"""Equal passes over the data, not equal steps: does WC win by its steps alone?

Command:   python launch/study.py --workdir=runs/equal_epoch \
             --config=configs/equal_epoch.py:tiny
           (:math and :gsm8k add the same to the paper's studies)
Hardware:  :tiny on 2 CPU cores; the others as configs/paper_math.py says
Time:      `--dry_run` tells it
"""

from wcse_jax.study import recipes, settings


def get_config(base: str = 'tiny') -> settings.StudyConfig:
  return recipes.equal_epochs(recipes.based(base), epochs=3)
