"""The paper's study of MATH: Gemma 2 9B or 27B, at 1 v 3 and 10 v 30 samples.

Command:   python launch/study.py --workdir=runs/math
             --config=configs/paper_math.py --config.data=FOLDER
             --config.test.data=FOLDER
             --config.transfer.functional_math.data=FOLDER
Hardware:  16 v5e chips or more; docs/results/paper-study.md has the time and
           the cost by slice (`--dry_run --topology=v5e:4x4` tells it anew)
Result:    not run here; what it could find is told by `--dry_run`
"""

from wcse_jax.study import recipes, settings


def get_config() -> settings.StudyConfig:
  return recipes.math()
