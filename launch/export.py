"""Writes the training set of a student to `DIR/dataset/`, for others to load.

  python launch/export.py --workdir=runs/exported --config.train=runs/first

Then `datasets.load_dataset('runs/exported/dataset')` reads it.
"""

import os

from wcse_jax import cli
from wcse_jax.exports import run as exports


def run(config: exports.ExportConfig, workdir: str) -> None:
  found = exports.export(config, workdir)
  print(
    f'{found["rows"]} rows of {found["problems"]} problems: '
    f'{workdir}/{exports.FOLDER}'
  )


if __name__ == '__main__':
  cli.main(run, os.path.join(os.path.dirname(__file__), '../configs/export.py'))
