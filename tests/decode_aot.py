"""Decode attention compiled for a TPU slice, on a machine without one.

  python tests/decode_aot.py TOPOLOGY kernel|xla|pallas

prints what the compiler says: of the kernel alone on one chip, in several
shapes, or of a decode step of Gemma 2 27B with and without it (64 slots of 512
places behind a prefix of 1,000 tokens, on 16 chips).
"""

import functools
import json
import math
import os
import re
import subprocess
import sys


# Slots, key/value heads, query heads of each, places, width, dtype: the share
# of a chip in Gemma 2 27B, Gemma 3 27B at a longer cache, Gemma 1 7B alone.
SHAPES = (
  (64, 1, 2, 512, 128, 'bfloat16'),
  (30, 1, 2, 4096, 128, 'bfloat16'),
  (8, 16, 1, 272, 256, 'bfloat16'),
)
_SLOTS, _PLACES, _PREFIX = 64, 512, 1000


def run(topology: str, what: str):
  """Returns what a process of its own finds."""
  done = subprocess.run(
    [sys.executable, __file__, topology, what],
    env={
      **os.environ,
      'XLA_FLAGS': '',
      'JAX_PLATFORMS': 'cpu',
      'TPU_SKIP_MDS_QUERY': '1',
      'TPU_ACCELERATOR_TYPE': 'v5litepod-16',
      'TPU_WORKER_HOSTNAMES': 'localhost',
      # Another process may have the library loaded.
      'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
    },
    capture_output=True,
    text=True,
    check=False,
  )
  if done.returncode:
    raise RuntimeError(done.stderr[-3000:])
  return json.loads(done.stdout.strip().splitlines()[-1])


def _compiled(program, *arguments, **options):
  """Returns (what the compiler says, the compiled text)."""
  import jax

  compiled = jax.jit(program, **options).lower(*arguments).compile()
  memory = compiled.memory_analysis()
  found = {
    'temporary': memory.temp_size_in_bytes,
    'aliased': memory.alias_size_in_bytes,
    'bytes': compiled.cost_analysis()['bytes accessed'],
  }
  return found, compiled.as_text()


def kernels(devices):
  """Returns shape -> what the compiler says of the kernel alone."""
  import jax
  import jax.numpy as jnp

  from wcse_jax.kernels import decode_tpu

  one = jax.sharding.SingleDeviceSharding(devices[0])
  struct = functools.partial(jax.ShapeDtypeStruct, sharding=one)
  found = {}
  for B, K, G, S, H, dtype in SHAPES:
    q_BKGH = struct((B, K, G, H), dtype)
    k_LBKSH = struct((2, B, K, S, H), dtype)
    run = functools.partial(decode_tpu.attend, softcap=50.0)
    cost = decode_tpu.cost(q_BKGH, k_LBKSH, softcap=50.0, fill=0.5)
    found[f'{B} {K} {G} {S} {H} {dtype}'] = _compiled(
      run,
      q_BKGH,
      k_LBKSH,
      k_LBKSH,
      struct((), jnp.int32),
      struct((B,), jnp.int32),
    )[0] | {'estimate': cost.bytes_accessed}
  return found


def step(devices, kernel: bool):
  """Returns what the compiler says of a decode step."""
  import jax
  import jax.numpy as jnp
  from flax import nnx

  from wcse_jax import sharding
  from wcse_jax.models import published, transformer

  mesh = sharding.make_mesh('tensor=16', devices)

  def struct(a, letters: str, table=sharding.ACTIVATIONS):
    where = sharding.sharding(mesh, letters, table)
    return jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=where)

  model = nnx.eval_shape(
    lambda: transformer.Transformer(
      published.configs()['gemma2-27b'],
      dtype='bfloat16',
      rngs=nnx.Rngs(0),
      mesh=mesh,
    )
  )
  graph, state = nnx.split(model)
  state = jax.tree.map(
    lambda p: p.replace(struct(p, p.get_metadata('letters'), sharding.WEIGHTS)),
    state,
    is_leaf=lambda leaf: isinstance(leaf, nnx.Variable),
  )

  def held(tree, letters: str):
    return jax.tree.map(lambda a: struct(a, letters), tree)

  cache = held(
    jax.eval_shape(lambda: model.make_cache(_SLOTS, _PLACES)), 'LBKSH'
  )

  def first(state):
    model = nnx.merge(graph, state)
    tokens_1T = jnp.zeros((1, _PREFIX), jnp.int32)
    return model.as_prefix(model.prefill(tokens_1T))

  prefix = held(jax.eval_shape(first, state), 'LKSH')

  def decode(state, token_B, own_B, cache, prefix):
    model = nnx.merge(graph, state)
    x_BD, cache = model.step(
      token_B, own_B, cache, prefix, _PREFIX, kernel=kernel
    )
    return model.logits(x_BD[:, None]), cache

  ids = struct(jax.ShapeDtypeStruct((_SLOTS,), jnp.int32), 'B')
  found, text = _compiled(
    decode, state, ids, ids, cache, prefix, donate_argnums=3
  )
  # Of the cache a copy would be an operation of its own.
  whole = cache[0][0]['k']
  shape = ','.join(map(str, whole.sharding.shard_shape(whole.shape)))
  copies = re.findall(rf'= bf16\[{shape}\]\S* copy\(', text)
  return found | {
    'repeats': model.stacks[0].repeats,
    'cache': sum(
      leaf.dtype.itemsize * math.prod(leaf.sharding.shard_shape(leaf.shape))
      for leaf in jax.tree.leaves(cache)
    ),
    'cache_copies': len(copies),
    'calls': len(re.findall(r'custom_call_target="tpu_custom_call"', text)),
  }


def main() -> None:
  from jax.experimental import topologies

  name, what = sys.argv[1:]
  devices = topologies.get_topology_desc(
    platform='tpu', topology_name=name
  ).devices
  if what == 'kernel':
    found = kernels(devices)
  else:
    found = step(devices, what == 'pallas')
  print(json.dumps(found))


if __name__ == '__main__':
  main()
