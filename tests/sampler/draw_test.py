import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from wcse_jax.sampler import draw


_ROWS, _WORDS = 256, 16
# So close to a limit, float32 may fall on the other side of it.
_NEAR = 1e-5


_slow = pytest.mark.slow
# One program for each method and shape.
_drawn = jax.jit(
  draw.draw, static_argnames=('temperature', 'top_k', 'top_p', 'min_p')
)
# What is drawn from in blocks, and turns before the set itself is drawn from.
_SMALL, _TURNS, _LIKELY = 4096, 8, 256


def _oracle(logits_V, numbers, temperature, top_k, top_p, min_p):
  """Returns (token, log-probability, is rounding in the way), as documented.

  Tokens are in the order of their ids, or of falling probability where top_k
  cuts: this order is part of what a seed stands for.  `numbers` are those of
  `_numbers`.
  """
  words = logits_V.size
  logits_V = logits_V.astype(np.float64)
  peak = logits_V.max()
  logprobs_V = logits_V - peak - np.log(np.exp(logits_V - peak).sum())
  # Falling, the lower id first.
  falling = np.lexsort((np.arange(words), -logits_V))
  if temperature == 0:
    return falling[0], logprobs_V[falling[0]], False
  mass_V = np.exp((logits_V - peak) / temperature)
  near = False
  kept = falling[: top_k or words]
  before = np.cumsum(mass_V[kept]) - mass_V[kept]
  shares = before / mass_V[kept].sum()
  inside = shares < top_p
  near |= top_p < 1 and bool(np.any(np.abs(shares - top_p) < _NEAR))
  large = mass_V[kept] >= min_p
  close = np.abs(mass_V[kept] - min_p) < _NEAR
  near |= min_p > 0 and bool(np.any(close & (mass_V[kept] != 1)))
  if top_k:
    kept = kept[inside & large]
    at, rounding = _at(mass_V[kept], numbers[0])
    return kept[at], logprobs_V[kept[at]], near or rounding
  if top_p < 1 and words > _SMALL:
    likely = inside[:_LIKELY]
    near |= bool(abs(shares[_LIKELY] - top_p) < _NEAR)
    # Is the set among the most probable ones?
    if not inside[_LIKELY]:
      kept = kept[:_LIKELY][likely & large[:_LIKELY]]
      at, rounding = _at(mass_V[kept], numbers[0])
      return kept[at], logprobs_V[kept[at]], near or rounding
  large_V, inside_V = np.zeros((2, words), bool)
  large_V[falling], inside_V[falling] = large, inside
  for turn in range(_TURNS + 1):
    # Of all; when that had no luck, of the set itself.
    from_V = large_V & inside_V if turn == _TURNS else large_V
    number = numbers[turn + (top_p < 1)]
    token, rounding = _at(np.where(from_V, mass_V, 0), number)
    near |= rounding
    if inside_V[token]:
      return token, logprobs_V[token], near
  raise AssertionError('a token outside the set was drawn of it')


def _at(mass_K, numbers):
  """Returns (place at which mass passes a share, is rounding in the way)."""
  start, near = 0, False
  if mass_K.size > _SMALL:
    width = draw._even_width(mass_K.size, 512)
    blocks = np.pad(mass_K, (0, -mass_K.size % width)).reshape(-1, width)
    block, near = _at(blocks.sum(axis=1), numbers)
    start, mass_K, numbers = block * width, blocks[block], numbers[1:]
  shares = np.cumsum(mass_K) / mass_K.sum()
  near |= bool(np.any(np.abs(shares - numbers[0]) < _NEAR))
  return start + np.searchsorted(shares, numbers[0], 'right'), near


def _numbers(keys_B, top_k, top_p):
  """Returns uniform numbers of each row: two, and two more a turn if any."""
  two = jax.vmap(lambda key: jax.random.uniform(key, (2,)))
  own = np.asarray(two(keys_B), np.float64)[:, None]
  if top_k or top_p == 1:
    return own
  turns = jax.vmap(
    lambda key: two(
      jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(_TURNS + 1))
    )
  )
  return np.concatenate([own, np.asarray(turns(keys_B), np.float64)], axis=1)


@pytest.mark.parametrize(
  'temperature', [0.0, pytest.param(0.5, marks=_slow), 1.0, 1.7]
)
def test_every_combination_of_cuts_agrees_with_plain_numpy(temperature):
  rng = np.random.default_rng(0)
  # Halves, so that there are many ties, of 0 and -0 too.
  logits_BV = np.round(rng.normal(size=(_ROWS, _WORDS)) * 4).astype('f') / 2
  keys_B = jax.random.split(jax.random.key(1), _ROWS)
  compared = 0
  cuts = list(itertools.product((0, 1, 5, 99), (1.0, 0.9, 0.3), (0, 0.1, 1.0)))
  if temperature != 1:
    # Every one of them at one temperature; a program takes long to compile.
    cuts = cuts[:: 5 if temperature else len(cuts)]
  for top_k, top_p, min_p in cuts:
    tokens_B, logprobs_B = _drawn(
      logits_BV,
      keys_B,
      temperature=temperature,
      top_k=top_k,
      top_p=top_p,
      min_p=min_p,
    )
    assert tokens_B.dtype == jnp.int32
    rows = zip(
      logits_BV,
      _numbers(keys_B, top_k, top_p),
      np.asarray(tokens_B),
      np.asarray(logprobs_B),
    )
    for logits_V, numbers, token, logprob in rows:
      want, want_logprob, near = _oracle(
        logits_V, numbers, temperature, top_k, top_p, min_p
      )
      if not near:
        compared += 1
        assert token == want, (top_k, top_p, min_p)
        assert abs(logprob - want_logprob) < 1e-5
  assert compared > 0.99 * len(cuts) * _ROWS


_LARGE = 5_003  # No multiple of a block.


def _large(kind, rows):
  """Returns logits of a large vocabulary."""
  rng = np.random.default_rng(9)
  logits_BV = rng.normal(size=(rows, _LARGE))
  if kind == 'peaked':
    logits_BV = logits_BV * 4
  elif kind == 'tied':
    # A few values only, -0 among them; whole blocks are equal.
    logits_BV = np.round(logits_BV) / 2
    logits_BV[:, 1024:2560] = 1.0
  elif kind == 'mixed':
    # Rows whose likely tokens are few, and rows in which they are many.
    logits_BV = logits_BV * np.where(np.arange(rows) % 2, 6.0, 0.1)[:, None]
  return logits_BV.astype('f')


@pytest.mark.parametrize('kind', ['peaked', 'flat', 'tied', 'mixed'])
# Of each one more program is compiled.
@pytest.mark.parametrize(
  'top_k',
  [
    0,
    pytest.param(1, marks=_slow),
    3,
    pytest.param(40, marks=_slow),
    2000,
  ],
)
@pytest.mark.parametrize('top_p', [1.0, 0.9])
@pytest.mark.parametrize('min_p', [0.0, 0.2])
def test_a_large_vocabulary_agrees_with_plain_numpy(kind, top_k, top_p, min_p):
  rows = 16
  logits_BV = _large(kind, rows)
  keys_B = jax.random.split(jax.random.key(2), rows)
  numbers = _numbers(keys_B, top_k, top_p)
  tokens_B, logprobs_B = _drawn(
    logits_BV,
    keys_B,
    temperature=0.8,
    top_k=top_k,
    top_p=top_p,
    min_p=min_p,
  )
  # A token of a flat block is often as near to the level as float32 can tell.
  compared = 0
  for row in range(rows):
    want = [
      _oracle(logits_BV[row], numbers[row] + d, 0.8, top_k, top_p, min_p)[0]
      for d in (-1e-5, 0, 1e-5)
    ]
    exact = len(set(want)) == 1
    compared += exact
    if exact:
      assert tokens_B[row] == want[1]
    chosen = int(tokens_B[row])
    wide_V = logits_BV[row].astype(np.float64)
    logprob = wide_V[chosen] - np.log(np.exp(wide_V).sum())
    assert abs(logprobs_B[row] - logprob) < 1e-4
  assert compared >= 0.75 * rows


@pytest.mark.parametrize('count', [1, 2, 64, 300])
@pytest.mark.parametrize('kind', ['peaked', 'tied'])
def test_the_largest_are_found_in_order(kind, count):
  x_BV = _large(kind, 8)
  values_BK, ids_BK = draw.largest(jnp.asarray(x_BV), count)
  for row in range(8):
    falling = np.lexsort((np.arange(_LARGE), -x_BV[row]))[:count]
    assert np.asarray(ids_BK)[row].tolist() == falling.tolist()
    np.testing.assert_array_equal(values_BK[row], x_BV[row][falling])


def test_greedy_takes_the_first_of_the_largest():
  x_BV = _large('tied', 8)
  tokens_B, _ = _drawn(x_BV, None, temperature=0.0)
  assert np.asarray(tokens_B).tolist() == x_BV.argmax(axis=1).tolist()


def _support(logits_V, **cuts):
  """Returns the tokens seen in many draws."""
  logits_BV = np.full((_ROWS, _WORDS), -40, 'f')
  logits_BV[:, : len(logits_V)] = logits_V
  keys_B = jax.random.split(jax.random.key(2), _ROWS)
  logits_BV = jnp.asarray(logits_BV)
  return set(np.asarray(_drawn(logits_BV, keys_B, **cuts)[0]).tolist())


@pytest.mark.parametrize(
  ('cuts', 'want'),
  [
    ({'temperature': 0}, {1}),
    ({'temperature': 1.0}, {0, 1, 2, 3, 4}),
    ({'temperature': 1.0, 'top_k': 1}, {1}),
    ({'temperature': 1.0, 'top_k': 3}, {1, 2, 3}),
    # Four equal shares, cut at half of them.
    ({'temperature': 1e-3, 'top_p': 0.5}, {1, 2}),
    ({'temperature': 1e-3, 'top_p': 0.51}, {1, 2, 3}),
    ({'temperature': 1.0, 'min_p': 1.0}, {1, 2, 3, 4}),
    # top_p takes its share of what top_k left.
    ({'temperature': 1.0, 'top_k': 2, 'top_p': 0.5}, {1}),
  ],
)
def test_of_equal_logits_the_lower_id_goes_first(cuts, want):
  assert _support([0.0, 1.0, 1.0, 1.0, 1.0], **cuts) == want


_METHODS = (
  {},
  pytest.param({'top_k': 6}, marks=_slow),
  pytest.param({'top_p': 0.9}, marks=_slow),
  {'top_p': 0.4},
  {'min_p': 0.05},
  pytest.param({'top_k': 9, 'top_p': 0.9}, marks=_slow),
  pytest.param({'top_p': 0.9, 'min_p': 0.1}, marks=_slow),
  {'top_k': 9, 'top_p': 0.9, 'min_p': 0.1},
)


def _probabilities(logits_V, temperature, top_k=0, top_p=1.0, min_p=0.0):
  """Returns the distribution as documented, in float64."""
  mass_V = np.exp((logits_V - logits_V.max()).astype(np.float64) / temperature)
  order = np.lexsort((np.arange(mass_V.size), -mass_V))
  mass_V[order[top_k or mass_V.size :]] = 0
  before = np.cumsum(mass_V[order]) - mass_V[order]
  mass_V[order[before >= top_p * mass_V.sum()]] = 0
  mass_V[mass_V < min_p * mass_V.max()] = 0
  return mass_V / mass_V.sum()


def _many(logits_V, count, rows, **how):
  """Returns counts_V of `count` draws from one row of logits."""
  logits_BV = jnp.broadcast_to(jnp.asarray(logits_V), (rows, logits_V.size))

  @jax.jit
  def counted(logits_BV, number, counts_V):
    # Logits are an argument: of constants the compiler would draw by itself.
    keys_B = jax.random.split(jax.random.key(number), rows)
    tokens_B, _ = draw.draw(logits_BV, keys_B, **how)
    return counts_V.at[tokens_B].add(1)

  counts_V = jnp.zeros(logits_V.size, jnp.int32)
  for number in range(count // rows):
    counts_V = counted(logits_BV, number, counts_V)
  assert counts_V.sum() == count
  return np.asarray(counts_V)


def _chance(counts_V, want_V):
  """Returns the p-value of counts under a distribution (chi-square).

  Ids are put together until 20 or more of each group are expected.
  """
  if np.any(counts_V[want_V == 0]):
    return 0.0
  expected_V = counts_V.sum() * want_V
  group_V = (np.cumsum(expected_V) // 20).astype(int)
  wanted = np.bincount(group_V, expected_V)
  found = np.bincount(group_V, counts_V)
  wanted, found = wanted[wanted > 5], found[wanted > 5]
  square = np.sum((found - wanted) ** 2 / wanted)
  return scipy.stats.chi2.sf(square, len(wanted) - 1)


@pytest.mark.parametrize('cuts', _METHODS, ids=str)
def test_a_million_draws_have_the_frequencies_of_the_distribution(cuts):
  logits_V = np.random.default_rng(5).normal(size=24).astype('f')
  logits_V[[3, 9, 20]] = logits_V[7]  # Ties.
  counts_V = _many(logits_V, 1_000_000, 100_000, temperature=0.9, **cuts)
  assert _chance(counts_V, _probabilities(logits_V, 0.9, **cuts)) > 1e-3
  # As sharp: draws at a temperature 2% off do not pass.
  biased_V = _many(logits_V, 1_000_000, 100_000, temperature=0.918, **cuts)
  assert _chance(biased_V, _probabilities(logits_V, 0.9, **cuts)) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize('cuts', _METHODS, ids=str)
def test_a_million_draws_of_a_large_vocabulary(cuts):
  rng = np.random.default_rng(6)
  logits_V = rng.normal(size=_LARGE).astype('f') * 2
  counts_V = _many(logits_V, 1_000_000, 2_000, temperature=0.9, **cuts)
  assert _chance(counts_V, _probabilities(logits_V, 0.9, **cuts)) > 1e-3
  biased_V = _many(logits_V, 1_000_000, 2_000, temperature=0.918, **cuts)
  assert _chance(biased_V, _probabilities(logits_V, 0.9, **cuts)) < 1e-6


def test_a_token_without_mass_is_never_drawn():
  # Sums of a tree rise by a last bit where there is no mass, and so much is
  # the level away from what was summed before: a cut token came up.
  rng = np.random.default_rng(0)
  mass_BK = rng.random((64, 512)).astype('f')
  mass_BK[rng.random((64, 512)) < 0.5] = 0
  sums_BK = np.asarray(jax.jit(lambda x: jnp.cumsum(x, axis=-1))(mass_BK))
  rises = (np.diff(sums_BK, axis=1) > 0) & (mass_BK[:, 1:] == 0)
  assert rises.any()
  pick = jax.jit(draw._pick)
  for row, place in np.argwhere(rises):
    # Levels from the sum before the rise on: the number that comes to it.
    uniform = np.float32(sums_BK[row, place] / sums_BK[row, -1])
    near = uniform + np.arange(-2, 3, dtype='f') * np.float32(2**-24)
    for number in near:
      at = pick(mass_BK[row : row + 1], jnp.asarray([number]))
      assert mass_BK[row, int(at[0])] > 0


@pytest.mark.parametrize('size', [_WORDS, _LARGE])
@pytest.mark.parametrize('number', [0.0, 1 - 2.0**-23])
def test_the_ends_of_the_uniform_numbers(monkeypatch, size, number):
  monkeypatch.setattr(
    jax.random, 'uniform', lambda key, shape: jnp.full(shape, number, 'f')
  )
  logits_V = np.full(size, -np.inf, 'f')
  some = np.array([3, 5, size - 4])
  logits_V[some] = 0.0, 1.0, 0.5
  keys_B = jax.random.split(jax.random.key(0), 2)
  for cuts in ({}, {'top_k': 9}, {'top_p': 0.999}, {'min_p': 0.1}):
    tokens_B, logprobs_B = draw.draw(
      jnp.stack([logits_V, logits_V]), keys_B, temperature=1.0, **cuts
    )
    falls = 'top_k' in cuts or ('top_p' in cuts and size > _SMALL)
    want = (some[1] if falls else some[0], some[0] if falls else some[2])
    assert tokens_B[0] == want[number > 0]
    assert np.isfinite(logprobs_B).all()


@pytest.mark.parametrize('size', [_WORDS, _LARGE])
@pytest.mark.parametrize('top_p', [1e-9, 0.01, 0.1])
def test_a_small_share_of_equal_logits(size, top_p):
  # A draw of all is accepted with a chance of top_p only.
  keys_B = jax.random.split(jax.random.key(0), 64)
  logits_BV = np.zeros((64, size), 'f')
  tokens_B, _ = _drawn(logits_BV, keys_B, temperature=1.0, top_p=top_p)
  kept = max(1, int(np.ceil(top_p * size)))
  tokens_B = np.asarray(tokens_B)
  assert tokens_B.max() < kept
  if kept > 50:
    assert tokens_B.max() > 0.8 * kept
    assert len(set(tokens_B.tolist())) > 20


def test_logits_that_are_no_numbers_end():
  logits_BV = np.zeros((2, _WORDS), 'f')
  logits_BV[0, 3] = np.nan
  keys_B = jax.random.split(jax.random.key(0), 2)
  for cuts in ({}, {'top_k': 3}, {'top_p': 0.5}, {'min_p': 0.5}):
    tokens_B, logprobs_B = _drawn(logits_BV, keys_B, temperature=1.0, **cuts)
    assert np.isnan(logprobs_B[0])
    assert np.isfinite(logprobs_B[1])
    assert 0 <= tokens_B.min() <= tokens_B.max() < _WORDS


@pytest.mark.parametrize('cuts', [{}, {'top_k': 5, 'top_p': 0.9, 'min_p': 0.1}])
def test_a_row_depends_on_its_own_key_and_logits_alone(cuts):
  rng = np.random.default_rng(4)
  logits_BV = rng.normal(size=(_ROWS, _WORDS)).astype('f')
  keys_B = jax.random.split(jax.random.key(5), _ROWS)

  def drawn(logits_BV, keys_B):
    out = _drawn(logits_BV, keys_B, temperature=1.0, **cuts)
    return np.stack([np.asarray(x, np.float64) for x in out])

  want = drawn(logits_BV, keys_B)
  order = rng.permutation(_ROWS)
  np.testing.assert_array_equal(
    drawn(logits_BV[order], keys_B[order]), want[:, order]
  )
  # One row stays, all others are replaced.
  mates_BV = rng.normal(size=(_ROWS, _WORDS)).astype('f') * 9
  mates_BV[7] = logits_BV[7]
  others_B = jax.random.split(jax.random.key(6), _ROWS)
  keys = jnp.concatenate([others_B[:7], keys_B[7:8], others_B[8:]])
  np.testing.assert_array_equal(drawn(mates_BV, keys)[:, 7], want[:, 7])
  assert np.any(drawn(mates_BV, keys)[0] != want[0])


def test_the_log_probability_is_that_of_the_raw_model():
  rng = np.random.default_rng(8)
  logits_BV = rng.normal(size=(_ROWS, _WORDS)).astype('f') * 3
  want_BV = logits_BV - np.log(np.exp(logits_BV).sum(axis=1, keepdims=True))
  keys_B = jax.random.split(jax.random.key(7), _ROWS)
  for cuts in (
    {'temperature': 0},
    {'temperature': 2.0},
    {'temperature': 0.5, 'top_k': 5, 'top_p': 0.8, 'min_p': 0.1},
  ):
    tokens_B, logprobs_B = _drawn(logits_BV, keys_B, **cuts)
    np.testing.assert_allclose(
      np.asarray(logprobs_B),
      want_BV[np.arange(_ROWS), np.asarray(tokens_B)],
      atol=1e-5,
    )


@pytest.mark.parametrize(
  ('size', 'wanted', 'least', 'width'),
  [
    (262_144, 512, 1, 512),
    # Of sixteen devices each has 34 whole blocks.
    (262_208, 512, 1, 482),
    (151_936, 512, 1, 1187),
    # At least so many blocks.
    (128_256, 8, 1000, 8),
    (4112, 2, 1028, 1),
    # None is near that is even.
    (50_257, 512, 1, 512),
  ],
)
def test_blocks_are_even_where_that_is_possible(size, wanted, least, width):
  found = draw._even_width(size, wanted, least)
  assert found == width
  assert size // found >= least
