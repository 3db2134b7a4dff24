"""Defaults of `launch/convert.py`: the type of the source's own weights.

Command:   python launch/convert.py --source=PATH/model.gguf
             --target=PATH/model/
Hardware:  memory for the weights
"""

from wcse_jax import convert


def get_config() -> convert.ConvertConfig:
  return convert.ConvertConfig()
