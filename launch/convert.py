"""Writes a checkpoint in another format: to a Hugging Face folder, or to Orbax.

python launch/convert.py --source=PATH/model.gguf --target=PATH/model/
python launch/convert.py --source=PATH/model --target=PATH/model-orbax
"""

import os

from absl import flags

from wcse_jax import cli, convert


_SOURCE = flags.DEFINE_string('source', '', 'HF folder, GGUF or Orbax folder.')
_TARGET = flags.DEFINE_string('target', '', 'The folder to write.')
_CONFIG = os.path.join(os.path.dirname(__file__), '../configs/convert.py')


def run(config: convert.ConvertConfig, workdir: str) -> None:
  result = convert.convert(config, _SOURCE.value, _TARGET.value, workdir)
  print(convert.line(result))


if __name__ == '__main__':
  cli.main(run, _CONFIG, needs_workdir=False)
