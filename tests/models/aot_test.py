"""Gemma 2 27B compiled for a TPU slice, on a machine without one.

  python -m pytest tests/models/aot_test.py -s

prints what the programs take to compile.
"""

import json
import os
import subprocess
import sys

import pytest


_SCRIPT = """
import json, math, sys, time
import jax, jax.numpy as jnp
from flax import nnx
from jax.experimental import topologies
from wcse_jax import sharding
from wcse_jax.models import published, transformer

topology = topologies.get_topology_desc(platform='tpu', topology_name='v5e:4x4')
mesh = sharding.make_mesh('tensor=16', topology.devices)

def struct(shape, dtype, letters, table=sharding.ACTIVATIONS):
  return jax.ShapeDtypeStruct(
    shape, dtype, sharding=sharding.sharding(mesh, letters, table)
  )

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
  lambda p: p.replace(
    struct(p.shape, p.dtype, p.get_metadata('letters'), sharding.WEIGHTS)
  ),
  state,
  is_leaf=lambda leaf: isinstance(leaf, nnx.Variable),
)
def held(tree, k, v):
  return [
    [
      {
        name: struct(a.shape, a.dtype, 'L' + {'k': k, 'v': v}[name])
        for name, a in block.items()
      }
      for block in stack
    ]
    for stack in tree
  ]

PREFIX = 1000
cache = held(jax.eval_shape(lambda: model.make_cache(64, 512)), 'BKSH', 'BKSH')
rows = jax.eval_shape(
  lambda state: nnx.merge(graph, state).as_prefix(
    nnx.merge(graph, state).prefill(jnp.zeros((1, PREFIX), jnp.int32))
  ),
  state,
)
prefix = held(rows, 'KSH', 'KSH')

def decode(state, token_B, own_B, cache, prefix):
  model = nnx.merge(graph, state)
  x_BD, cache = model.step(token_B, own_B, cache, prefix, PREFIX)
  return model.logits(x_BD[:, None]), cache

def forward(state, tokens_BT):
  return nnx.merge(graph, state)(tokens_BT)

def size(tree):
  return sum(
    leaf.dtype.itemsize * math.prod(leaf.sharding.shard_shape(leaf.shape))
    for leaf in jax.tree.leaves(tree)
  )

def run(program, *arguments, **options):
  began = time.perf_counter()
  compiled = jax.jit(program, **options).lower(*arguments).compile()
  seconds = time.perf_counter() - began
  memory = compiled.memory_analysis()
  return {
    'seconds': round(seconds, 1),
    'arguments': memory.argument_size_in_bytes,
    'aliased': memory.alias_size_in_bytes,
    'temporary': memory.temp_size_in_bytes,
    'output': memory.output_size_in_bytes,
  }

ids = struct((64,), jnp.int32, 'B')
found = {
  'layers': model.config.num_layers,
  'stacks': [stack.repeats for stack in model.stacks],
  'weights': size(state),
  'cache': size(cache),
}
if sys.argv[1] == 'decode':
  found |= run(decode, state, ids, ids, cache, prefix, donate_argnums=3)
  found |= {'prefix': size(prefix)}
else:
  found |= run(forward, state, struct((8, 1024), jnp.int32, 'BT'))
print(json.dumps(found))
"""
# Of a v5e chip.
_HBM = 16 * 10**9


@pytest.mark.parametrize(
  'program', ['decode', pytest.param('forward', marks=pytest.mark.slow)]
)
def test_compiles_scanned_and_fits(program):
  pytest.importorskip('libtpu')
  done = subprocess.run(
    [sys.executable, '-c', _SCRIPT, program],
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
    check=True,
  )
  found = json.loads(done.stdout.strip().splitlines()[-1])
  print(program, json.dumps(found, indent=2))
  # One scan over the 23 pairs of layers: its time does not grow with depth.
  assert found['layers'] == 46
  assert found['stacks'] == [23]
  assert found['arguments'] >= found['weights']
  used = found['arguments'] + found['temporary'] + found['output']
  assert used - found['aliased'] < _HBM
  if program == 'decode':
    # The whole cache is updated in place.
    assert found['aliased'] >= found['cache']
    # And nothing of it is turned round or copied on the way.
    assert found['temporary'] < 10**7
