"""Products with a layer's matrices, and how they are differentiated.

By the usual rule the slope of a matrix in float32 that works in bfloat16 would
be rounded to bfloat16 on its way, or, where products give float32, be worked
out in float32 at half the speed or less.  Here both factors of every product
have the dtype of the activations, and the slope of a matrix is summed in
float32 and has the matrix's own dtype.
"""

import functools

import jax
import jax.numpy as jnp


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def product(
  x_BTA: jax.Array, held_AE: jax.Array, scale_E: jax.Array | None, wide: bool
) -> jax.Array:
  """Returns x times a matrix, in the dtype of x.

  It can be differentiated by `x_BTA` and by a matrix of floats.

  Args:
    x_BTA: activations.
    held_AE: the matrix, of any dtype.
    scale_E: of its columns, where it is held in int8.
    wide: whether products are asked for in float32 and rounded afterwards: on
      CPU those of bfloat16 are fast only so.
  """
  out = jnp.matmul(
    x_BTA,
    held_AE.astype(x_BTA.dtype),
    preferred_element_type=_wide(wide or scale_E is not None),
  )
  if scale_E is not None:
    out = out * scale_E[None, None]
  return out.astype(x_BTA.dtype)


def _forward(x_BTA, held_AE, scale_E, wide):
  return product(x_BTA, held_AE, scale_E, wide), (x_BTA, held_AE, scale_E)


def _backward(wide, seen, slope_BTE):
  x_BTA, held_AE, scale_E = seen
  if scale_E is not None:
    slope_BTE = (slope_BTE * scale_E[None, None]).astype(slope_BTE.dtype)
  slope_BTA = jax.lax.dot_general(
    slope_BTE,
    held_AE.astype(x_BTA.dtype),
    (((2,), (1,)), ((), ())),
    preferred_element_type=_wide(wide),
  ).astype(x_BTA.dtype)
  if scale_E is not None:
    return slope_BTA, None, None
  slope_AE = jax.lax.dot_general(
    x_BTA,
    slope_BTE,
    (((0, 1), (0, 1)), ((), ())),
    preferred_element_type=jnp.float32,
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
