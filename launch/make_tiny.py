"""Trains one embedded model and writes its Hugging Face folder.

  python launch/make_tiny.py --config=configs/tiny.py:tiny-wc \
    --workdir=runs/tiny-wc --target=wcse_jax/embedded/tiny-wc
"""

import os

from absl import flags

from wcse_jax import cli, pretrain


_TARGET = flags.DEFINE_string('target', '', 'Folder of the trained model.')
_CONFIG = os.path.join(os.path.dirname(__file__), '../configs/tiny.py')


def run(config: pretrain.PretrainConfig, workdir: str) -> None:
  pretrain.make(config, workdir, _TARGET.value or f'{workdir}/{config.name}')


if __name__ == '__main__':
  cli.main(run, _CONFIG)
