"""What the kernels of a decode step on GPU (Triton) have in common.

Heads are held in two halves, as rotation pairs them.

Dimension letters: see `wcse_jax/__init__.py`; R rows of a product, E half a
head.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu


# Finite, so that a difference of two is not NaN.
_MASKED = float(jnp.finfo(jnp.float32).min)


@dataclasses.dataclass(frozen=True)
class Layer:
  """What the kernels know of a layer when they are compiled.

  Attributes:
    queries: of a key/value head.
    scale: of the queries.
    fresh: whether the new token has a key and a value, behind the queries;
      without, all that is filled is in the cache.
    keys_as_values: whether the new value is the key, neither normed by the
      key's gain nor rotated.
    v_norm: whether values are normed, without a gain.
    eps: of the norms.
    plus_one: whether a norm's gain is stored less one.
    softcap: bound on |logits| (nats) before the softmax; None for no bound.
  """

  queries: int
  scale: float
  fresh: bool = True
  keys_as_values: bool = False
  v_norm: bool = False
  eps: float = 1e-6
  plus_one: bool = False
  softcap: float | None = None


def begun(rows: int, width: int) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Returns the state of a softmax over nothing yet; see `over`."""
  return (
    jnp.full((rows,), _MASKED, jnp.float32),
    jnp.zeros((rows,), jnp.float32),
    jnp.zeros((rows, width), jnp.float32),
  )


def prepared(halves, gains, turn, layer: Layer):
  """Returns both halves of some heads, normed if they have a gain, rotated.

  Rounded where `models.layers` rounds.

  Args:
    halves: of one head each_E, or of several each_RE.
    gains: references to the norm's gain_H, at most one.
    turn: rotation (sin, cos), each of the shape of a half, or of one row.
    layer: the layer.
  """
  dtype, E = halves[0].dtype, halves[0].shape[-1]
  wide = [half.astype(jnp.float32) for half in halves]
  if gains:
    square = sum(jnp.sum(x * x, axis=-1, keepdims=True) for x in wide)
    scale = jax.lax.rsqrt(square / (2 * E) + layer.eps)
    for i, at in enumerate((pl.ds(0, E), pl.ds(E, E))):
      gain_E = gains[0][at].astype(jnp.float32)
      if layer.plus_one:
        gain_E = 1.0 + gain_E
      if wide[i].ndim == 2:
        gain_E = gain_E[None]
      wide[i] = (wide[i] * scale * gain_E).astype(dtype).astype(jnp.float32)
  (a, b), (sin, cos) = wide, turn
  return (a * cos - b * sin).astype(dtype), (b * cos + a * sin).astype(dtype)


def scaled(x: jax.Array, layer: Layer) -> jax.Array:
  """Returns half of some queries, prepared, times the layer's scale."""
  return (x * jnp.asarray(layer.scale, x.dtype)).astype(x.dtype)


def over(state, halves, held, seen, layer: Layer):
  """Returns the softmax's state after some more places.

  Args:
    state: (peak_R of the logits, total_R of the odds, sum_RH of the values).
    halves: of the queries.
    held: both halves of the keys, and the values.
    seen: mask, true where a row may attend.
    layer: the layer.
  """
  peak_R, total_R, sum_RH = state
  ka_SE, kb_SE, v_SH = held
  logits_RS = _product(halves[0], ka_SE.T) + _product(halves[1], kb_SE.T)
  logits_RS = jnp.where(seen, capped(logits_RS, layer), _MASKED)
  new_R = jnp.maximum(peak_R, jnp.max(logits_RS, axis=1))
  odds_RS = jnp.where(seen, jnp.exp(logits_RS - new_R[:, None]), 0.0)
  scale_R = jnp.exp(peak_R - new_R)
  part_RH = _product(odds_RS.astype(v_SH.dtype), v_SH)
  return (
    new_R,
    scale_R * total_R + jnp.sum(odds_RS, axis=1),
    scale_R[:, None] * sum_RH + part_RH,
  )


def ended(state) -> tuple[jax.Array, jax.Array]:
  """Returns (out_RH, lse_R) of a part; one without places has no weight."""
  peak_R, total_R, sum_RH = state
  some_R = total_R > 0
  total_R = jnp.where(some_R, total_R, 1.0)
  lse_R = jnp.where(some_R, peak_R + jnp.log(total_R), _MASKED)
  return sum_RH / total_R[:, None], lse_R


def capped(logits: jax.Array, layer: Layer) -> jax.Array:
  """Returns logits under the layer's soft cap, if it has one."""
  if layer.softcap is None:
    return logits
  return layer.softcap * jnp.tanh(logits / layer.softcap)


def _product(a, b) -> jax.Array:
  wide = a.dtype == jnp.float32
  return plgpu.dot(a, b, precision=jax.lax.Precision.HIGHEST if wide else None)
