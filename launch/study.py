"""Runs a whole study: `DIR/results.json` and `DIR/report/index.html`.

python launch/study.py --workdir=runs/quickstart --config=configs/quickstart.py
"""

import os

from absl import flags

from wcse_jax import cli
from wcse_jax.study import run as studies
from wcse_jax.study import settings


def run(config: settings.StudyConfig, workdir: str) -> None:
  results = studies.run(config, workdir, only=_STAGES.value)
  if results is None:
    return
  print(results['answer']['sentence'])
  print(f'report: {os.path.abspath(workdir)}/report/index.html')


_STAGES = flags.DEFINE_string(
  'stages', '', 'Stages to run alone, as sample-wc,train-*; empty: all.'
)


if __name__ == '__main__':
  cli.main(run, os.path.join(os.path.dirname(__file__), '../configs/study.py'))
