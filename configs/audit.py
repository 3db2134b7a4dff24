"""Defaults of `launch/audit.py`.

Command:   python launch/audit.py --workdir=runs/first
Hardware:  one CPU core
Time:      2.5 s for the 800 samples of configs/sample.py, start included
Result:    runs/first/audit/<model>.csv and .html, to be filled in
"""

from wcse_jax import audit


def get_config() -> audit.AuditConfig:
  return audit.AuditConfig()
