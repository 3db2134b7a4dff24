"""Right samples for people to audit: `DIR/audit/<model>.csv` and `.html`.

  python launch/audit.py --workdir=runs/first

What they filled in, read back into `DIR/audit/<model>.jsonl`:

  python launch/audit.py --workdir=runs/first --config.read=FILE.csv

A second auditor's file, and how far the two agree:

  python launch/audit.py --workdir=runs/first --config.read=OTHER.csv \
    --config.auditor=NAME
"""

import os

from wcse_jax import audit, cli


def run(config: audit.AuditConfig, workdir: str) -> None:
  print(audit.audit(config, workdir))


if __name__ == '__main__':
  cli.main(run, os.path.join(os.path.dirname(__file__), '../configs/audit.py'))
