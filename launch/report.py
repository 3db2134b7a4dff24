"""Rebuilds the report of a finished or unfinished study from its files.

  python launch/report.py --workdir=runs/quickstart \
    --config=configs/quickstart.py

With `--watch` nothing is written: the report is served to this machine, and
follows the study while it runs.
"""

import os

from absl import flags

from wcse_jax import cli, watch
from wcse_jax.study import run as studies
from wcse_jax.study import settings


_WATCH = flags.DEFINE_bool(
  'watch', False, 'Serves the report of a study that may still run.'
)
_PORT = flags.DEFINE_integer(
  'port',
  0,
  'Port of 127.0.0.1 that it is served on; 0 for any.',
  lower_bound=0,
  upper_bound=65535,
)


def run(config: settings.StudyConfig, workdir: str) -> None:
  if _WATCH.value:
    watch.run(config, workdir, port=_PORT.value)
    return
  results = studies.rebuild(config, workdir)
  print(f'{results["status"]}: {results["answer"]["sentence"]}')
  print(f'report: {os.path.abspath(workdir)}/report/index.html')


if __name__ == '__main__':
  cli.main(run, os.path.join(os.path.dirname(__file__), '../configs/report.py'))
