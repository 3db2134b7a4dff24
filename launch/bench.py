"""Times sampler or trainer; prints JSON with the share of the roofline.

python launch/bench.py
python launch/bench.py --config=configs/bench_gsm8k.py --profile=DIR
"""

import json
import os

from absl import flags

from wcse_jax import bench, bench_train, cli


_PROFILE = flags.DEFINE_string(
  'profile', '', 'Folder for a profiler trace of one repeat.'
)


def run(
  config: bench.BenchConfig | bench_train.TrainBenchConfig, workdir: str
) -> None:
  del workdir
  if isinstance(config, bench_train.TrainBenchConfig):
    print(json.dumps(bench_train.bench(config), indent=2))
    return
  config.profile = config.profile or _PROFILE.value
  print(json.dumps(bench.bench(config), indent=2))


if __name__ == '__main__':
  cli.main(
    run,
    os.path.join(os.path.dirname(__file__), '../configs/bench.py'),
    needs_workdir=False,
  )
