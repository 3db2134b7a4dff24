"""Logits to tokens.

The distribution is defined in this order, each step on what the one before
left: logits over the temperature; the `top_k` most probable tokens; the
smallest set of most probable tokens whose share is at least `top_p`; tokens of
at least `min_p` times the largest probability.  Between equal logits the lower
id goes first.  Temperature 0 takes the most probable token.

A token is the inverse of the cumulative distribution at one uniform number, so
a row's draw depends on its own key and logits alone.  The tokens stand in the
order of their ids; where `top_k` cuts, in that of falling probability.  Where
`top_p` cuts alone, numbers are drawn until the token is one of the set.

Nothing sorts a large vocabulary.  Its logits are taken in blocks: what is
sought lies in the blocks of the largest maxima, or of a known sum.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np


# Vocabularies up to this are sorted whole.
_SMALL = 4096
# More than these most probable tokens are not sought by blocks.
_MOST = 1024
# Draws of a row at most.
_TURNS = 10_000
# Width of the blocks of which sums are taken.
_WIDTH = 512


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
    _, ids_B1 = largest(logits_BV, 1)
    return ids_B1[:, 0], _logprobs(logits_BV, ids_B1[:, 0])
  size = logits_BV.shape[-1]
  if top_k:
    kept_BK, ids_BK = largest(logits_BV, min(top_k, size))
    mass_BK = _mass(kept_BK, kept_BK[:, :1], temperature)
    if top_p < 1:
      before_BK = jnp.cumsum(mass_BK, axis=-1) - mass_BK
      whole_B1 = jnp.sum(mass_BK, axis=-1, keepdims=True)
      mass_BK = jnp.where(before_BK < top_p * whole_B1, mass_BK, 0.0)
    place_B = _place(_above(mass_BK, min_p), _uniform(keys_B))
    tokens_B = jnp.take_along_axis(ids_BK, place_B[:, None], axis=-1)[:, 0]
  elif top_p < 1:
    tokens_B = _by_share(logits_BV, keys_B, temperature, top_p, min_p)
  else:
    peak_B = jnp.max(logits_BV, axis=-1)
    tokens_B = _draw(logits_BV, peak_B, _uniform(keys_B), temperature, min_p)
  return tokens_B, _logprobs(logits_BV, tokens_B)


def largest(x_BV: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
  """Returns (the `count` largest values of each row, their int32 positions).

  In falling order, of equal values the lower position first.  Exact: each of
  them lies in one of the `count` blocks of the largest maxima, of equal maxima
  the blocks that come first.
  """
  size = x_BV.shape[-1]
  # As many blocks as candidates in the blocks that are looked through.
  width = 1 << max(0, round(np.log2(max(1.0, (size / count) ** 0.5))))
  if size <= _SMALL or count > _MOST or width < 2:
    return jax.lax.top_k(_signless(x_BV), count)
  blocks_BNW = _blocks(x_BV, width, -jnp.inf)
  maxima_BN = jnp.max(blocks_BNW, axis=-1)
  _, chosen_BK = jax.lax.top_k(_signless(maxima_BN), count)
  # In order, so that of equal values the first is the one of lower position.
  chosen_BK = jnp.sort(chosen_BK, axis=-1)
  values_BKW = jnp.take_along_axis(blocks_BNW, chosen_BK[:, :, None], axis=1)
  rows = x_BV.shape[0]
  values_BC = _signless(values_BKW.reshape(rows, count * width))
  found_BK, at_BK = jax.lax.top_k(values_BC, count)
  block_BK = jnp.take_along_axis(chosen_BK, at_BK // width, axis=-1)
  return found_BK, (block_BK * width + at_BK % width).astype(jnp.int32)


def _signless(x: jax.Array) -> jax.Array:
  """Returns x with 0 for -0, which to comparisons of order alone is less."""
  return jnp.where(x == 0, 0.0, x)


def _by_share(logits_BV, keys_B, temperature, top_p, min_p) -> jax.Array:
  """Returns tokens_B of the smallest set of share `top_p`.

  A token is drawn of all, and again until it is one of the set: it is, where
  those before it have less than the share.  So the set itself is never made.
  A draw is accepted with a chance of at least `top_p`.
  """
  peak_B = jnp.max(logits_BV, axis=-1)
  mass_BV = _mass(logits_BV, peak_B[:, None], temperature)
  level_B = top_p * jnp.sum(mass_BV, axis=-1)
  ids_V = jnp.arange(logits_BV.shape[-1])

  def more(carry):
    turn, _, found_B = carry
    # Only logits that are no numbers are never accepted.
    return (turn < _TURNS) & ~jnp.all(found_B)

  def again(carry):
    turn, tokens_B, found_B = carry
    # What no other turn and no other row's turns change.
    turn_B = jax.vmap(lambda key: jax.random.fold_in(key, turn))(keys_B)
    new_B = _draw(logits_BV, peak_B, _uniform(turn_B), temperature, min_p)
    at_B1 = jnp.take_along_axis(logits_BV, new_B[:, None], axis=-1)
    before_BV = (logits_BV > at_B1) | (
      (logits_BV == at_B1) & (ids_V[None] < new_B[:, None])
    )
    mass_BV = _mass(logits_BV, peak_B[:, None], temperature)
    before_B = jnp.sum(jnp.where(before_BV, mass_BV, 0.0), axis=-1)
    tokens_B = jnp.where(found_B, tokens_B, new_B)
    return turn + 1, tokens_B, found_B | (before_B < level_B)

  rows = logits_BV.shape[0]
  start = 0, jnp.zeros(rows, jnp.int32), jnp.zeros(rows, bool)
  return jax.lax.while_loop(more, again, start)[1]


def _draw(logits_BV, peak_B, uniform_B, temperature, min_p) -> jax.Array:
  """Returns tokens_B of all whose mass is at least `min_p`."""
  return _place(
    logits_BV,
    uniform_B,
    lambda x, peak: _above(_mass(x, peak, temperature), min_p),
    peak_B,
  )


def _uniform(keys_B) -> jax.Array:
  return jax.vmap(lambda key: jax.random.uniform(key))(keys_B)


def _mass(logits_BV, peak_B1, temperature) -> jax.Array:
  """Returns probabilities as shares of the largest."""
  return jnp.exp((logits_BV - peak_B1) / temperature)


def _above(mass_BV, min_p: float) -> jax.Array:
  # The largest mass is 1 by construction.
  return jnp.where(mass_BV >= min_p, mass_BV, 0.0) if min_p > 0 else mass_BV


def _place(
  x_BV: jax.Array,
  uniform_B: jax.Array,
  mass: Callable[..., jax.Array] = lambda x: x,
  *more_B: jax.Array,
) -> jax.Array:
  """Returns the int32 place at which the cumulated mass passes a share.

  Args:
    x_BV: what masses are made of.
    uniform_B: the shares.
    mass: (x, what is given for its rows) -> masses; asked twice, since making
      them again for one block costs less than to keep them all.
    *more_B: what is given for each row.
  """
  size = x_BV.shape[-1]
  if size <= _SMALL:
    mass_BV = mass(x_BV, *(more[:, None] for more in more_B))
    level_B = uniform_B * jnp.cumsum(mass_BV, axis=-1)[:, -1]
    return _passes(mass_BV, level_B)[0]
  blocks_BNW = _blocks(x_BV, _WIDTH, -jnp.inf if more_B else 0.0)
  more_B11 = [more[:, None, None] for more in more_B]
  sums_BN = jnp.sum(mass(blocks_BNW, *more_B11), axis=-1)
  level_B = uniform_B * jnp.cumsum(sums_BN, axis=-1)[:, -1]
  block_B, rest_B = _passes(sums_BN, level_B)
  block_B1W = jnp.take_along_axis(blocks_BNW, block_B[:, None, None], axis=1)
  place_B, _ = _passes(mass(block_B1W, *more_B11)[:, 0], rest_B)
  return jnp.minimum(block_B * _WIDTH + place_B, size - 1)


def _passes(mass_BK, level_B) -> tuple[jax.Array, jax.Array]:
  """Returns (the first place whose sum exceeds a level, the level less before).

  A place of no mass never exceeds it first.  Rounding can put the level at the
  very end: then it is the last place with mass.
  """
  sums_BK = jnp.cumsum(mass_BK, axis=-1)
  place_B = jnp.sum(sums_BK <= level_B[:, None], axis=-1, dtype=jnp.int32)
  last_B = (
    mass_BK.shape[-1] - 1 - jnp.argmax(mass_BK[:, ::-1] > 0, axis=-1)
  ).astype(jnp.int32)
  place_B = jnp.minimum(place_B, last_B)
  before_BK = sums_BK - mass_BK
  before_B = jnp.take_along_axis(before_BK, place_B[:, None], axis=-1)[:, 0]
  return place_B, level_B - before_B


def _blocks(x_BV: jax.Array, width: int, empty: float) -> jax.Array:
  """Returns x_BNW, rows in blocks, the last one filled up."""
  rows, size = x_BV.shape
  missing = -size % width
  if missing:
    x_BV = jnp.pad(x_BV, ((0, 0), (0, missing)), constant_values=empty)
  return x_BV.reshape(rows, -1, width)


def _logprobs(logits_BV: jax.Array, tokens_B: jax.Array) -> jax.Array:
  chosen_B = jnp.take_along_axis(logits_BV, tokens_B[:, None], axis=-1)[:, 0]
  peak_B = jnp.max(logits_BV, axis=-1)
  whole_B = jnp.sum(jnp.exp(logits_BV - peak_B[:, None]), axis=-1)
  return chosen_B - peak_B - jnp.log(whole_B)
