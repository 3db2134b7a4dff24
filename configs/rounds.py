"""Three rounds: a student samples what the next student is trained on.

Command:   python launch/study.py --workdir=runs/rounds \
             --config=configs/rounds.py:tiny
           (:math and :gsm8k add the same to the paper's studies)
Hardware:  :tiny on 2 CPU cores; the others as configs/paper_math.py says
Time:      `--dry_run` tells it
"""

from wcse_jax.study import recipes, settings


def get_config(base: str = 'tiny') -> settings.StudyConfig:
  return recipes.rounds(recipes.based(base), 3)
