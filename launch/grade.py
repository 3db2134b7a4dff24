"""Grades `DIR/samples` into `DIR/grades`; prints and writes the measures.

Models of one folder are compared in `DIR/comparisons.json`, too.

  python launch/grade.py --workdir=runs/first

Samples from anywhere, as JSON lines of problem_id, index and text:

  python launch/grade.py --workdir=runs/other --config.samples=FILE.jsonl
"""

import os

from wcse_jax import cli, grade


def run(config: grade.GradeConfig, workdir: str) -> None:
  print(grade.table(grade.grade(config, workdir)))


if __name__ == '__main__':
  cli.main(run, os.path.join(os.path.dirname(__file__), '../configs/grade.py'))
