import contextlib
import dataclasses
import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wcse_jax.kernels import decode_gpu, gpu_parts


# The layer of the stack that is asked for.
_LAYER = 1


# Compiled once for cases of one shape.
_attend = jax.jit(
  functools.partial(decode_gpu.attend, interpret=True), static_argnames='layer'
)


@dataclasses.dataclass
class _Case:
  """Inputs of `attend`; in the cache lies NaN beyond what is filled."""

  x: np.ndarray
  angle: np.ndarray
  gains: tuple[np.ndarray, ...]
  k: np.ndarray
  v: np.ndarray
  place: np.ndarray
  filled: np.ndarray
  prefix: tuple[np.ndarray, np.ndarray, np.ndarray] | None
  layer: gpu_parts.Layer

  @property
  def arrays(self):
    turn = np.sin(self.angle), np.cos(self.angle)
    turn = tuple(t.astype(np.float32) for t in turn)
    return (
      self.x,
      turn,
      self.gains,
      self.k,
      self.v,
      jnp.int32(_LAYER),
      self.place,
      self.filled,
      self.prefix,
    )

  def run(self):
    return _attend(*self.arrays, layer=self.layer)


def _case(
  *,
  B: int = 3,
  K: int = 2,
  G: int = 3,
  S: int = 48,
  H: int = 16,
  U: int = 0,
  norm: bool = False,
  dtype='float32',
  filled=None,
  seed: int = 0,
  **layer,
) -> _Case:
  rng = np.random.default_rng(seed)
  layer = gpu_parts.Layer(queries=G, scale=0.3, **layer)
  behind = 0
  if layer.fresh:
    behind = 1 if layer.keys_as_values else 2
  if filled is None:
    filled = rng.integers(1, S + 1, B)
    filled[0], filled[-1] = 1, S
  filled = np.asarray(filled, np.int32)
  # In a full ring the new token may go anywhere.
  place = np.where(filled == S, rng.integers(0, S, B), filled - 1)

  def random(*shape):
    return rng.normal(size=shape).astype(jnp.dtype(dtype))

  k, v = random(2, B, K, S, H), random(2, B, K, S, H)
  unseen_BS = np.arange(S)[None] >= filled[:, None]
  if layer.fresh:
    unseen_BS |= np.arange(S)[None] == place[:, None]
  for x in (k, v):
    x[:] = np.where(unseen_BS[None, :, None, :, None], np.nan, x)
  gains = ()
  if norm:
    gains = tuple(random(H) for _ in range(2 if layer.fresh else 1))
  prefix = None
  if U:
    low = rng.integers(0, U, B).astype(np.int32)
    prefix = random(K, U, H), random(K, U, H), low
  return _Case(
    random(B, K, G + behind, H),
    rng.uniform(0, 6, (B, H // 2)),
    gains,
    k,
    v,
    place.astype(np.int32),
    filled,
    prefix,
    layer,
  )


def _norm(x, gain, layer):
  x = x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + layer.eps)
  if gain is None:
    return x
  return x * (gain + layer.plus_one)


def _turn(x, angle):
  a, b = np.split(x, 2, axis=-1)
  sin, cos = np.sin(angle), np.cos(angle)
  return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def _want(case: _Case):
  """Returns (out_BKGH, keys and values of the layer), in float64, by loops."""
  layer, G = case.layer, case.layer.queries
  x = case.x.astype(np.float64)
  k, v = (a[_LAYER].astype(np.float64) for a in (case.k, case.v))
  B, K, _, H = x.shape
  gains = [g.astype(np.float64) for g in case.gains]
  out = np.zeros((B, K, G, H))
  for b in range(B):
    for h in range(K):
      if layer.fresh:
        key = x[b, h, G]
        value = key if layer.keys_as_values else x[b, h, G + 1]
        if gains:
          key = _norm(key, gains[1], layer)
        k[b, h, case.place[b]] = _turn(key, case.angle[b])
        if layer.v_norm:
          value = _norm(value, None, layer)
        v[b, h, case.place[b]] = value
      keys, values = (a[b, h, : case.filled[b]] for a in (k, v))
      if case.prefix is not None:
        pk, pv, low = case.prefix
        keys = np.concatenate([pk[h, low[b] :], keys])
        values = np.concatenate([pv[h, low[b] :], values])
      for g in range(G):
        query = x[b, h, g]
        if gains:
          query = _norm(query, gains[0], layer)
        logits = keys @ _turn(query, case.angle[b]) * layer.scale
        if layer.softcap is not None:
          logits = layer.softcap * np.tanh(logits / layer.softcap)
        odds = np.exp(logits - logits.max())
        out[b, h, g] = odds / odds.sum() @ values
  return out, k, v


@pytest.mark.parametrize(
  'shape',
  [
    {},
    {'U': 200, 'norm': True, 'plus_one': True},
    # More than one part of a slot, and of a prefix of many rows.
    {'B': 2, 'K': 1, 'S': 200, 'U': 70, 'softcap': 2.0},
    {'B': 70, 'K': 1, 'G': 4, 'S': 40, 'U': 130},
    # What other layers have written.
    {'fresh': False, 'U': 20, 'norm': True},
    {'keys_as_values': True, 'v_norm': True, 'norm': True},
    # More query heads than the least number of rows.
    {'B': 2, 'K': 1, 'G': 20, 'U': 20},
  ],
  ids=str,
)
def test_is_the_reference(shape):
  case = _case(**shape)
  out, k, v = case.run()
  want, want_k, want_v = _want(case)
  np.testing.assert_allclose(out, want, atol=2e-5)
  for got, before, layer in ((k, case.k, want_k), (v, case.v, want_v)):
    np.testing.assert_allclose(got[_LAYER], layer, atol=1e-5)
    np.testing.assert_array_equal(got[0], before[0])


def test_in_bfloat16_it_is_the_reference_within_rounding():
  case = _case(H=64, U=100, norm=True, dtype='bfloat16')
  out, *_ = case.run()
  assert out.dtype == jnp.bfloat16
  want = _want(case)[0]
  gap = np.linalg.norm(np.asarray(out, np.float64) - want)
  assert gap < 0.01 * np.linalg.norm(want)


def test_a_slot_does_not_depend_on_the_others():
  case = _case(B=4, K=1, S=200, U=40, filled=(5, 200, 1, 77))
  whole = case.run()[0]
  for b in range(4):
    other = _case(B=4, K=1, S=200, U=40, seed=b + 1)
    for name in ('x', 'angle', 'place', 'filled'):
      getattr(other, name)[b] = getattr(case, name)[b]
    for name in ('k', 'v'):
      getattr(other, name)[:, b] = getattr(case, name)[:, b]
    low = other.prefix[2]
    low[b] = case.prefix[2][b]
    other.prefix = *case.prefix[:2], low
    np.testing.assert_array_equal(other.run()[0][b], whole[b])


def test_parts_keep_the_device_busy():
  assert decode_gpu.split(64, 1, 512) == 4
  assert decode_gpu.split(64, 4, 512) == 2
  assert decode_gpu.split(64, 1, 128) == 2
  assert decode_gpu.split(256, 8, 512) == 1


# Of jax 0.12; see docs/design/kernels.md.
@pytest.mark.filterwarnings('ignore:The Pallas Triton backend is deprecated')
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('width', [64, 128, 256, 512])
def test_lowers_for_cuda_without_a_device(dtype, width):
  case = _case(K=1, H=width, U=33, norm=True, dtype=dtype, softcap=50.0)
  run = jax.jit(functools.partial(decode_gpu.attend, layer=case.layer))
  with _for_a_gpu():
    lowered = run.trace(*case.arrays).lower(lowering_platforms=('cuda',))
  assert lowered.as_text().count('xla.gpu.triton') == 3


def _for_a_gpu():
  """Names the GPU that is lowered for, which jax asks for from 0.12 on."""
  kind = getattr(jax.sharding, 'AbstractDevice', None)
  if kind is None or 'platform' not in inspect.signature(kind).parameters:
    return contextlib.nullcontext()
  device = kind('NVIDIA H100 80GB HBM3', None, 'gpu')
  mesh = jax.sharding.AbstractMesh((), (), abstract_device=device)
  return jax.sharding.use_abstract_mesh(mesh)
