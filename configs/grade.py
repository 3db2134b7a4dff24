"""Defaults of `launch/grade.py`.

Command:   python launch/grade.py --workdir=runs/first
Hardware:  one CPU core
Time:      about 10,000 samples of `arith` a second
"""

from wcse_jax import grade


def get_config() -> grade.GradeConfig:
  return grade.GradeConfig()
