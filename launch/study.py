"""Runs a whole study: `DIR/results.json` and `DIR/report/index.html`.

python launch/study.py --workdir=runs/quickstart --config=configs/quickstart.py

`--dry_run` tells stages, cost, time, and the smallest difference that can be
found, and writes nothing; `--stages=sample-wc,train-*` runs some stages alone.
"""

import os

from absl import flags

from wcse_jax import cli
from wcse_jax.study import run as studies
from wcse_jax.study import settings


_STAGES = flags.DEFINE_string(
  'stages',
  '',
  'Stages to run alone, with commas; * stands for anything.  Empty: all.',
)
_DRY = flags.DEFINE_bool(
  'dry_run', False, 'Tells what the study would cost and find, and ends.'
)
_TOPOLOGIES = flags.DEFINE_list(
  'topologies',
  [],
  'TPU slices of a dry run, as v5e:4x4: each stage takes the first that it '
  'fits.  None: this machine.',
)
_REPLICAS = flags.DEFINE_integer(
  'replicas', 1, 'Identical slices of a dry run.'
)


def run(config: settings.StudyConfig, workdir: str) -> None:
  if _DRY.value:
    print(
      studies.dry_run(
        config, workdir, topologies=_TOPOLOGIES.value, replicas=_REPLICAS.value
      )
    )
    return
  results = studies.run(config, workdir, only=_STAGES.value)
  if results is not None:
    print(results['answer']['sentence'])
    print(f'report: {os.path.abspath(workdir)}/report/index.html')


if __name__ == '__main__':
  cli.main(run, os.path.join(os.path.dirname(__file__), '../configs/study.py'))
