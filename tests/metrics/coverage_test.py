import itertools
import math

import numpy as np
import pytest

from wcse_jax.metrics import coverage


def test_equals_the_share_of_subsets_that_hold_a_right_sample():
  for n in range(1, 8):
    for right in range(n + 1):
      for k in range(1, n + 1):
        subsets = list(itertools.combinations(range(n), k))
        hits = sum(any(i < right for i in subset) for subset in subsets)
        got = coverage.coverage([n], [right], k)[0]
        assert got == pytest.approx(hits / len(subsets), abs=1e-14)


def test_problems_may_have_different_numbers_of_samples():
  n_Q = np.array([5, 9, 200, 10_000])
  right_Q = np.array([1, 0, 3, 1])
  got_Q = coverage.coverage(n_Q, right_Q, 5)
  want_Q = [
    1 - math.comb(n - c, 5) / math.comb(n, 5) for n, c in zip(n_Q, right_Q)
  ]
  np.testing.assert_allclose(got_Q, want_Q, rtol=0, atol=1e-13)
  assert got_Q.dtype == np.float64


def test_large_n_neither_overflows_nor_loses_the_value():
  # C(100000, 50000) has 30,000 digits; one of two halves holds the right one.
  assert coverage.coverage([100_000], [1], 50_000)[0] == pytest.approx(0.5)


def test_is_unbiased_over_draws_of_the_samples():
  chance, n, k = 0.3, 12, 4
  right = np.arange(n + 1)
  weight = [
    math.comb(n, c) * chance**c * (1 - chance) ** (n - c) for c in right
  ]
  got = coverage.coverage(np.full(n + 1, n), right, k) @ weight
  assert got == pytest.approx(1 - (1 - chance) ** k)


def test_no_problem_gives_no_value():
  assert coverage.coverage([], [], 3).shape == (0,)


@pytest.mark.parametrize(
  ('n', 'right', 'k', 'named'),
  [
    ([4, 2], [1, 1], 3, 'k=3'),
    ([4], [1], 0, 'at least 1'),
    ([4], [5], 2, 'right_Q'),
    ([4], [-1], 2, 'right_Q'),
  ],
)
def test_refuses_what_has_no_meaning(n, right, k, named):
  with pytest.raises(ValueError, match=named):
    coverage.coverage(n, right, k)
