"""Training steps to time: Gemma 3 270M, rows of 512 tokens, AdamW, float32.

Command:   python launch/bench.py --config=configs/bench_train.py
             --config.checkpoint=PATH/gemma-3-270m --config.train=ROWS.jsonl
           and the same with launch/bench_peers.py, by transformers
Hardware:  any; about 10 GB of memory
Time:      some minutes on 2 CPU cores
Result:    JSON on standard output
"""

from wcse_jax import bench_train
from wcse_jax.sft import settings


def get_config() -> bench_train.TrainBenchConfig:
  return bench_train.TrainBenchConfig(
    checkpoint='google/gemma-3-270m',
    batch_size=4,
    optimizer=settings.OptimizerConfig(learning_rate=1e-5, weight_decay=0.01),
  )
