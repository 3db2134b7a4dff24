"""GSM8K behind the literature's 8 shots: 32 problems, 4 samples, 128 tokens.

Command:   python launch/bench.py --config=configs/bench_gsm8k.py
             --config.checkpoint=PATH/gemma-3-270m --config.data=PATH/gsm8k
Hardware:  any; about 4 GB of memory
Time:      about 10 minutes on 2 CPU cores
Result:    JSON on standard output
"""

from wcse_jax import bench
from wcse_jax.sampler import settings


def get_config() -> bench.BenchConfig:
  return bench.BenchConfig(
    checkpoint='google/gemma-3-270m',
    task='gsm8k',
    split='test',
    limit=32,
    shots=8,
    samples_per_problem=4,
    end_tokens=False,
    sampler=settings.SamplerConfig(
      temperature=0.7, top_k=3, max_new_tokens=128, slots=64, prefill_batch=8
    ),
  )
