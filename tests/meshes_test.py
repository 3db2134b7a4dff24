"""A mesh changes no more than the order in which float32 is added up."""

import families
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from wcse_jax import sharding
from wcse_jax.checkpoints import hf
from wcse_jax.models import cache as caches


# What runs by default: `models/transformer_test.py`, `sampler/engine_test.py`.
pytestmark = pytest.mark.slow

_SIZES = [
  (data, fsdp, 8 // data // fsdp)
  for data in (1, 2, 4, 8)
  for fsdp in (1, 2, 4, 8)
  if data * fsdp <= 8
]
# Tokens that all rows begin with, and those before the first decode step: past
# the windows of 32.
_SHARED, _PROMPT, _LENGTH = 8, 44, 48


@nnx.jit
def _logits(model, tokens_BT):
  """Returns logits_BTV of one call, and those of prefill and decode steps."""
  B, T = tokens_BT.shape
  before = model.as_prefix(model.prefill(tokens_BT[:1, :_SHARED]))
  rows = model.prefill(tokens_BT[:, _SHARED:_PROMPT], before, _SHARED)
  cache = caches.insert(
    model.make_cache(B, T - _SHARED),
    rows,
    jnp.arange(B),
    jnp.arange(B),
    jnp.full(B, _PROMPT - _SHARED),
    keys_last=model.keys_last,
  )

  def step(cache, at):
    token_B = jnp.take(tokens_BT, at, axis=1)
    own_B = jnp.full(B, at - _SHARED)
    x_BD, cache = model.step(token_B, own_B, cache, before, _SHARED)
    return cache, model.logits(x_BD[:, None])[:, 0]

  _, steps_TBV = jax.lax.scan(step, cache, jnp.arange(_PROMPT, T))
  return model(tokens_BT), jnp.swapaxes(steps_TBV, 0, 1)


@pytest.fixture(scope='module')
def single(tmp_path_factory):
  """Returns (folder, tokens_BT, logits_BTV on one device) of a family."""
  made = {}

  def get(family):
    if family not in made:
      # As many heads of each kind as there are devices.
      row = {
        **families.ROWS[family],
        'num_key_value_heads': 8,
        'num_hidden_layers': 4,
        'layer_types': ['sliding_attention', 'full_attention'] * 2,
      }
      folder = families.write(
        tmp_path_factory.mktemp(family), row, families.tensors(row)
      )
      rng = np.random.default_rng(5)
      tokens_BT = rng.integers(3, 64, (8, _LENGTH), np.int32)
      tokens_BT[:, :_SHARED] = tokens_BT[:1, :_SHARED]
      whole_BTV, steps_BTV = _logits(hf.load(folder, scan=True), tokens_BT)
      made[family] = folder, tokens_BT, whole_BTV
      _close(steps_BTV, whole_BTV[:, _PROMPT:])
    return made[family]

  return get


def _close(got_BTV, want_BTV):
  want_BTV = np.asarray(want_BTV)
  limit = 1e-5 * np.abs(want_BTV).max()
  np.testing.assert_allclose(np.asarray(got_BTV), want_BTV, rtol=0, atol=limit)


@pytest.mark.parametrize('family', ['gemma2', 'gemma3'])
@pytest.mark.parametrize('sizes', _SIZES, ids=str)
def test_every_mesh_of_eight_gives_the_logits_of_one_device(
  family, sizes, single
):
  assert len(_SIZES) == 10
  folder, tokens_BT, want_BTV = single(family)
  data, fsdp, tensor = sizes
  mesh = sharding.make_mesh(f'data={data},fsdp={fsdp},tensor={tensor}')
  model = hf.load(folder, mesh=mesh, scan=True)
  V, D = model.embedding.shape
  held = model.embedding[...].sharding.shard_shape((V, D))
  assert held == (V // tensor, D // fsdp)
  whole_BTV, steps_BTV = _logits(
    model, sharding.place_batch(tokens_BT, 'BT', mesh)
  )
  assert whole_BTV.sharding.shard_shape(whole_BTV.shape) == (
    8 // data // fsdp,
    _LENGTH,
    V // tensor,
  )
  _close(whole_BTV, want_BTV)
  _close(steps_BTV, want_BTV[:, _PROMPT:])


def test_the_limit_is_one_that_wrong_logits_do_not_keep(single):
  _, _, want_BTV = single('gemma3')
  wrong_BTV = np.array(want_BTV)
  wrong_BTV[0, 0, 0] += 2e-5 * np.abs(wrong_BTV).max()
  with pytest.raises(AssertionError):
    _close(wrong_BTV, want_BTV)
  assert jax.device_count() == 8
