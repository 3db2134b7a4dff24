"""Attention of one new token a slot, over what its cache has filled.

A cache is held at its full size, and compiled code reads all of it; a kernel
reads what is filled.

- On TPU `attend` does that and no more; `reference` is what it must compute.
  The prefix that all slots share is one product for all of them (`dense`), and
  `merge` puts the parts together.
- On GPU, where every small operation costs, `step` does all that lies between a
  layer's projections and its output product.

Dimension letters: see `wcse_jax/__init__.py`.
"""

import functools
from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from wcse_jax import sharding
from wcse_jax.kernels import decode_gpu, decode_tpu, gpu_parts


# Finite, so that a row with nothing to attend to does not become NaN.
_MASKED = float(jnp.finfo(jnp.float32).min)
# An attention over some keys: (out_BKGH, lse_BKG1), float32.  The first is
# normalised, the second the log-sum-exp of the logits: what it weighs beside
# other parts.
Part = tuple[jax.Array, jax.Array]
Layer = gpu_parts.Layer


def chosen(
  attention: str, mesh: Mesh | None, widths: Iterable[int] = ()
) -> bool:
  """Returns whether a decode step runs the kernel.

  Args:
    attention: `pallas` or `xla`; empty for the better one, as far as that is
      known.  Source: docs/design/kernels.md.
    mesh: where the model runs; None for the first device.
    widths: of the model's heads.

  Raises:
    ValueError: if there is no such choice.
  """
  if attention not in ('', 'xla', 'pallas'):
    raise ValueError(
      f"attention must be 'xla', 'pallas' or ''; got {attention!r}."
    )
  if attention:
    return attention == 'pallas'
  # Narrower heads do not fill the lanes of a TPU's memory, and the compiler
  # keeps such a cache in an order that a kernel cannot read; on a GPU half a
  # head is a side of a product.
  fits = {
    'tpu': lambda width: width % 128 == 0,
    'gpu': lambda width: width >= 32 and width & (width - 1) == 0,
  }
  fit = fits.get(sharding.platform(mesh))
  return fit is not None and all(map(fit, widths))


def attend(
  q_BKGH: jax.Array,
  k: jax.Array,
  v: jax.Array,
  index: jax.Array | None,
  filled_B: jax.Array,
  *,
  softcap: float | None = None,
  mesh: Mesh | None = None,
  fill: float = 0.5,
) -> Part:
  """Returns the attention over the filled places of each slot, for TPU.

  Args:
    q_BKGH: queries, rotated and scaled.
    k: keys k_BKSH; or k_LBKSH of stacked layers, none of which is copied.
    v: values, likewise.
    index: which of the stacked layers; None where none are.
    filled_B: places of each slot that hold a token, the first ones; at least
      one is taken to be filled.  What the others hold has no effect.
    softcap: bound on |logits| (nats) before the softmax; None for no bound.
    mesh: where the arrays lie; None for one device.
    fill: share of the places that the compiler's estimates take as filled;
      changes no result.

  Source: Gemma 2 report, arXiv:2408.00118, section 2 (soft cap).
  """
  if index is None:
    k, v, index = k[None], v[None], jnp.int32(0)
  run = _sharded(
    functools.partial(decode_tpu.attend, softcap=softcap, fill=fill),
    mesh,
    ('BKGH', 'LBKSH', 'LBKSH', '', 'B'),
    ('BKGH', 'BKG1'),
  )
  return run(q_BKGH, k, v, jnp.asarray(index, jnp.int32), filled_B)


def step(
  x_BKXH: jax.Array,
  turn: tuple[jax.Array, jax.Array],
  gains: tuple[jax.Array, ...],
  k: jax.Array,
  v: jax.Array,
  index: jax.Array | None,
  place_B: jax.Array,
  filled_B: jax.Array,
  prefix: tuple[jax.Array, jax.Array, jax.Array] | None,
  *,
  layer: Layer,
  mesh: Mesh | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Returns (out_BKGH, k, v): a layer's attention, and its cache, for GPU.

  Elsewhere the kernels are interpreted, which is slow: for tests.

  Args:
    x_BKXH: projections: queries and, if `layer.fresh`, the new key and, unless
      it is the value, too, the new value.  X = G, G + 1 or G + 2.
    turn: rotations (sin_BE, cos_BE), E = H / 2.
    gains: of the norms of queries and of the new key; empty for no norms.
    k: keys k_BKSH; or k_LBKSH of stacked layers.  Donate the caches: they are
      updated in place.
    v: values, likewise.
    index: which of the stacked layers; None where none are.
    place_B: where the new token goes.
    filled_B: places that hold a token, the first ones, the new one among them.
      What the others hold has no effect.
    prefix: (k_KUH, v_KUH, low_B): keys and values that all slots share, and
      the first of them that a slot sees; None: no prefix.
    layer: what is fixed.
    mesh: where the arrays lie; None for one device.
  """
  stacked = index is not None
  if not stacked:
    k, v, index = k[None], v[None], jnp.int32(0)
  run = functools.partial(
    decode_gpu.attend, layer=layer, interpret=sharding.platform(mesh) != 'gpu'
  )
  before = None if prefix is None else ('KUH', 'KUH', 'B')
  run = _sharded(
    run,
    mesh,
    (
      'BKXH',
      ('BE', 'BE'),
      ('H',) * len(gains),
      'LBKSH',
      'LBKSH',
      '',
      'B',
      'B',
      before,
    ),
    ('BKGH', 'LBKSH', 'LBKSH'),
  )
  index = jnp.asarray(index, jnp.int32)
  out_BKGH, k, v = run(
    x_BKXH, turn, gains, k, v, index, place_B, filled_B, prefix
  )
  return (out_BKGH, k, v) if stacked else (out_BKGH, k[0], v[0])


def _sharded(run, mesh: Mesh | None, takes, gives):
  """Returns a function on the mesh, of the letters that it takes and gives."""
  if mesh is None or mesh.size == 1:
    return run

  def spec(letters: str):
    return sharding.sharding(mesh, letters, sharding.ACTIVATIONS).spec

  # No slot and no head needs what another device holds.
  return jax.shard_map(
    run,
    mesh=mesh,
    in_specs=jax.tree.map(spec, takes),
    out_specs=jax.tree.map(spec, gives),
    # Nothing that it writes is the same on several devices by more than what
    # comes in.
    check_vma=False,
  )


def reference(
  q_BKGH: jax.Array,
  k_BKSH: jax.Array,
  v_BKSH: jax.Array,
  filled_B: jax.Array,
  *,
  softcap: float | None = None,
) -> Part:
  """Returns what `attend` must compute, of one layer."""
  place_S = jnp.arange(k_BKSH.shape[2])
  seen_BS = place_S[None] < jnp.maximum(filled_B, 1)[:, None]
  v_BKSH = jnp.where(seen_BS[:, None, :, None], v_BKSH, 0)
  logits_BKGS = _logits('BKGH,BKSH->BKGS', q_BKGH, k_BKSH, softcap)
  logits_BKGS = jnp.where(seen_BS[:, None, None], logits_BKGS, _MASKED)
  return _softmax('BKGS,BKSH->BKGH', logits_BKGS, v_BKSH)


def dense(
  q_BKGH: jax.Array,
  k_KUH: jax.Array,
  v_KUH: jax.Array,
  mask_BU: jax.Array | None = None,
  *,
  softcap: float | None = None,
) -> Part:
  """Returns the attention over keys that all slots share.

  Args:
    q_BKGH: queries, rotated and scaled.
    k_KUH: keys, rotated.
    v_KUH: values.
    mask_BU: which of them a slot sees; None: all.  A slot that sees none has a
      part without weight.
    softcap: bound on |logits| (nats) before the softmax; None for no bound.

  Source: Hydragen, arXiv:2402.05099, section 3.
  """
  logits_BKGU = _logits('BKGH,KUH->BKGU', q_BKGH, k_KUH, softcap)
  if mask_BU is not None:
    logits_BKGU = jnp.where(mask_BU[:, None, None], logits_BKGU, _MASKED)
  return _softmax('BKGU,KUH->BKGH', logits_BKGU, v_KUH)


def merge(parts: Sequence[Part]) -> jax.Array:
  """Returns out_BKGH, float32: one softmax over the keys of all parts.

  Source: Hydragen, arXiv:2402.05099, section 3.1.
  """
  if len(parts) == 1:
    return parts[0][0]
  peak_BKG1 = functools.reduce(jnp.maximum, [lse for _, lse in parts])
  share = [jnp.exp(lse - peak_BKG1) for _, lse in parts]
  whole = sum(out * s for (out, _), s in zip(parts, share, strict=True))
  return whole / sum(share)


def _logits(product: str, q, k, softcap) -> jax.Array:
  # float32 up to the softmax: bfloat16 logits change which token is sampled.
  logits = jnp.einsum(product, q, k, preferred_element_type=jnp.float32)
  return logits if softcap is None else softcap * jnp.tanh(logits / softcap)


def _softmax(product: str, logits: jax.Array, v: jax.Array) -> Part:
  peak = jnp.max(logits, axis=-1, keepdims=True)
  odds = jnp.exp(logits - peak)
  total = jnp.sum(odds, axis=-1, keepdims=True)
  out_BKGH = jnp.einsum(
    product, odds.astype(v.dtype), v, preferred_element_type=jnp.float32
  )
  return out_BKGH / total, peak + jnp.log(total)
