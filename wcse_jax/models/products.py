"""Products with a layer's matrices, and how they are differentiated.

By the usual rule the slope of a matrix in float32 that works in bfloat16 would
be rounded to bfloat16 on its way, or, where products give float32, be worked
out in float32 at half the speed or less.  Here both factors of every product
have the dtype of the activations, and the slope of a matrix is summed in
float32 and has the matrix's own dtype.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from wcse_jax import sharding


@dataclasses.dataclass(frozen=True)
class Split:
  """Where the parts of a matrix are, for products that gather it themselves.

  Left to itself the compiler for TPU makes a loop of such a product, one round
  a device of `fsdp`, and takes the activations to memory and back in every
  round (docs/results/tpu.md).

  Attributes:
    mesh: where it runs.
    letters: the matrix's two axes, as in `sharding.WEIGHTS`.
  """

  mesh: Mesh
  letters: str

  def specs(self) -> tuple[PartitionSpec, PartitionSpec, PartitionSpec]:
    """Returns where activations, the matrix and its scales are."""
    rows = sharding.ACTIVATIONS['B']
    axes = [sharding.WEIGHTS.get(letter, ()) for letter in self.letters]
    whole = [
      tuple(axis for axis in part if axis != 'fsdp') or None for part in axes
    ]
    held = PartitionSpec(*(part or None for part in axes))
    return (
      PartitionSpec(rows, None, whole[0]),
      held,
      PartitionSpec(rows, None, whole[1]),
    )

  def run(self, work, arguments, places, result):
    """Returns what `work` gives on each device's parts."""
    return jax.shard_map(
      work,
      mesh=self.mesh,
      in_specs=places,
      out_specs=result,
      check_vma=False,
    )(*arguments)

  def gathered(self, held_AE: jax.Array, dtype: Any) -> jax.Array:
    """Returns the matrix with all that is split over `fsdp`."""
    if held_AE.dtype != jnp.int8:
      held_AE = held_AE.astype(dtype)
    for axis, letter in enumerate(self.letters):
      if 'fsdp' in sharding.WEIGHTS.get(letter, ()):
        held_AE = jax.lax.all_gather(held_AE, 'fsdp', axis=axis, tiled=True)
    return held_AE.astype(dtype)

  def summed(self, out: jax.Array, letter: str) -> jax.Array:
    """Returns a product's sum over the devices that split what it sums over."""
    if 'tensor' in sharding.WEIGHTS.get(letter, ()):
      out = jax.lax.psum(out, 'tensor')
    return out

  def scattered(self, x_BTA: jax.Array, slope_BTE: jax.Array) -> jax.Array:
    """Returns a device's part of the matrix's slope, in float32."""
    first, second = x_BTA, slope_BTE
    turned = 'fsdp' in sharding.WEIGHTS.get(self.letters[1], ())
    if turned:
      # Along the first axis: else the compiler for TPU has every device sum
      # all.
      first, second = second, first
    slope = jax.lax.dot_general(
      first,
      second,
      (((0, 1), (0, 1)), ((), ())),
      preferred_element_type=jnp.float32,
    )
    if turned or 'fsdp' in sharding.WEIGHTS.get(self.letters[0], ()):
      slope = jax.lax.psum_scatter(
        slope, 'fsdp', scatter_dimension=0, tiled=True
      )
    else:
      slope = jax.lax.psum(slope, 'fsdp')
    slope = jax.lax.psum(slope, 'data')
    return slope.T if turned else slope


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def product(
  x_BTA: jax.Array,
  held_AE: jax.Array,
  scale_E: jax.Array | None,
  wide: bool,
  split: Split | None = None,
) -> jax.Array:
  """Returns x times a matrix, in the dtype of x.

  It can be differentiated by `x_BTA` and by a matrix of floats.

  Args:
    x_BTA: activations.
    held_AE: the matrix, of any dtype.
    scale_E: of its columns, where it is held in int8.
    wide: whether products are asked for in float32 and rounded afterwards: on
      CPU those of bfloat16 are fast only so.
    split: where the parts of the matrix are; None: what the compiler does.
  """

  def times(x_BTA, held_AE):
    if split is not None:
      held_AE = split.gathered(held_AE, x_BTA.dtype)
    out = jnp.matmul(
      x_BTA,
      held_AE.astype(x_BTA.dtype),
      preferred_element_type=_wide(wide or scale_E is not None),
    )
    return out if split is None else split.summed(out, split.letters[0])

  if split is None:
    out = times(x_BTA, held_AE)
  else:
    before, held, after = split.specs()
    out = split.run(times, (x_BTA, held_AE), (before, held), after)
  if scale_E is not None:
    out = out * scale_E[None, None]
  return out.astype(x_BTA.dtype)


def _forward(x_BTA, held_AE, scale_E, wide, split):
  out = product(x_BTA, held_AE, scale_E, wide, split)
  return out, (x_BTA, held_AE, scale_E)


def _backward(wide, split, seen, slope_BTE):
  x_BTA, held_AE, scale_E = seen
  if scale_E is not None:
    slope_BTE = (slope_BTE * scale_E[None, None]).astype(slope_BTE.dtype)

  def back(slope_BTE, held_AE):
    if split is not None:
      held_AE = split.gathered(held_AE, x_BTA.dtype)
    slope_BTA = jax.lax.dot_general(
      slope_BTE,
      held_AE.astype(x_BTA.dtype),
      (((2,), (1,)), ((), ())),
      preferred_element_type=_wide(wide),
    )
    if split is not None:
      slope_BTA = split.summed(slope_BTA, split.letters[1])
    return slope_BTA.astype(x_BTA.dtype)

  if split is None:
    slope_BTA = back(slope_BTE, held_AE)
  else:
    before, held, after = split.specs()
    slope_BTA = split.run(back, (slope_BTE, held_AE), (after, held), before)
  if scale_E is not None:
    return slope_BTA, None, None
  if split is None:
    slope_AE = jax.lax.dot_general(
      x_BTA,
      slope_BTE,
      (((0, 1), (0, 1)), ((), ())),
      preferred_element_type=jnp.float32,
    )
  else:
    slope_AE = split.run(
      split.scattered, (x_BTA, slope_BTE), (before, after), held
    )
  return slope_BTA, slope_AE.astype(held_AE.dtype), None


product.defvjp(_forward, _backward)


def adapted(
  x_BTA: jax.Array,
  down_AJ: jax.Array,
  up_JE: jax.Array,
  factor: float,
  wide: bool,
) -> jax.Array:
  """Returns what a low-rank adapter adds to a product.

  Args:
    x_BTA: activations.
    down_AJ: the adapter's first matrix.
    up_JE: its second one.
    factor: of the whole.
    wide: as in `product`.

  Source: LoRA, arXiv:2106.09685, section 4.1.
  """
  out = product(product(x_BTA, down_AJ, None, wide), up_JE, None, wide)
  return out * jnp.asarray(factor, out.dtype)


def _wide(wide: bool):
  return jnp.float32 if wide else None
