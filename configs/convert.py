"""Defaults of `launch/convert.py`: the type of the source's own weights.

Command:   python launch/convert.py --source=PATH/model.gguf
             --target=PATH/model/
Hardware:  memory for the weights
Time:      13 s for gemma-3-270m.gguf on 2 CPU cores, 2.1 GB of memory
Result:    a folder that transformers loads, with a model card
"""

from wcse_jax import convert


def get_config() -> convert.ConvertConfig:
  return convert.ConvertConfig()
