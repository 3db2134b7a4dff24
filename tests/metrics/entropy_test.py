import itertools
import random

import numpy as np
import pytest

from wcse_jax.metrics import entropy


def _words(texts, limit=entropy.LIMIT, order=None):
  collector = entropy.Collector(limit)
  for at in order if order is not None else range(len(texts)):
    collector.add(at, at, texts[at])
  return collector.words(len(texts))


def test_words_of_ascii_are_those_of_any_text():
  draw = random.Random(0)
  signs = [chr(code) for code in range(128)]
  for _ in range(300):
    text = ''.join(draw.choices(signs, k=60))
    # Behind a letter that is not ASCII the text goes the other way.
    assert entropy.split(f'{text} é')[:-1] == entropy.split(text)


def test_chao_shen_is_less_biased_than_the_plain_estimate():
  random = np.random.default_rng(0)
  share = random.dirichlet(np.full(200, 0.5))
  truth = -np.sum(share * np.log2(share))
  plain, corrected = [], []
  for _ in range(200):
    counts = random.multinomial(100, share)
    counts = counts[counts > 0]
    p = counts / counts.sum()
    plain.append(-np.sum(p * np.log2(p)))
    corrected.append(entropy.chao_shen(counts))
  assert np.mean(plain) - truth < -0.8
  assert abs(np.mean(corrected) - truth) < 0.25


def test_chao_shen_of_many_is_the_entropy():
  assert entropy.chao_shen([1000] * 8) == pytest.approx(3)
  assert entropy.chao_shen([5]) == 0
  assert np.isfinite(entropy.chao_shen([1]))
  assert np.isfinite(entropy.chao_shen([1] * 50))


def test_one_repeated_word_has_no_entropy():
  problem_M = np.zeros(4, int)
  words = _words(['a a a a a'] * 4)
  assert entropy.by_problem(words, problem_M, 1, 1)[0] == 0
  # Equal texts differ less than different ones.
  same = _words(['one two three four five six'] * 4)
  other = _words(
    ['one two three', 'seven eight', 'nine ten six', 'four five zero']
  )
  for order in (1, 2):
    a, b = (
      entropy.by_problem(w, problem_M, 1, order)[0] for w in (same, other)
    )
    assert a < b


def test_counts_are_of_the_first_right_samples():
  texts = ['x y z', 'x y', 'x', 'x', 'all of this is left out', 'p', 'q']
  problem_M = np.array([0, 0, 0, 0, 0, 1, 1])
  found = entropy.by_problem(_words(texts), problem_M, 3, 1)
  assert found[0] == pytest.approx(entropy.chao_shen([4, 2, 1]))
  assert np.isnan(found[1:]).all()
  # No two neighbours anywhere.
  lone = entropy.by_problem(_words(['x', 'y', 'x', 'z']), problem_M[:4], 1, 2)
  assert np.isnan(lone[0])


def test_grams_are_of_neighbours_in_order():
  words = _words(['a b c a b', 'b a', 'x', ''])
  pairs = entropy._grams(words.row(0), 2)
  assert len(set(pairs.tolist())) == 3
  assert pairs[0] == pairs[3]
  assert entropy._grams(words.row(1), 2)[0] not in pairs
  assert entropy._grams(words.row(2), 2).size == 0
  assert words.length_M.tolist() == [5, 2, 1, 0]


def test_words_of_signs_and_case():
  assert entropy.split('The  sum: 3+4\n= 7.') == [
    b'the',
    b'sum',
    b':',
    b'3',
    b'+',
    b'4',
    b'=',
    b'7',
    b'.',
  ]
  assert len(entropy.split('w ' * 10_000)) == entropy.LENGTH


def test_thinning_does_not_depend_on_the_order():
  texts = ['word ' * 10] * 200
  orders = [range(200), range(199, -1, -1)]
  a, b = (_words(texts, limit=500, order=order) for order in orders)
  held = a.length_M >= 0
  assert 0 < a.length_M[held].sum() <= 500
  np.testing.assert_array_equal(a.length_M, b.length_M)
  whole = _words(texts, limit=2000)
  assert (whole.length_M >= 0).all()
  for at, kept in itertools.product(np.flatnonzero(held), (a, b)):
    np.testing.assert_array_equal(kept.row(at), whole.row(at))
