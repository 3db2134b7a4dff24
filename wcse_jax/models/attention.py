"""Grouped-query attention and rotary positions.

Dimension letters: see `wcse_jax/__init__.py`.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from wcse_jax.models import config


# Finite, so that a row with nothing to attend to does not become NaN.
_MASKED = jnp.finfo(jnp.float32).min
# Pairs of query and key whose logits are held at once, of one head and row.
_PAIRS = 2**22


@dataclasses.dataclass(frozen=True)
class Source:
  """Keys and values that queries may attend to.

  Attributes:
    k: keys, rotated; its axes are `k_axes`.
    v: values; its axes are `v_axes`.
    mask: mask_BTS, true where a query may attend; B and T may be 1; None: all.
    k_axes: `BSKH`, `BKSH`, `BKHS`, or `KSH` of keys that all rows share.
    v_axes: `BKHS`, `BKSH` or `KSH` likewise.
  """

  k: jax.Array
  v: jax.Array
  mask: jax.Array | None = None
  k_axes: str = 'BSKH'
  v_axes: str = 'BKHS'

  @property
  def positions(self) -> int:
    return self.k.shape[self.k_axes.index('S')]


def attend(
  q_BTKGH: jax.Array,
  sources: Sequence[Source],
  *,
  softcap: float | None = None,
) -> jax.Array:
  """Returns out_BTKGH, the attention of each query over all sources together.

  In the widest dtype of the values.

  One softmax over the sources side by side: of those that all rows share the
  keys are read once for the batch.

  Args:
    q_BTKGH: queries, rotated and scaled.
    sources: what they may attend to; none of it twice.
    softcap: bound on |logits| (nats) before the softmax; None for no bound.

  Raises:
    ValueError: if a mask does not fit the queries and keys.

  Source: Gemma 2 report, arXiv:2408.00118, section 2 (soft cap); Hydragen,
  arXiv:2402.05099, section 3 (shared keys apart from a row's own).
  """
  B, T = q_BTKGH.shape[:2]
  for source in sources:
    want = (B, T, source.positions)
    got = want if source.mask is None else source.mask.shape
    if len(got) != 3 or any(g not in (w, 1) for g, w in zip(got, want)):
      raise ValueError(f'mask must have shape {want}; got {got}.')
  whole = sum(source.positions for source in sources)
  block = _query_block(T, T * whole)
  if block == T:
    return _attend(q_BTKGH, sources, softcap)

  def part(start):
    def cut(mask):
      if mask is None or mask.shape[1] == 1:
        return mask
      return jax.lax.dynamic_slice_in_dim(mask, start, block, axis=1)

    return _attend(
      jax.lax.dynamic_slice_in_dim(q_BTKGH, start, block, axis=1),
      [dataclasses.replace(s, mask=cut(s.mask)) for s in sources],
      softcap,
    )

  # A backward pass would else keep the logits of all blocks.
  parts = jax.lax.map(jax.checkpoint(part), jnp.arange(0, T, block))
  return jnp.moveaxis(parts, 0, 1).reshape(q_BTKGH.shape)


def _query_block(queries: int, pairs: int) -> int:
  """Returns how many queries are worked on at once, so that logits stay small.

  A divisor of `queries`; all of them where their pairs with keys are few.
  """
  if pairs <= _PAIRS:
    return queries
  fits = max(1, _PAIRS * queries // pairs)
  return max(d for d in range(1, fits + 1) if queries % d == 0)


def _attend(q_BTKGH, sources, softcap) -> jax.Array:
  parts = []
  for source in sources:
    # float32 up to the softmax: bfloat16 logits change which token is sampled.
    logits_BKGTS = _logits(q_BTKGH, source)
    if softcap is not None:
      logits_BKGTS = softcap * jnp.tanh(logits_BKGTS / softcap)
    if source.mask is not None:
      logits_BKGTS = jnp.where(
        source.mask[:, None, None], logits_BKGTS, _MASKED
      )
    parts.append(logits_BKGTS)
  logits = parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=-1)
  probs = jax.nn.softmax(logits)
  dtype = jnp.result_type(*[source.v.dtype for source in sources])
  # Parts are added before they are rounded.
  wide = dtype if len(sources) == 1 else jnp.float32
  out, first = 0, 0
  for source in sources:
    probs_BKGTS = probs[..., first : first + source.positions]
    first += source.positions
    out += _mixed(probs_BKGTS.astype(source.v.dtype), source, wide)
  return out.astype(dtype)


def _logits(q_BTKGH, source: Source) -> jax.Array:
  q_BTKGH = q_BTKGH.astype(source.k.dtype)
  if source.k_axes not in ('BKHS', 'BKSH'):
    return jnp.einsum(
      f'BTKGH,{source.k_axes}->BKGTS',
      q_BTKGH,
      source.k,
      preferred_element_type=jnp.float32,
    )
  # The queries come first, which einsum leaves open: the cache as the second
  # factor is read as it lies.
  B, T, K, G, H = q_BTKGH.shape
  q_BKXH = jnp.transpose(q_BTKGH, (0, 2, 3, 1, 4)).reshape(B, K, G * T, H)
  logits_BKXS = jax.lax.dot_general(
    q_BKXH,
    source.k,
    (((3,), (source.k_axes.index('H'),)), ((0, 1), (0, 1))),
    preferred_element_type=jnp.float32,
  )
  return logits_BKXS.reshape(B, K, G, T, -1)


def _mixed(probs_BKGTS, source: Source, dtype) -> jax.Array:
  """Returns out_BTKGH, the values weighted."""
  if source.v_axes != 'BKSH':
    return jnp.einsum(
      f'BKGTS,{source.v_axes}->BTKGH',
      probs_BKGTS,
      source.v,
      preferred_element_type=dtype,
    )
  B, K, G, T, S = probs_BKGTS.shape
  out_BKXH = jax.lax.dot_general(
    probs_BKGTS.reshape(B, K, G * T, S),
    source.v,
    (((3,), (2,)), ((0, 1), (0, 1))),
    preferred_element_type=dtype,
  )
  out_BKGTH = out_BKXH.reshape(B, K, G, T, -1)
  return jnp.transpose(out_BKGTH, (0, 3, 1, 2, 4))


def mask(
  query_BT: jax.Array,
  key_BS: jax.Array,
  *,
  window: int | None = None,
  segments: tuple[jax.Array, jax.Array] | None = None,
) -> jax.Array:
  """Returns mask_BTS, true where a query position may attend a key position.

  Args:
    query_BT: positions of the queries.
    key_BS: positions of the keys.
    window: tokens that a query sees, itself included; None for all before it.
    segments: ids (of the queries, of the keys); only equal ids attend.
  """
  gap_BTS = query_BT[:, :, None] - key_BS[:, None, :]
  allowed_BTS = gap_BTS >= 0
  if window is not None:
    allowed_BTS &= gap_BTS < window
  if segments is not None:
    allowed_BTS &= segments[0][:, :, None] == segments[1][:, None, :]
  return allowed_BTS


def frequencies(rope: config.Rope, head_dim: int) -> jax.Array:
  """Returns the angle per token of each pair of a head, [head_dim / 2].

  In float32 throughout, as the references compute them.

  Args:
    rope: the rotation.
    head_dim: width of a head.

  Source: RoFormer, arXiv:2104.09864, section 3.2; for the rest see
    `config.Rope`.
  """
  exponent = jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim
  found = 1.0 / (rope.base**exponent)
  # The first ones are the fast ones.
  turning = int(rope.rotated * head_dim // 2)
  found = jnp.where(jnp.arange(head_dim // 2) < turning, found, 0.0)
  slow = found / rope.scale
  if rope.smooth is None:
    return slow
  low, high, original = rope.smooth
  turns = original * found / (2 * jnp.pi)
  share = jnp.clip((turns - low) / (high - low), 0, 1)
  return (1 - share) * slow + share * found


def rotation(
  positions_BT: jax.Array, frequency: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Returns (sin, cos), each [B, T, head_dim / 2], float32.

  Args:
    positions_BT: token positions.
    frequency: from `frequencies`.
  """
  angle = positions_BT[:, :, None].astype(jnp.float32) * frequency[None, None]
  return jnp.sin(angle), jnp.cos(angle)


def rotate(x_BTNH: jax.Array, turn: tuple[jax.Array, jax.Array]) -> jax.Array:
  """Returns x rotated by its position; halves of the head are paired."""
  sin, cos = turn[0][:, :, None], turn[1][:, :, None]
  half = x_BTNH.shape[-1] // 2
  a = x_BTNH[..., :half].astype(jnp.float32)
  b = x_BTNH[..., half:].astype(jnp.float32)
  out = jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
  return out.astype(x_BTNH.dtype)
