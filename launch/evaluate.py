"""pass@1 and maj@k of one checkpoint on one task: `DIR/evaluation.json`.

  python launch/evaluate.py --workdir=runs/tuned \
    --config.checkpoint=runs/tuned/model --config.task=arith
"""

import os

from wcse_jax import cli, evaluate, grade


def run(config: evaluate.EvaluateConfig, workdir: str) -> None:
  result = evaluate.evaluate(config, workdir)
  for name, row in result.items():
    if '@' in name:
      print(f'{name:<10}{grade.shown(row)}')


if __name__ == '__main__':
  cli.main(
    run, os.path.join(os.path.dirname(__file__), '../configs/evaluate.py')
  )
