"""A mixture of experts: every token is sent to the experts its router picks.

Dimension letters: see `wcse_jax/__init__.py`.
"""

import jax
import jax.numpy as jnp


def route(
  scores_ME: jax.Array, scale_E: jax.Array, count: int
) -> tuple[jax.Array, jax.Array]:
  """Returns (experts_MX, weights_MX): where each token goes, and how much.

  The weights are the softmax over all experts, normalised over the chosen ones
  and multiplied by the expert's own scale; float32.

  Args:
    scores_ME: the router's logits.
    scale_E: one factor an expert.
    count: experts of one token (X).

  Source: transformers 5, models/gemma4 (Gemma4TextRouter).
  """
  probs_ME = jax.nn.softmax(scores_ME.astype(jnp.float32))
  weights_MX, experts_MX = jax.lax.top_k(probs_ME, count)
  weights_MX = weights_MX / jnp.sum(weights_MX, axis=-1, keepdims=True)
  return experts_MX, weights_MX * scale_E.astype(jnp.float32)[experts_MX]


def apply(
  x_MD: jax.Array,
  experts_MX: jax.Array,
  weights_MX: jax.Array,
  feed_forward,
  num_experts: int,
) -> jax.Array:
  """Returns the weighted sum of the outputs of each token's experts.

  Rows are sorted by expert, so that every expert is one matrix product over
  its own rows, and sorted back.

  Args:
    x_MD: tokens.
    experts_MX: from `route`.
    weights_MX: from `route`.
    feed_forward: (rows_ZD, sizes_E, expert_Z) -> rows_ZD, where the first
      `sizes_E[0]` rows are those of expert 0, and so on.
    num_experts: experts (E).
  """
  M, X = experts_MX.shape
  expert_Z = experts_MX.reshape(-1)
  order_Z = jnp.argsort(expert_Z)
  sizes_E = jnp.bincount(expert_Z, length=num_experts).astype(jnp.int32)
  rows_ZD = feed_forward(x_MD[order_Z // X], sizes_E, expert_Z[order_Z])
  back_Z = jnp.argsort(order_Z)
  out_MXD = rows_ZD[back_Z].reshape(M, X, -1)
  out_MXD = out_MXD * weights_MX[:, :, None].astype(out_MXD.dtype)
  return jnp.sum(out_MXD, axis=1)
