import dataclasses

import families
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references
from flax import nnx

from wcse_jax import sharding
from wcse_jax.checkpoints import hf
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


@nnx.jit
def _extend(model, tokens_BT, positions_BT, cache):
  """Returns (logits_BTV, cache)."""
  x_BTD, cache = model.extend(tokens_BT, positions_BT, cache)
  return model.logits(x_BTD), cache


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
  model = models(family, scan)
  B, T = tokens_BT.shape
  # Prompts of several lengths, filled up at the end with other tokens: what
  # they leave in the cache is overwritten or not seen.
  length_B1 = np.array([[40, 9, 25, 36, 1, 33, 40, 12]]).T
  prefix = int(length_B1.max())
  padded_BT = tokens_BT[:, :prefix].copy()
  padded_BT[np.arange(prefix) >= length_B1] = 0
  positions_BT = np.broadcast_to(np.arange(prefix), padded_BT.shape)
  cache = model.make_cache(B, T + 3)
  got_BTV, cache = _extend(model, padded_BT, positions_BT, cache)
  for b, length in enumerate(length_B1[:, 0]):
    np.testing.assert_allclose(
      got_BTV[b, :length], want_BTV[b, :length], rtol=0, atol=_LIMIT
    )
  for step in range(12):
    at_B1 = length_B1 + step
    next_B1 = np.take_along_axis(tokens_BT, at_B1, axis=1)
    got_BTV, cache = _extend(model, next_B1, at_B1, cache)
    want_B1V = np.take_along_axis(want_BTV, at_B1[..., None], axis=1)
    np.testing.assert_allclose(got_BTV, want_B1V, rtol=0, atol=_LIMIT)


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
  cache = nnx.jit(lambda model: model.make_cache(*tokens_BT.shape))(model)
  key_LBSKH = cache[0][0]['k']
  L, B, S, K, H = key_LBSKH.shape
  want = L, B // 2, S, K // 4, H
  assert key_LBSKH.sharding.shard_shape(key_LBSKH.shape) == want
  at_BT = np.broadcast_to(np.arange(S), (B, S))
  tokens_BT = sharding.place_batch(tokens_BT, 'BT', mesh)
  at_BT = sharding.place_batch(at_BT, 'BT', mesh)
  got_BTV, _ = _extend(model, tokens_BT, at_BT, cache)
  np.testing.assert_allclose(got_BTV, want_BTV, rtol=0, atol=_LIMIT)


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
