"""Logits to tokens.

The distribution is defined in this order, each step on what the one before
left: logits over the temperature; the `top_k` most probable tokens; the
smallest set of most probable tokens whose share is at least `top_p`; tokens of
at least `min_p` times the largest probability.  Between equal logits the lower
id goes first.  Temperature 0 takes the most probable token.

A token is the inverse of the cumulative distribution at a uniform number, so a
row's draw depends on its own key and logits alone.  The tokens stand in the
order of their ids; where `top_k` cuts, in that of falling probability.  Of many
tokens one number draws a block of about 512 and a second one a token of the
block: a float32 number has 23 bits, too few to tell 262,144 tokens apart.
Where `top_p` cuts alone and leaves of a large vocabulary some of the 256 most
probable tokens, they stand in falling order as with `top_k`; else a token of
all is drawn until it is one of the set, after 8 turns one of the set itself.

Nothing sorts a large vocabulary.  Its logits are taken in blocks: what is
sought lies in the blocks of the largest maxima, or of a known sum.
"""

import jax
import jax.numpy as jnp
import numpy as np


# Vocabularies up to this are sorted whole.
_SMALL = 4096
# More than these most probable tokens are not sought by blocks.
_MOST = 1024
# Most probable tokens among which the `top_p` set is sought first.
_LIKELY = 256
# Draws of a row from all tokens, in search of one of the `top_p` set.
_TURNS = 8
# Width of the blocks of which sums are taken, about.
_WIDTH = 512
# Devices that may share a row of logits: blocks are dealt out evenly to so many
# if the vocabulary lets them, whatever the mesh, which must change no draw.
_SHARED = 16


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
    peak_B1, ids_B1 = largest(logits_BV, 1)
    tokens_B = ids_B1[:, 0]
    return tokens_B, _logprobs(logits_BV, tokens_B, peak_B1[:, 0])
  size = logits_BV.shape[-1]
  if top_k:
    kept_BK, ids_BK = largest(logits_BV, min(top_k, size))
    peak_B = kept_BK[:, 0]
    scale = _Scale(peak_B, temperature, min_p)
    if top_p < 1:
      level_B = top_p * jnp.sum(scale.mass(kept_BK), axis=-1)
      kept_BK, _ = _cut(kept_BK, scale, level_B)
    tokens_B = _of_kept(kept_BK, ids_BK, scale, keys_B)
  else:
    peak_B = jnp.max(logits_BV, axis=-1)
    scale = _Scale(peak_B, temperature, min_p)
    blocks = _Blocks(logits_BV, scale)
    if top_p < 1:
      tokens_B = _by_share(logits_BV, keys_B, scale, blocks, top_p)
    else:
      tokens_B = blocks.draw(keys_B)
  return tokens_B, _logprobs(logits_BV, tokens_B, peak_B)


def largest(x_BV: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
  """Returns (the `count` largest values of each row, their int32 positions).

  In falling order, of equal values the lower position first.  Exact: each of
  them lies in one of the `count` blocks of the largest maxima, of equal maxima
  the blocks that come first.
  """
  size = x_BV.shape[-1]
  # As many blocks as candidates in the blocks that are looked through.
  width = 1 << max(0, round(np.log2(max(1.0, (size / count) ** 0.5))))
  width = _even_width(size, width, count)
  if size <= _SMALL or count > _MOST or width < 2:
    return _top_k(x_BV, count)
  blocks_BNW = _blocks(x_BV, width)
  maxima_BN = jnp.max(blocks_BNW, axis=-1)
  _, chosen_BK = _top_k(maxima_BN, count)
  # In order, so that of equal values the first is the one of lower position.
  chosen_BK = jnp.sort(chosen_BK, axis=-1)
  values_BKW = jnp.take_along_axis(blocks_BNW, chosen_BK[:, :, None], axis=1)
  rows = x_BV.shape[0]
  values_BC = values_BKW.reshape(rows, count * width)
  found_BK, at_BK = _top_k(values_BC, count)
  block_BK = jnp.take_along_axis(chosen_BK, at_BK // width, axis=-1)
  return found_BK, (block_BK * width + at_BK % width).astype(jnp.int32)


def _top_k(x_BV: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
  # Without the barrier, whoever takes a part of the values has the compiler
  # for CPU sort everything: ten times the work.
  return jax.lax.optimization_barrier(jax.lax.top_k(_signless(x_BV), count))


def _signless(x: jax.Array) -> jax.Array:
  """Returns x with 0 for -0, which to comparisons of order alone is less."""
  return jnp.where(x == 0, 0.0, x)


class _Scale:
  """What turns a row's logits into masses: shares of its largest one."""

  def __init__(self, peak_B: jax.Array, temperature: float, min_p: float):
    self._peak_B = peak_B
    self._temperature = temperature
    # Of logits, so that whoever compares comes to the same end: masses differ
    # in the last bit from one compiled loop to another.
    self._floor_B = None
    if min_p > 0:
      self._floor_B = peak_B + temperature * float(np.log(min_p))

  @property
  def cuts(self) -> bool:
    """Whether there are logits under `min_p`."""
    return self._floor_B is not None

  def mass(self, x: jax.Array, *, cut: bool = False) -> jax.Array:
    """Returns the masses of logits, rows first.

    Args:
      x: the logits.
      cut: whether those under `min_p` have none.
    """
    ones = (1,) * (x.ndim - 1)
    peak = self._peak_B.reshape(-1, *ones)
    mass = jnp.exp((x - peak) / self._temperature)
    if cut and self._floor_B is not None:
      mass = jnp.where(x >= self._floor_B.reshape(-1, *ones), mass, 0.0)
    return mass


class _Blocks:
  """Rows of logits in blocks, to draw from with little work for each draw."""

  def __init__(self, x_BV: jax.Array, scale: _Scale):
    size = x_BV.shape[-1]
    width = _even_width(size, _WIDTH) if size > _SMALL else size
    self._blocks_BNW = _blocks(x_BV, width)
    self._scale = scale
    self._size = size
    if width < size:
      # Masses are made again for one block: that costs less than to keep them.
      self._sums_BN = jnp.sum(scale.mass(self._blocks_BNW, cut=True), axis=-1)

  def whole(self) -> jax.Array:
    """Returns the mass_B of all logits, those under `min_p` too."""
    if self._scale.cuts or self._blocks_BNW.shape[1] == 1:
      return jnp.sum(self._scale.mass(self._blocks_BNW), axis=(1, 2))
    return jnp.sum(self._sums_BN, axis=-1)

  def draw(self, keys_B: jax.Array) -> jax.Array:
    """Returns the int32 place_B of a logit, drawn by mass."""
    count, width = self._blocks_BNW.shape[1:]
    draw = jax.vmap(lambda key: jax.random.uniform(key, (min(count, 2),)))
    uniform_BU = draw(keys_B)
    block_BNW, start_B = self._blocks_BNW, 0
    if count > 1:
      block_B = _pick(self._sums_BN, uniform_BU[:, 0])
      block_BNW = jnp.take_along_axis(
        self._blocks_BNW, block_B[:, None, None], axis=1
      )
      start_B = block_B * width
    mass_BW = self._scale.mass(block_BNW, cut=True)[:, 0]
    place_B = start_B + _pick(mass_BW, uniform_BU[:, -1])
    return jnp.minimum(place_B, self._size - 1)


def _pick(mass_BK: jax.Array, uniform_B: jax.Array) -> jax.Array:
  """Returns the int32 place_B at which the cumulated mass passes a share.

  Never a place without mass, however sums are rounded: they are those of a
  tree, and need not rise where mass is, nor stay where there is none.
  """
  sums_BK = jnp.cumsum(mass_BK, axis=-1)
  level_B1 = uniform_B[:, None] * sums_BK[:, -1:]
  some_BK = mass_BK > 0
  over_BK = some_BK & (sums_BK > level_B1)
  last_B = mass_BK.shape[-1] - 1 - jnp.argmax(some_BK[:, ::-1], axis=-1)
  place_B = jnp.where(
    jnp.any(over_BK, axis=-1), jnp.argmax(over_BK, axis=-1), last_B
  )
  return place_B.astype(jnp.int32)


def _cut(kept_BK, scale, level_B) -> tuple[jax.Array, jax.Array]:
  """Cuts logits in falling order behind those that have a mass together.

  Returns:
    (the logits, -inf where they are cut; whether they have the mass at all).
  """
  mass_BK = scale.mass(kept_BK)
  sums_BK = jnp.cumsum(mass_BK, axis=-1)
  inside_BK = sums_BK - mass_BK < level_B[:, None]
  # What is cut off has no mass.
  kept_BK = jnp.where(inside_BK, kept_BK, -jnp.inf)
  return kept_BK, sums_BK[:, -1] >= level_B


def _of_kept(kept_BK, ids_BK, scale, keys_B) -> jax.Array:
  """Returns tokens_B of a few logits, which have ids."""
  place_B = _Blocks(kept_BK, scale).draw(keys_B)
  return jnp.take_along_axis(ids_BK, place_B[:, None], axis=-1)[:, 0]


def _by_share(logits_BV, keys_B, scale, blocks, top_p) -> jax.Array:
  """Returns tokens_B of the smallest set of share `top_p`."""
  level_B = top_p * blocks.whole()
  if logits_BV.shape[-1] <= _SMALL:
    none_B = jnp.zeros(logits_BV.shape[0], bool)
    return _by_turns(logits_BV, keys_B, scale, blocks, level_B, none_B)
  # As a rule the set is small.
  kept_BK, ids_BK = largest(logits_BV, _LIKELY)
  kept_BK, found_B = _cut(kept_BK, scale, level_B)
  tokens_B = _of_kept(kept_BK, ids_BK, scale, keys_B)
  rest_B = jax.lax.cond(
    jnp.all(found_B),
    lambda: tokens_B,
    lambda: _by_turns(logits_BV, keys_B, scale, blocks, level_B, found_B),
  )
  return jnp.where(found_B, tokens_B, rest_B)


def _by_turns(logits_BV, keys_B, scale, blocks, level_B, found_B) -> jax.Array:
  """Returns tokens_B of the smallest set of a mass, where none is found yet.

  A token is one of the set, where those before it have less than the share: so
  as a rule the set is never made.  A draw is accepted with a chance of at least
  `top_p`; rows that had no luck, as with a small one, draw from the set.
  """
  ids_V = jnp.arange(logits_BV.shape[-1])

  def turned(turn) -> jax.Array:
    # What no other turn and no other row's turns change.
    return jax.vmap(lambda key: jax.random.fold_in(key, turn))(keys_B)

  def more(carry):
    turn, _, found_B = carry
    return (turn < _TURNS) & ~jnp.all(found_B)

  def again(carry):
    turn, tokens_B, found_B = carry
    new_B = blocks.draw(turned(turn))
    at_B1 = jnp.take_along_axis(logits_BV, new_B[:, None], axis=-1)
    before_BV = (logits_BV > at_B1) | (
      (logits_BV == at_B1) & (ids_V[None] < new_B[:, None])
    )
    before_B = jnp.sum(
      jnp.where(before_BV, scale.mass(logits_BV), 0.0), axis=-1
    )
    tokens_B = jnp.where(found_B, tokens_B, new_B)
    return turn + 1, tokens_B, found_B | (before_B < level_B)

  def set_drawn(_) -> jax.Array:
    inside_BV = _smallest_set(logits_BV, scale, level_B)
    kept_BV = jnp.where(inside_BV, logits_BV, -jnp.inf)
    return _Blocks(kept_BV, scale).draw(turned(_TURNS))

  rows = logits_BV.shape[0]
  start = 0, jnp.zeros(rows, jnp.int32), found_B
  _, tokens_B, found_B = jax.lax.while_loop(more, again, start)
  last_B = jax.lax.cond(
    jnp.all(found_B), lambda _: tokens_B, set_drawn, operand=None
  )
  return jnp.where(found_B, tokens_B, last_B)


def _smallest_set(logits_BV, scale, level_B) -> jax.Array:
  """Returns inside_BV: the fewest largest logits of at least a mass.

  Of equal logits those of lower ids.  The least of the values is found bit by
  bit: 32 sums over all.
  """
  # Unsigned numbers in the order of the logits.
  bits_BV = jax.lax.bitcast_convert_type(_signless(logits_BV), jnp.uint32)
  top = jnp.uint32(1 << 31)
  order_BV = jnp.where(bits_BV >= top, ~bits_BV, bits_BV | top)

  def above(at_B) -> jax.Array:
    inside_BV = order_BV > at_B[:, None]
    return jnp.sum(jnp.where(inside_BV, scale.mass(logits_BV), 0.0), axis=-1)

  def halve(_, ends):
    # What is above `low` has the mass, what is above `high` has not.
    low_B, high_B = ends
    middle_B = low_B + (high_B - low_B) // 2
    less_B = above(middle_B) < level_B
    low_B = jnp.where(less_B, low_B, middle_B)
    return low_B, jnp.where(less_B, middle_B, high_B)

  low_B = jnp.zeros(level_B.shape, jnp.uint32)
  ends = low_B, jnp.max(order_BV, axis=-1)
  _, least_B = jax.lax.fori_loop(0, 32, halve, ends)
  tied_BV = order_BV == least_B[:, None]
  one_B = jnp.max(jnp.where(tied_BV, scale.mass(logits_BV), 0.0), axis=-1)
  earlier_BV = jnp.cumsum(tied_BV, axis=-1) - tied_BV
  room_B = level_B - above(least_B)
  return (order_BV > least_B[:, None]) | (
    tied_BV & (earlier_BV * one_B[:, None] < room_B[:, None])
  )


def _even_width(size: int, wanted: int, least: int = 1) -> int:
  """Returns the width nearest to one that makes even blocks, if any is near.

  Where blocks straddle the parts of a row that lie on different devices, the
  whole row is brought together and laid out anew.

  Args:
    size: of a row.
    wanted: the width.
    least: blocks that there must be.
  """
  fits = [
    width
    for width in range(max(1, wanted // 4), 4 * wanted + 1)
    if size % (width * _SHARED) == 0 and size // width >= least
  ]
  return min(fits, key=lambda w: abs(np.log(w / wanted)), default=wanted)


def _blocks(x_BV: jax.Array, width: int) -> jax.Array:
  """Returns x_BNW, rows in blocks, the last one filled up with -inf."""
  rows, size = x_BV.shape
  missing = -size % width
  if missing:
    pad = (0, 0), (0, missing)
    x_BV = jnp.pad(x_BV, pad, constant_values=-jnp.inf)
  return x_BV.reshape(rows, -1, width)


def _logprobs(
  logits_BV: jax.Array, tokens_B: jax.Array, peak_B: jax.Array
) -> jax.Array:
  chosen_B = jnp.take_along_axis(logits_BV, tokens_B[:, None], axis=-1)[:, 0]
  whole_B = jnp.sum(jnp.exp(logits_BV - peak_B[:, None]), axis=-1)
  return chosen_B - peak_B - jnp.log(whole_B)
