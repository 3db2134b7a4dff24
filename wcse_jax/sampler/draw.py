"""Logits to tokens.

The distribution is defined in this order, each step on what the one before
left: logits over the temperature; the `top_k` most probable tokens; the
smallest set of most probable tokens whose share is at least `top_p`; tokens of
at least `min_p` times the largest probability.  Between equal logits the lower
id goes first.  Temperature 0 takes the most probable token.

A token is the inverse of the cumulative distribution at one uniform number, so
a row's draw depends on its own key and logits alone.
"""

import jax
import jax.numpy as jnp


def draw(
  logits_BV: jax.Array,
  keys_B: jax.Array,
  *,
  temperature: float,
  top_k: int = 0,
  top_p: float = 1.0,
  min_p: float = 0.0,
) -> tuple[jax.Array, jax.Array]:
  """Returns (tokens_B, logprobs_B).

  Args:
    logits_BV: float32 logits of the model.
    keys_B: one key a row.
    temperature: divides the logits; 0 is greedy.
    top_k: tokens kept; 0 for all.
    top_p: mass kept, in (0, 1].
    min_p: least share of the largest probability, in [0, 1].

  The log-probability is the model's own: of the logits as given, before
  temperature and cuts (nats).
  """
  if temperature == 0:
    tokens_B = jnp.argmax(logits_BV, axis=-1).astype(jnp.int32)
    return tokens_B, _logprobs(logits_BV, tokens_B)
  if top_k or top_p < 1:
    # Falling order; top_k breaks ties by the lower id, as the docstring says.
    count = min(top_k or logits_BV.shape[-1], logits_BV.shape[-1])
    # To top_k, and to it alone, -0 is less than 0.
    signless_BV = jnp.where(logits_BV == 0, 0.0, logits_BV)
    kept_BV, ids_BV = jax.lax.top_k(signless_BV, count)
  else:
    kept_BV, ids_BV = logits_BV, None
  peak_B1 = jnp.max(kept_BV, axis=-1, keepdims=True)
  mass_BV = jnp.exp((kept_BV - peak_B1) / temperature)
  if top_p < 1:
    before_BV = jnp.cumsum(mass_BV, axis=-1) - mass_BV
    whole_B1 = jnp.sum(mass_BV, axis=-1, keepdims=True)
    mass_BV = jnp.where(before_BV < top_p * whole_B1, mass_BV, 0.0)
  if min_p > 0:
    # The largest mass is 1 by construction.
    mass_BV = jnp.where(mass_BV >= min_p, mass_BV, 0.0)
  sums_BV = jnp.cumsum(mass_BV, axis=-1)
  uniform_B = jax.vmap(lambda key: jax.random.uniform(key))(keys_B)
  level_B1 = uniform_B[:, None] * sums_BV[:, -1:]
  # The first place whose sum exceeds the level; a place of no mass never does
  # so first.
  place_B = jnp.sum(sums_BV <= level_B1, axis=-1, dtype=jnp.int32)
  # Rounding can put the level at the very end: take the last place with mass.
  last_B = (
    mass_BV.shape[-1] - 1 - jnp.argmax(mass_BV[:, ::-1] > 0, axis=-1)
  ).astype(jnp.int32)
  place_B = jnp.minimum(place_B, last_B)
  if ids_BV is None:
    tokens_B = place_B
  else:
    tokens_B = jnp.take_along_axis(ids_BV, place_B[:, None], axis=-1)[:, 0]
  return tokens_B, _logprobs(logits_BV, tokens_B)


def _logprobs(logits_BV: jax.Array, tokens_B: jax.Array) -> jax.Array:
  chosen_B = jnp.take_along_axis(logits_BV, tokens_B[:, None], axis=-1)[:, 0]
  return chosen_B - jax.nn.logsumexp(logits_BV, axis=-1)
