"""Grouped-query attention and rotary positions.

Dimension letters: see `wcse_jax/__init__.py`.
"""

import jax
import jax.numpy as jnp

from wcse_jax.models import config


# Finite, so that a row with nothing to attend to does not become NaN.
_MASKED = jnp.finfo(jnp.float32).min


def attend(
  q_BTKGH: jax.Array,
  k_BSKH: jax.Array,
  v_BKHS: jax.Array,
  mask_BTS: jax.Array,
  *,
  softcap: float | None = None,
) -> jax.Array:
  """Returns out_BTKGH, the attention of each query over the keys.

  Args:
    q_BTKGH: queries, rotated and scaled.
    k_BSKH: keys, rotated.
    v_BKHS: values, positions last: on CPU a product that contracts the last
      axis of both factors is several times faster.
    mask_BTS: true where a query may attend.
    softcap: bound on |logits| (nats) before the softmax; None for no bound.

  Raises:
    ValueError: if `mask_BTS` does not fit the queries and keys.

  Source: Gemma 2 report, arXiv:2408.00118, section 2 (soft cap).
  """
  want = (*q_BTKGH.shape[:2], k_BSKH.shape[1])
  if mask_BTS.shape != want:
    raise ValueError(f'mask_BTS must have shape {want}; got {mask_BTS.shape}.')
  # float32 up to the softmax: bfloat16 logits change which token is sampled.
  logits_BKGTS = jnp.einsum(
    'BTKGH,BSKH->BKGTS', q_BTKGH, k_BSKH, preferred_element_type=jnp.float32
  )
  if softcap is not None:
    logits_BKGTS = softcap * jnp.tanh(logits_BKGTS / softcap)
  logits_BKGTS = jnp.where(mask_BTS[:, None, None], logits_BKGTS, _MASKED)
  probs_BKGTS = jax.nn.softmax(logits_BKGTS).astype(v_BKHS.dtype)
  return jnp.einsum('BKGTS,BKHS->BTKGH', probs_BKGTS, v_BKHS)


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
