"""The budget shared between WC and SE: is a mix better than either?

Command:   python launch/study.py --workdir=runs/mixing \
             --config=configs/mixing.py:tiny
           (:math and :gsm8k add the same to the paper's studies)
Hardware:  :tiny on 2 CPU cores; the others as configs/paper_math.py says
Time:      `--dry_run` tells it
"""

from wcse_jax.study import recipes, settings


def get_config(base: str = 'tiny') -> settings.StudyConfig:
  return recipes.mixing(recipes.based(base), (0.4, 0.6, 0.8))
