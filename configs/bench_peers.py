"""The work of `configs/bench_gsm8k.py`, by other engines.

Command:   python launch/bench_peers.py
             --config.checkpoint=PATH/gemma-3-270m --config.data=PATH/gsm8k
             --config.gguf=PATH/gemma-3-270m.gguf
           With --config.peers=transformers for one of them; on a GPU
           --config.peers=transformers,vllm --config.batches=8,16,32.
Hardware:  any; about 6 GB of memory.  vllm wants a GPU
Time:      some hours on 2 CPU cores; --config.peer_limit=4 repeats an eighth of
           the work, --config.batches=4,8 searches less
Result:    JSON on standard output
"""

from wcse_jax.peers import measure
from wcse_jax.sampler import settings


def get_config() -> measure.PeersConfig:
  return measure.PeersConfig(
    checkpoint='google/gemma-3-270m',
    task='gsm8k',
    split='test',
    limit=32,
    shots=8,
    samples_per_problem=4,
    end_tokens=False,
    sampler=settings.SamplerConfig(
      temperature=0.7, top_k=3, max_new_tokens=128
    ),
  )
