"""WC data of as many samples as SE has: what is left of it at equal number?

Command:   python launch/study.py --workdir=runs/number_matched \
             --config=configs/number_matched.py:tiny
           (:math and :gsm8k add the same to the paper's studies)
Hardware:  :tiny on 2 CPU cores; the others as configs/paper_math.py says
Time:      `--dry_run` tells it
"""

from wcse_jax.study import recipes, settings


def get_config(base: str = 'tiny') -> settings.StudyConfig:
  return recipes.number_matched(recipes.based(base))
