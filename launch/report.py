"""Rebuilds the report of a finished or unfinished study from its files.

  python launch/report.py --workdir=runs/quickstart \
    --config=configs/quickstart.py
"""

import os

from wcse_jax import cli
from wcse_jax.study import run as studies
from wcse_jax.study import settings


def run(config: settings.StudyConfig, workdir: str) -> None:
  results = studies.rebuild(config, workdir)
  print(f'{results["status"]}: {results["answer"]["sentence"]}')
  print(f'report: {os.path.abspath(workdir)}/report/index.html')


if __name__ == '__main__':
  cli.main(run, os.path.join(os.path.dirname(__file__), '../configs/report.py'))
