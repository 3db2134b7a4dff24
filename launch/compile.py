"""Compiles the sampler for a TPU slice without one; prints estimates as JSON.

python launch/compile.py --config.model=gemma2-27b --config.topology=v5e:4x4
"""

import json
import os

from wcse_jax import cli
from wcse_jax.aot import compile as aot


def run(config: aot.CompileConfig, workdir: str) -> None:
  del workdir
  print(json.dumps(aot.compile(config), indent=2))


if __name__ == '__main__':
  cli.main(
    run,
    os.path.join(os.path.dirname(__file__), '../configs/compile.py'),
    needs_workdir=False,
  )
