import itertools
import time

import numpy as np
import pytest

from wcse_jax.metrics import coverage, diversity


@pytest.mark.parametrize(
  'counts', [[], [1], [3], [1, 1, 1], [2, 1], [4, 2, 1], [7], [1] * 7]
)
def test_equals_the_mean_over_all_subsets(counts):
  n = 7
  keys = [key for key, count in enumerate(counts) for _ in range(count)]
  keys += [None] * (n - len(keys))
  for k in range(1, n + 1):
    sizes = [
      len({keys[i] for i in subset} - {None})
      for subset in itertools.combinations(range(n), k)
    ]
    got = diversity.distinct(counts, n, k)
    assert got == pytest.approx(np.mean(sizes), abs=1e-13)


def test_without_repeats_it_says_what_coverage_says():
  # The published values equal k * pass@1 / coverage@k.
  n, right, k = 30, 12, 5
  per_solved = diversity.distinct([1] * right, n, k) / coverage.coverage(
    [n], [right], k
  )
  want = k * (right / n) / coverage.coverage([n], [right], k)
  np.testing.assert_allclose(per_solved, want)


def test_all_problems_at_once_equals_one_by_one():
  random = np.random.default_rng(3)
  n_Q = np.array([10, 4, 12, 6, 9])
  counts = [
    random.multinomial(int(random.integers(n + 1)), [0.5, 0.3, 0.2])
    for n in n_Q
  ]
  key_Q = np.repeat(np.arange(5), 3)
  got_Q = diversity.distinct_by_problem(key_Q, np.concatenate(counts), n_Q, 6)
  want_Q = [
    diversity.distinct(count, n, 6) if n >= 6 else 0.0
    for count, n in zip(counts, n_Q)
  ]
  np.testing.assert_allclose(got_Q, want_Q)
  assert got_Q[1] == 0
  assert got_Q[2] > 0


def test_refuses_more_right_samples_than_samples():
  with pytest.raises(ValueError, match='at most n=3'):
    diversity.distinct([2, 2], 3, 1)
  with pytest.raises(ValueError, match='k=4'):
    diversity.distinct([1], 3, 4)


@pytest.mark.parametrize(
  ('a', 'b', 'equal'),
  [
    ('It is 1,200.', 'it  is 1200.', True),
    ('x = 2.50\n', 'X = 2.5', True),
    ('3.0 + 4', '3 + 4.00', True),
    ('\uff15 apples', '5 apples', True),
    ('1,20 and 3', '120 and 3', False),
    ('0.05', '0.5', False),
    ('10', '1', False),
    ('a b', 'ab', False),
    ('3 + 4', '4 + 3', False),
  ],
)
def test_normalised_texts_are_equal_but_for_spelling(a, b, equal):
  assert (diversity.normalise(a) == diversity.normalise(b)) == equal


def test_normalising_long_runs_of_digits_is_linear():
  start = time.process_time()
  diversity.normalise('1,234' * 100_000 + '9' * 500_000)
  assert time.process_time() - start < 2
