"""Defaults of `launch/bench.py`: the embedded weak model on `arith`.

Command:   python launch/bench.py
Hardware:  any
Time:      about a minute on 2 CPU cores
Result:    JSON on standard output
"""

from wcse_jax import bench
from wcse_jax.sampler import settings


def get_config() -> bench.BenchConfig:
  return bench.BenchConfig(
    limit=128,
    samples_per_problem=8,
    # What CPUs are fastest in.
    dtype='float32',
    sampler=settings.SamplerConfig(max_new_tokens=64, slots=256),
  )
