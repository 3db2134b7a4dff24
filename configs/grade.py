"""Defaults of `launch/grade.py`.

Command:   python launch/grade.py --workdir=runs/first
Hardware:  all CPU cores for more than 2,000 samples, else one
Time:      2 s for the 800 samples of configs/sample.py, start included
Result:    runs/first/measures.json, and a table
"""

from wcse_jax import grade


def get_config() -> grade.GradeConfig:
  return grade.GradeConfig()
