import numpy as np
import pytest
from scipy import optimize

from wcse_jax.metrics import shares


Z = 1.959964


@pytest.mark.parametrize(('right', 'trials'), [(1, 10), (7, 10), (499, 500)])
def test_a_binomial_share_gets_wilsons_interval(right, trials):
  share = right / trials
  got = shares.bounds(share, share * (1 - share) / trials, Z, trials)
  # The definition: where the distance is so many standard errors of the truth.
  for end, other in zip(got, (0.0, 1.0)):
    want = optimize.brentq(
      lambda p: (share - p) ** 2 - Z**2 * p * (1 - p) / trials, other, share
    )
    assert end == pytest.approx(want, abs=1e-9)


def test_a_larger_variance_is_that_of_fewer_trials():
  got = shares.bounds(0.9, 0.09 / 25, Z, 100)
  assert got == pytest.approx(shares.bounds(0.9, 0.09 / 25, Z, 25))
  assert got == pytest.approx(shares.bounds(0.9, 0.0, Z, 25))


@pytest.mark.parametrize('share', [0.0, 1.0])
def test_at_the_ends_it_has_the_width_of_the_trials(share):
  low, high = shares.bounds(share, 0.0, Z, 40)
  assert high - low == pytest.approx(Z**2 / (40 + Z**2))
  assert share in (low, high)
  assert 0 <= low <= high <= 1


def test_it_is_the_plain_one_where_the_share_is_far_from_the_ends():
  low, high = shares.bounds(0.4, 0.01**2, Z, 7)
  assert (low, high) == pytest.approx(
    (0.4 - 0.01 * Z, 0.4 + 0.01 * Z), abs=2e-4
  )


def test_arguments_broadcast():
  value_Y, variance_Y = np.array([0.1, 0.5, 1.0]), np.array([0.01, 0.002, 0.0])
  low_Y, high_Y = shares.bounds(value_Y, variance_Y, 2.0, 30)
  for study in range(3):
    want = shares.bounds(value_Y[study], variance_Y[study], 2.0, 30)
    assert (low_Y[study], high_Y[study]) == want


def test_a_share_is_within_its_interval_whatever_rounding_does():
  random = np.random.default_rng(0)
  value_Y = np.concatenate([random.random(1000), [1 + 1e-16, 1e-18, 1 - 1e-16]])
  low_Y, high_Y = shares.bounds(value_Y, random.random(1003) * 1e-3, 2.0, 9)
  assert np.all((low_Y <= np.clip(value_Y, 0, 1)) & (value_Y <= high_Y))
  assert np.all((low_Y >= -1e-15) & (high_Y <= 1 + 1e-15))
