"""Measures which figure of the data tells the better student: `proxies.json`.

python launch/proxies.py --workdir=runs/proxies
"""

import os

from wcse_jax import cli, proxies
from wcse_jax.plan import picks


def run(config: proxies.ProxiesConfig, workdir: str) -> None:
  print(picks.table(proxies.run(config, workdir)))


if __name__ == '__main__':
  cli.main(
    run, os.path.join(os.path.dirname(__file__), '../configs/proxies.py')
  )
