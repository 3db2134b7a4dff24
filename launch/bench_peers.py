"""Times other engines on the work of `launch/bench.py`; prints JSON.

python launch/bench_peers.py --config.checkpoint=PATH/gemma-3-270m \
  --config.data=PATH/gsm8k --config.gguf=PATH/gemma-3-270m.gguf
"""

import json
import os

from wcse_jax import bench_train, cli
from wcse_jax.peers import measure


def run(
  config: measure.PeersConfig | bench_train.TrainBenchConfig, workdir: str
) -> None:
  del workdir
  if isinstance(config, bench_train.TrainBenchConfig):
    print(json.dumps(measure.training(config), indent=2))
    return
  # Else jax, measuring the machine, would keep a GPU's memory from the peers:
  # what it has once had it gives back only so.
  os.environ.setdefault('XLA_PYTHON_CLIENT_ALLOCATOR', 'platform')
  print(json.dumps(measure.measure(config), indent=2))


if __name__ == '__main__':
  cli.main(
    run,
    os.path.join(os.path.dirname(__file__), '../configs/bench_peers.py'),
    needs_workdir=False,
  )
