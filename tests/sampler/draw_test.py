import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wcse_jax.sampler import draw


_ROWS, _WORDS = 256, 16
# So close to a limit, float32 may fall on the other side of it.
_NEAR = 1e-5


def _oracle(logits_V, uniforms, temperature, top_k, top_p, min_p):
  """Returns (token, log-probability, is rounding in the way), as documented.

  Tokens are in the order of their ids, or of falling probability where top_k
  cuts: this order is part of what a seed stands for.
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
  if top_p < 1 and not top_k:
    return _repeated(logits_V, mass_V, uniforms, top_p, min_p, logprobs_V)
  uniform = uniforms[0]
  kept = falling[: top_k or words]
  if top_p < 1:
    shares = np.cumsum(mass_V[kept]) / mass_V[kept].sum()
    near |= bool(np.any(np.abs(shares - top_p) < _NEAR))
    kept = kept[: np.argmax(shares >= top_p) + 1]
  if min_p > 0:
    close = np.abs(mass_V[kept] - min_p) < _NEAR
    near |= bool(np.any(close & (mass_V[kept] != 1)))
    kept = kept[mass_V[kept] >= min_p]
  if not top_k:
    kept = np.sort(kept)
  shares = np.cumsum(mass_V[kept]) / mass_V[kept].sum()
  near |= bool(np.any(np.abs(shares - uniform) < _NEAR))
  token = kept[min(np.searchsorted(shares, uniform, 'right'), len(kept) - 1)]
  return token, logprobs_V[token], near


def _repeated(logits_V, mass_V, uniforms, top_p, min_p, logprobs_V):
  """As `_oracle`: draws of all tokens until one is of the smallest set."""
  shares = np.cumsum(np.where(mass_V >= min_p, mass_V, 0))
  shares /= shares[-1]
  falling = np.lexsort((np.arange(mass_V.size), -logits_V))
  before_V = np.empty_like(mass_V)
  before_V[falling] = np.cumsum(mass_V[falling]) - mass_V[falling]
  before_V /= mass_V.sum()
  near = min_p > 0 and bool(np.any(np.abs(mass_V[mass_V != 1] - min_p) < _NEAR))
  for uniform in uniforms:
    near |= bool(np.any(np.abs(shares - uniform) < _NEAR))
    token = np.searchsorted(shares, uniform, 'right')
    near |= abs(before_V[token] - top_p) < _NEAR
    if before_V[token] < top_p:
      return token, logprobs_V[token], near
  raise AssertionError('no draw was accepted')


def _uniforms(keys_B, top_k, top_p, turns=60):
  """Returns the uniform numbers of each row, as documented."""
  if top_k or top_p == 1:
    return np.asarray(jax.vmap(jax.random.uniform)(keys_B), np.float64)[:, None]
  turn = jax.vmap(
    lambda key: jax.vmap(
      lambda i: jax.random.uniform(jax.random.fold_in(key, i))
    )(jnp.arange(turns))
  )
  return np.asarray(turn(keys_B), np.float64)


@pytest.mark.parametrize('temperature', [0.0, 0.5, 1.0, 1.7])
def test_every_combination_of_cuts_agrees_with_plain_numpy(temperature):
  rng = np.random.default_rng(0)
  # Halves, so that there are many ties, of 0 and -0 too.
  logits_BV = np.round(rng.normal(size=(_ROWS, _WORDS)) * 4).astype('f') / 2
  keys_B = jax.random.split(jax.random.key(1), _ROWS)
  compared = 0
  cuts = list(itertools.product((0, 1, 5, 99), (1.0, 0.9, 0.3), (0, 0.1, 1.0)))
  for top_k, top_p, min_p in cuts:
    tokens_B, logprobs_B = draw.draw(
      jnp.asarray(logits_BV),
      keys_B,
      temperature=temperature,
      top_k=top_k,
      top_p=top_p,
      min_p=min_p,
    )
    assert tokens_B.dtype == jnp.int32
    rows = zip(
      logits_BV,
      _uniforms(keys_B, top_k, top_p),
      np.asarray(tokens_B),
      np.asarray(logprobs_B),
    )
    for logits_V, uniform, token, logprob in rows:
      want, want_logprob, near = _oracle(
        logits_V, uniform, temperature, top_k, top_p, min_p
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
@pytest.mark.parametrize('top_k', [0, 1, 3, 40, 2000])
@pytest.mark.parametrize('top_p', [1.0, 0.9])
@pytest.mark.parametrize('min_p', [0.0, 0.2])
def test_a_large_vocabulary_agrees_with_plain_numpy(kind, top_k, top_p, min_p):
  rows = 16
  logits_BV = _large(kind, rows)
  keys_B = jax.random.split(jax.random.key(2), rows)
  uniforms = _uniforms(keys_B, top_k, top_p)
  tokens_B, logprobs_B = draw.draw(
    jnp.asarray(logits_BV),
    keys_B,
    temperature=0.8,
    top_k=top_k,
    top_p=top_p,
    min_p=min_p,
  )
  # Of thousands of tokens one is as near to the level as float32 can tell.
  compared = 0
  for row in range(rows):
    want = [
      _oracle(logits_BV[row], uniforms[row] + d, 0.8, top_k, top_p, min_p)[0]
      for d in (-1e-4, 0, 1e-4)
    ]
    exact = len(set(want)) == 1
    compared += exact
    if exact:
      assert tokens_B[row] == want[1]
    elif not top_k and top_p == 1:
      low, high = sorted((want[0], want[2]))
      assert low <= tokens_B[row] <= high
    chosen = int(tokens_B[row])
    wide_V = logits_BV[row].astype(np.float64)
    logprob = wide_V[chosen] - np.log(np.exp(wide_V).sum())
    assert abs(logprobs_B[row] - logprob) < 1e-4
  if top_k in (1, 3):
    assert compared >= 0.9 * rows


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
  tokens_B, _ = draw.draw(jnp.asarray(x_BV), None, temperature=0.0)
  assert np.asarray(tokens_B).tolist() == x_BV.argmax(axis=1).tolist()


def _support(logits_V, **cuts):
  """Returns the tokens seen in many draws."""
  logits_BV = np.full((_ROWS, _WORDS), -40, 'f')
  logits_BV[:, : len(logits_V)] = logits_V
  keys_B = jax.random.split(jax.random.key(2), _ROWS)
  logits_BV = jnp.asarray(logits_BV)
  return set(np.asarray(draw.draw(logits_BV, keys_B, **cuts)[0]).tolist())


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


@pytest.mark.parametrize(
  'cuts',
  [
    {'temperature': 1.0},
    {'temperature': 0.7, 'top_k': 6},
    {'temperature': 1.3, 'top_p': 0.9, 'min_p': 0.05},
    {'temperature': 1.3, 'top_k': 7, 'top_p': 0.9, 'min_p': 0.05},
  ],
)
def test_frequencies_are_the_probabilities(cuts):
  count = 200_000
  logits_V = np.array([0.3, -1.0, 2.0, 0.0, 1.1, -0.4, 1.6, 0.9], 'f')
  keys_B = jax.random.split(jax.random.key(3), count)
  tokens_B, _ = jax.jit(lambda l, k: draw.draw(l, k, **cuts))(
    jnp.tile(jnp.asarray(logits_V)[None], (count, 1)), keys_B
  )
  counts_V = np.bincount(np.asarray(tokens_B), minlength=8)

  def chi_square(temperature):
    mass_V = np.exp(logits_V.astype(np.float64) / temperature)
    falling = np.argsort(-mass_V)
    if 'top_k' in cuts:
      mass_V[falling[cuts['top_k'] :]] = 0
    if 'top_p' in cuts:
      shares = np.cumsum(mass_V[falling]) / mass_V.sum()
      mass_V[falling[np.argmax(shares >= cuts['top_p']) + 1 :]] = 0
    mass_V[mass_V < cuts.get('min_p', 0) * mass_V.max()] = 0
    want_V = count * mass_V / mass_V.sum()
    assert counts_V[want_V == 0].sum() == 0
    some = want_V > 0
    return np.sum((counts_V[some] - want_V[some]) ** 2 / want_V[some])

  # The 1 - 1e-4 quantile of chi-square with 7 degrees of freedom, the most.
  assert chi_square(cuts['temperature']) < 29.9
  # As sharp: another temperature does not pass.
  assert chi_square(1.05 * cuts['temperature']) > 29.9


@pytest.mark.parametrize('cuts', [{}, {'top_k': 5, 'top_p': 0.9, 'min_p': 0.1}])
def test_a_row_depends_on_its_own_key_and_logits_alone(cuts):
  rng = np.random.default_rng(4)
  logits_BV = rng.normal(size=(_ROWS, _WORDS)).astype('f')
  keys_B = jax.random.split(jax.random.key(5), _ROWS)

  def drawn(logits_BV, keys_B):
    out = draw.draw(jnp.asarray(logits_BV), keys_B, temperature=1.0, **cuts)
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
    tokens_B, logprobs_B = draw.draw(jnp.asarray(logits_BV), keys_B, **cuts)
    np.testing.assert_allclose(
      np.asarray(logprobs_B),
      want_BV[np.arange(_ROWS), np.asarray(tokens_B)],
      atol=1e-5,
    )
