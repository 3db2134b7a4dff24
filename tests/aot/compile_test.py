"""The models that users will run, compiled for slices, on a machine without.

python -m pytest tests/aot/compile_test.py --slow -s

prints the figures of every row of docs/results/tpu.md.
"""

import dataclasses
import functools
import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from wcse_jax import errors, sharding
from wcse_jax.aot import compile as aot
from wcse_jax.aot import ideal, programs, slices, traffic
from wcse_jax.models import published
from wcse_jax.sampler import programs as sampling


ROOT = pathlib.Path(__file__).parents[2]
SMALL = aot.CompileConfig(
  model='gemma3-270m',
  topology='v5e:1x1',
  slots=8,
  prefix_length=256,
  max_length=128,
  largest_slots=False,
)
# The keys that scripts rely on.
CONTRACT = {
  'model',
  'program',
  'topology',
  'chips',
  'fits',
  'bytes_per_chip',
  'flops',
  'bytes_accessed',
  'ideal_bytes',
  'bytes_ratio',
  'estimated_seconds',
  'roofline_seconds',
  'tokens_per_second_per_chip',
  'slots',
  'compile_seconds',
}
slow = pytest.mark.slow
TARGETS = [
  ('gemma2-9b', 'v5e:2x4'),
  ('gemma2-27b', 'v5e:4x4'),
  pytest.param('gemma2-27b', 'v6e:2x4', marks=slow),
  pytest.param('gemma3-27b', 'v5e:4x4', marks=slow),
  pytest.param('gemma3-27b', 'v6e:2x4', marks=slow),
]


@functools.cache
def _row(model: str, topology: str, program: str = 'decode'):
  pytest.importorskip('libtpu')
  return aot.compile(
    aot.CompileConfig(
      model=model,
      topology=topology,
      program=program,
      fill=0.5,
      largest_slots=False,
    )
  )


@pytest.mark.parametrize(('model', 'topology'), TARGETS)
def test_decode_fits_and_moves_little_more_than_it_must(model, topology):
  found = _row(model, topology)
  print(json.dumps(found, indent=2))
  assert set(found) >= CONTRACT
  assert found['fits']
  assert found['slots'] == 64
  assert found['attention'] == 'pallas'
  assert 1 <= found['bytes_ratio'] <= 1.10
  ratio = found['bytes_accessed'] / found['ideal_bytes']
  assert found['bytes_ratio'] == pytest.approx(ratio, abs=1e-4)
  assert found['estimated_seconds'] <= 1.25 * found['roofline_seconds']
  memory = found['bytes_per_chip']
  assert memory['total'] < memory['limit']
  assert memory['total'] > memory['weights'] + memory['cache']
  # Nothing of the cache is turned round or copied on the way.
  assert memory['temporary'] < 0.5 * memory['cache']
  assert found['estimated_seconds'] == max(found['seconds'].values())
  rate = found['tokens_per_second_per_chip'] * found['chips']
  assert rate * found['estimated_seconds'] == pytest.approx(64)


def test_memory_and_products_are_those_of_the_model():
  found = _row('gemma2-9b', 'v5e:2x4')
  c = published.configs()['gemma2-9b']
  memory = found['bytes_per_chip']
  # Of the norms every chip has all.
  assert memory['weights'] == pytest.approx(2 * c.parameters() / 8, rel=1e-3)
  per_token = 2 * (c.parameters() - c.vector_parameters())
  keys = 4 * c.num_heads * c.head_dim * c.num_layers * (1000 + 512)
  assert found['flops'] == pytest.approx(64 * (per_token + keys) / 8, rel=0.01)
  usd = 1.20 / 3600 * 8 * found['estimated_seconds'] * 512 / 64 * 1e6
  assert found['usd_per_million_samples'] == pytest.approx(usd)
  assert found['price']['date']


@slow
@pytest.mark.parametrize(('model', 'topology'), [t for t in TARGETS])
def test_prefill_fits(model, topology):
  found = _row(model, topology, 'prefill')
  print(json.dumps(found, indent=2))
  assert found['fits']
  assert found['bytes_ratio'] >= 1
  c = published.configs()[model]
  per_token = 2 * (c.parameters() - c.embedding_parameters())
  assert found['flops'] * found['chips'] >= 0.9 * 8 * 512 * per_token


def test_too_few_bytes_are_a_fault(monkeypatch):
  pytest.importorskip('libtpu')
  count = traffic.count

  def less(text, devices):
    found = count(text, devices)
    found.loops[0].round.bytes *= 0.5
    return found

  monkeypatch.setattr(traffic, 'count', less)
  with pytest.raises(aot.CountError, match='the count is wrong'):
    aot.compile(SMALL)


@slow
def test_what_does_not_fit_says_what_would():
  pytest.importorskip('libtpu')
  config = dataclasses.replace(SMALL, model='gemma2-9b', largest_slots=True)
  found = aot.compile(config)
  assert not found['fits']
  assert found['bytes_accessed'] is None
  assert found['largest_slots'] == 0
  memory = found['bytes_per_chip']
  assert memory['weights'] > memory['limit']


@slow
def test_largest_number_of_slots_is_near_the_limit():
  pytest.importorskip('libtpu')
  config = dataclasses.replace(
    SMALL, model='gemma2-2b', max_length=1024, slots=8, largest_slots=True
  )
  found = aot.compile(config)
  best = found['largest_slots']
  assert best > 8
  again = dataclasses.replace(config, slots=best, largest_slots=False)
  memory = aot.compile(again)['bytes_per_chip']
  assert 0.8 * memory['limit'] < memory['total'] <= memory['limit']


@slow
def test_int8_and_every_way_to_draw_compile():
  pytest.importorskip('libtpu')
  for more in (
    {'weights': 'int8'},
    {'top_k': 3, 'top_p': 0.9, 'min_p': 0.05},
    {'top_p': 0.9},
    {'temperature': 0.0},
  ):
    found = aot.compile(dataclasses.replace(SMALL, **more))
    assert found['fits']


@slow
@pytest.mark.parametrize('name', slices.CHIPS)
def test_every_chip_compiles(name):
  pytest.importorskip('libtpu')
  sides = '1x1' if slices.CHIPS[name].axes == 2 else '1x1x1'
  topology = f'{name}:{sides}'
  found = aot.compile(dataclasses.replace(SMALL, topology=topology))
  assert found['fits']
  assert found['chips'] == 1
  count = slices.CHIPS[name].devices
  mesh = f'data={count},fsdp=1,tensor=1'
  assert found['mesh'] == mesh


@slow
def test_what_the_compiler_writes_is_what_it_prints():
  pytest.importorskip('libtpu')
  mesh = sharding.make_mesh(
    'data=1', programs.devices(slices.parse(SMALL.topology))
  )
  config = published.configs()[SMALL.model]
  maker = programs.Programs(config, mesh, dtype='bfloat16', weights='')
  done = maker.decode(SMALL.shape(8))
  printed = traffic.count(done.executable.as_text()).loops[0].round
  written = traffic.count(done.text).loops[0].round
  assert written.bytes == printed.bytes
  assert written.flops == printed.flops


@slow
def test_arguments_lie_where_the_sampler_puts_them():
  pytest.importorskip('libtpu')
  pieces = slices.parse('v5e:2x2')
  mesh = sharding.make_mesh('data=2,tensor=2', programs.devices(pieces))
  config = published.configs()['gemma2-2b']
  maker = programs.Programs(config, mesh, dtype='bfloat16', weights='')
  shape = programs.Shape(8, 256, 128, 64, 8, (0.7, 0, 1.0, 0.0), 1.0)
  made = sampling.empty.lower(
    maker._weights, graph=maker._graph, slots=8, places=128, limit=64
  ).compile()
  tokens = jax.ShapeDtypeStruct((256,), jnp.int32)
  prefix = sampling.prefix.lower(
    maker._weights, tokens, graph=maker._graph
  ).compile()
  for got, want in (
    (made.output_shardings, maker._state(shape)),
    (prefix.output_shardings, maker._prefix(shape)),
  ):
    for place, leaf in zip(
      jax.tree.leaves(got), jax.tree.leaves(want), strict=True
    ):
      assert place.is_equivalent_to(leaf.sharding, leaf.ndim)


@pytest.mark.parametrize(
  ('fields', 'start'),
  [
    ({'program': 'test'}, 'program: wanted prefill or decode or train; '),
    ({'program': 'train', 'remat': 'x'}, 'remat: wanted one of none, dots'),
    ({'program': 'train', 'weights': 'int8'}, 'weights: wanted nothing; '),
    ({'program': 'train', 'attention': 'xla'}, 'attention: wanted one of'),
    (
      {'program': 'train', 'batch_size': 6, 'accumulate': 4},
      'accumulate: wanted a divisor of batch_size=6; got 4',
    ),
    ({'model': 'gemma9'}, 'model: wanted a checkpoint or one of gemma-2b, '),
    ({'topology': 'v1:2x2'}, 'topology: wanted CHIP:SIDES'),
    ({'dtype': 'float16'}, 'dtype: wanted bfloat16 or float32; '),
    ({'weights': 'int4'}, 'weights: wanted nothing or int8; '),
    ({'fill': 0.0}, 'fill: wanted a share in (0, 1]; '),
    ({'slots': 0}, 'slots: wanted a number >= 1; '),
    ({'top_p': 0.0}, 'top_p: wanted '),
    ({'max_length': 40_000}, 'max_length: 40000 positions behind a prefix '),
  ],
)
def test_bad_fields_are_named(fields, start):
  with pytest.raises(errors.InputError) as caught:
    aot.compile(dataclasses.replace(SMALL, **fields))
  assert str(caught.value).startswith(start)
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
  ('fields', 'start'),
  [
    (
      {'topology': 'v5e:2x2', 'mesh': 'data=4', 'slots': 6},
      'slots: wanted a multiple of data x fsdp = 4',
    ),
    (
      {'topology': 'v5e:2x2', 'mesh': 'tensor=4'},
      'mesh: the program has 1 along K, which ',
    ),
    ({'topology': 'v5e:2x2', 'mesh': 'tensor=3'}, "mesh: 'tensor=3' wants 3"),
    ({'topology': 'v5e:3x5'}, 'topology: wanted a slice that libtpu knows'),
  ],
)
def test_what_does_not_divide_is_named(fields, start):
  pytest.importorskip('libtpu')
  with pytest.raises(errors.InputError) as caught:
    aot.compile(dataclasses.replace(SMALL, **fields))
  assert str(caught.value).startswith(start)
  assert '\n' not in str(caught.value)


def test_without_libtpu_the_extra_is_named(monkeypatch):
  monkeypatch.setitem(sys.modules, 'libtpu', None)
  with pytest.raises(errors.InputError, match=r'wcse-jax\[aot\]'):
    aot.compile(SMALL)


@pytest.mark.parametrize(
  ('model', 'topology', 'want'),
  [
    ('gemma2-9b', 'v5e:2x4', 'data=1,fsdp=1,tensor=8'),
    ('gemma2-9b', 'v5e:4x4', 'data=2,fsdp=1,tensor=8'),
    ('gemma3-1b', 'v5e:2x2', 'data=4,fsdp=1,tensor=1'),
    # 55 GB do not fit four chips of 16 GB, split into 4.
    ('gemma2-27b', 'v5e:2x2', 'data=1,fsdp=1,tensor=4'),
    # 16 GB with one head of keys on chips of 16 GB.
    ('gemma-7b', 'v5e:1x1', 'data=1,fsdp=1,tensor=1'),
    ('llama3.1-70b', 'v5e:4x4', 'data=1,fsdp=2,tensor=8'),
  ],
)
def test_mesh_is_chosen(model, topology, want):
  c = published.configs()[model]
  pieces = slices.parse(topology)
  assert programs.choose_mesh(c, pieces, 2 * c.parameters()) == want


def test_command_prints_one_line_for_bad_input():
  done = subprocess.run(
    [
      sys.executable,
      'launch/compile.py',
      '--config.topology=v5e:9',
    ],
    cwd=ROOT,
    env={**os.environ, 'PYTHONPATH': str(ROOT)},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 2
  (line,) = done.stderr.strip().splitlines()
  assert 'topology: wanted 2 sides, as v5e:4x4' in line


def test_ideal_is_told_of_the_whole_slice():
  found = _row('gemma2-9b', 'v5e:2x4')
  c = published.configs()['gemma2-9b']
  places = 2 * c.num_kv_heads * c.head_dim * c.num_layers * 2
  want = 2 * c.parameters() + places * (64 * 256 + 1000) + ideal.logits(c, 64)
  assert found['ideal_bytes'] == pytest.approx(want / 8)
