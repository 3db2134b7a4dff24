"""Both models asked with two worked examples: does it hang on the prompt?

Command:   python launch/study.py --workdir=runs/prompts \
             --config=configs/prompts.py:tiny
           (:math and :gsm8k add the same to the paper's studies)
Hardware:  :tiny on 2 CPU cores; the others as configs/paper_math.py says
Time:      `--dry_run` tells it
"""

from wcse_jax.study import recipes, settings


def get_config(base: str = 'tiny') -> settings.StudyConfig:
  return recipes.prompts(recipes.based(base), shots=2)
