"""Runs a whole study: `DIR/results.json` and `DIR/report/index.html`.

python launch/study.py --workdir=runs/quickstart --config=configs/quickstart.py
"""

import os

from wcse_jax import cli, study


def run(config: study.StudyConfig, workdir: str) -> None:
  results = study.run(config, workdir)
  print(results['answer']['sentence'])
  print(f'report: {os.path.abspath(workdir)}/report/index.html')


if __name__ == '__main__':
  cli.main(run, os.path.join(os.path.dirname(__file__), '../configs/study.py'))
