import dataclasses
import functools

import families
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references
from flax import nnx

from wcse_jax import sharding
from wcse_jax.checkpoints import hf
from wcse_jax.models import cache as caches
from wcse_jax.models import hf_config, transformer


# Nats: what float32 leaves of two orders of summation, over 56 positions.
_LIMIT = 5e-5


def _each(*quick):
  """Returns the families; those that are not quick are slow together."""
  return [
    pytest.param(f, marks=() if f in quick else pytest.mark.slow)
    for f in families.ROWS
  ]


_forward = nnx.jit(lambda model, tokens_BT: model(tokens_BT))


@functools.partial(nnx.jit, static_argnames='start')
def _prefill(model, tokens_BT, prefix, *, start):
  return model.prefill(tokens_BT, prefix, start)


@functools.partial(nnx.jit, static_argnames='start')
def _step(model, token_B, own_B, cache, prefix, *, start):
  """Returns (logits_BV, cache)."""
  x_BD, cache = model.step(token_B, own_B, cache, prefix, start)
  return model.logits(x_BD[:, None])[:, 0], cache


@nnx.jit
def _insert(model, cache, rows, slots_I, rows_I, length_I):
  return caches.insert(
    cache, rows, slots_I, rows_I, length_I, keys_last=model.keys_last
  )


def _decoded(model, tokens_BT, length_B, steps, *, start, slots, places):
  """Yields (own index_B, logits_BV) of decode steps behind prompts.

  Row b's prompt are its first `length_B[b]` tokens; it lies in slot
  `slots[b]`.  All rows begin with the same `start` tokens, which are prefilled
  once.
  """
  B = len(length_B)
  prefix = None
  if start:
    rows = _prefill(model, tokens_BT[:1, :start], None, start=0)
    prefix = nnx.jit(lambda model, rows: model.as_prefix(rows))(model, rows)
  own_B = length_B - start
  most = int(own_B.max())
  # Filled up at the end with other tokens: what they leave is overwritten, or
  # not seen.
  padded_BT = tokens_BT[:, start : start + most].copy()
  padded_BT[np.arange(most) >= own_B[:, None]] = 0
  rows = _prefill(model, padded_BT, prefix, start=start)
  count = max(slots) + 1
  cache = nnx.jit(lambda model: model.make_cache(count, places))(model)
  # A slot that does not exist is none.
  cache = _insert(
    model,
    cache,
    rows,
    np.array([*slots, count]),
    np.array([*range(B), 0]),
    np.array([*own_B, 1]),
  )
  token_B, at_B = np.zeros(count, np.int32), np.zeros(count, np.int32)
  for step in range(steps):
    at_B[list(slots)] = own_B + step
    token_B[list(slots)] = np.take_along_axis(
      tokens_BT, (length_B + step)[:, None], axis=1
    )[:, 0]
    logits_BV, cache = _step(model, token_B, at_B, cache, prefix, start=start)
    yield length_B + step, np.asarray(logits_BV)[list(slots)]


@pytest.fixture(scope='module')
def models(hf_folders):
  """Returns the small float32 model of (family, scan), loaded once."""
  loaded = {}

  def get(family, scan):
    if (family, scan) not in loaded:
      folder = hf_folders[family, 'float32']
      loaded[family, scan] = hf.load(folder, scan=scan)
    return loaded[family, scan]

  return get


@pytest.fixture(scope='module')
def whole(models):
  """Returns (tokens_BT, logits_BTV) of the unrolled model of a family."""
  # Past the windows of 32, and more than the mesh splits.
  tokens_BT = np.random.default_rng(3).integers(3, 64, (8, 56), np.int32)
  computed = {}

  def get(family):
    if family not in computed:
      logits_BTV = _forward(models(family, False), tokens_BT)
      computed[family] = tokens_BT, np.asarray(logits_BTV)
    return computed[family]

  return get


# The same numbers by every way through the model.


@pytest.mark.parametrize('family', _each('gemma3'))
def test_scanned_equals_unrolled(family, models, whole):
  tokens_BT, want_BTV = whole(family)
  model = models(family, True)
  # Something is scanned, or the test would not see it.
  assert max(stack.repeats for stack in model.stacks) > 1
  got_BTV = _forward(model, tokens_BT)
  np.testing.assert_allclose(got_BTV, want_BTV, rtol=0, atol=_LIMIT)


@pytest.mark.parametrize(
  'scan', [False, pytest.param(True, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize('family', _each('gemma3'))
def test_prefill_and_decode_equal_the_whole(family, scan, models, whole):
  tokens_BT, want_BTV = whole(family)
  length_B = np.array([40, 9, 25, 36, 1, 33, 40, 12])
  found = _decoded(
    models(family, scan),
    tokens_BT,
    length_B,
    12,
    start=0,
    slots=(3, 0, 7, 5, 8, 1, 2, 6),
    places=54,
  )
  for at_B, got_BV in found:
    want_B1V = np.take_along_axis(want_BTV, at_B[:, None, None], axis=1)
    np.testing.assert_allclose(got_BV, want_B1V[:, 0], rtol=0, atol=_LIMIT)


@pytest.mark.parametrize(
  'scan', [False, pytest.param(True, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize('family', _each('gemma2'))
@pytest.mark.parametrize('start', [7, 38])
def test_a_shared_prefix_equals_the_whole(family, scan, start, models, whole):
  # Both sides of the windows of 32: within sight to the end, and not.
  tokens_BT, _ = whole(family)
  tokens_BT = tokens_BT.copy()
  tokens_BT[:, :start] = tokens_BT[:1, :start]
  model = models(family, scan)
  want_BTV = np.asarray(_forward(model, tokens_BT))
  length_B = start + np.array([4, 1, 7, 2, 6, 6, 3, 5])
  found = _decoded(
    model,
    tokens_BT,
    length_B,
    10,
    start=start,
    slots=(7, 6, 5, 4, 3, 2, 1, 0),
    places=56 - start,
  )
  for at_B, got_BV in found:
    want_B1V = np.take_along_axis(want_BTV, at_B[:, None, None], axis=1)
    np.testing.assert_allclose(got_BV, want_B1V[:, 0], rtol=0, atol=_LIMIT)


def _spread(model, mesh):
  """Asserts that vocabulary and width are split as the mesh says."""
  table_VD = model.embedding[...]
  V, D = table_VD.shape
  want = V // mesh.shape['tensor'], D // mesh.shape['fsdp']
  assert table_VD.sharding.shard_shape((V, D)) == want


@pytest.mark.parametrize('family', _each('gemma3'))
def test_sharded_forward_equals_one_device(family, hf_folders, whole):
  tokens_BT, want_BTV = whole(family)
  # The one key/value head of multi-query attention cannot be split.
  single = families.ROWS[family]['num_key_value_heads'] == 1
  text = 'data=4,fsdp=2' if single else 'data=2,fsdp=2,tensor=2'
  mesh = sharding.make_mesh(text)
  model = hf.load(hf_folders[family, 'float32'], mesh=mesh)
  _spread(model, mesh)
  got_BTV = _forward(model, sharding.place_batch(tokens_BT, 'BT', mesh))
  np.testing.assert_allclose(got_BTV, want_BTV, rtol=0, atol=_LIMIT)


def test_sharded_cache_equals_one_device(hf_folders, whole):
  tokens_BT, want_BTV = whole('gemma3')
  mesh = sharding.make_mesh('fsdp=2,tensor=4')
  model = hf.load(hf_folders['gemma3', 'float32'], mesh=mesh, scan=True)
  _spread(model, mesh)
  cache = nnx.jit(lambda model: model.make_cache(8, 48))(model)
  part = cache[0][0]
  for whole_array in part.values():
    L, B, K, S, H = whole_array.shape
    want = L, B // 2, K // 4, S, H
    assert whole_array.sharding.shard_shape(whole_array.shape) == want
  # Of the window's 32 places no more are held.
  assert S == 32
  length_B = np.array([40, 9, 25, 36, 3, 33, 40, 12])
  found = _decoded(
    model, tokens_BT, length_B, 8, start=0, slots=tuple(range(8)), places=48
  )
  for at_B, got_BV in found:
    want_B1V = np.take_along_axis(want_BTV, at_B[:, None, None], axis=1)
    np.testing.assert_allclose(got_BV, want_B1V[:, 0], rtol=0, atol=_LIMIT)


@pytest.mark.parametrize('family', _each('gemma4_e'))
def test_packed_sequences_do_not_see_each_other(family, models, whole):
  tokens_BT, want_BTV = whole(family)
  half = tokens_BT.shape[1] // 2
  got_BTV = nnx.jit(transformer.Transformer.__call__)(
    models(family, False),
    np.tile(tokens_BT[:, :half], (1, 2)),
    positions_BT=np.tile(np.arange(half), (len(tokens_BT), 2)),
    segments_BT=np.tile(np.repeat([1, 2], half), (len(tokens_BT), 1)),
  )
  for part_BTV in (got_BTV[:, :half], got_BTV[:, half:]):
    np.testing.assert_allclose(
      part_BTV, want_BTV[:, :half], rtol=0, atol=_LIMIT
    )


def test_bfloat16_stays_close_to_float32(hf_folders, whole):
  tokens_BT, want_BTV = whole('gemma3')
  folder = hf_folders['gemma3', 'bfloat16']
  model = hf.load(folder, dtype=jnp.bfloat16, scan=True)
  assert model.embedding[...].dtype == jnp.bfloat16
  got_BTV = _forward(model, tokens_BT)
  assert got_BTV.dtype == jnp.float32
  divergence_BT = references.divergence(want_BTV, np.asarray(got_BTV))
  assert 0 < divergence_BT.mean() <= 1e-2


@pytest.mark.parametrize(
  ('kinds', 'want'),
  [
    ('LGLGLG', [(0, 2, 3)]),
    ('LGLGL', [(0, 2, 2), (4, 1, 1)]),
    ('LLLLLG' * 4 + 'LL', [(0, 6, 4), (24, 1, 2)]),
    ('LLGLL', [(0, 1, 2), (2, 1, 1), (3, 1, 2)]),
    ('GGLLL', [(0, 1, 2), (2, 1, 3)]),
    ('GGGG', [(0, 1, 4)]),
    ('LLLG', [(0, 1, 3), (3, 1, 1)]),
    ('L', [(0, 1, 1)]),
  ],
)
def test_layers_are_stacked_in_whole_groups(kinds, want, hf_rows):
  names = tuple({'L': 'local', 'G': 'global'}[kind] for kind in kinds)
  shape = dataclasses.replace(
    hf_config.from_hf(hf_rows['gemma3']),
    num_layers=len(kinds),
    layer_kinds=names,
  )
  for scan, stacks in (
    (True, want),
    (False, [(i, 1, 1) for i in range(len(kinds))]),
  ):
    model = _shapes(shape, scan)
    got = [(s.first, len(s.blocks), s.repeats) for s in model.stacks]
    assert got == stacks
    # Every layer is there once, with its own kind.
    layers = {
      stack.first + place + len(stack.blocks) * i: block.layer.kind
      for stack in model.stacks
      for place, block in enumerate(stack.blocks)
      for i in range(stack.repeats)
    }
    assert layers == dict(enumerate(names))


def _shapes(shape, scan):
  return nnx.eval_shape(
    lambda: transformer.Transformer(shape, rngs=nnx.Rngs(0), scan=scan)
  )


@pytest.mark.parametrize('scan', [False, True])
@pytest.mark.parametrize('family', families.ROWS)
@pytest.mark.parametrize('tied', [False, True])
def test_has_the_parameters_that_its_config_counts(family, scan, tied, hf_rows):
  row = {**hf_rows[family], 'tie_word_embeddings': tied}
  shape = hf_config.from_hf(row)
  params = jax.tree.leaves(nnx.state(_shapes(shape, scan), nnx.Param))
  assert sum(leaf.size for leaf in params) == shape.parameters()
