"""Curves from pilots of which the truth is known."""

import numpy as np
import pytest
from scipy import special

from wcse_jax.metrics import coverage
from wcse_jax.plan import curves, simulation


def pilot(problems, rho=0.8, seed=0, name='MATH'):
  random = np.random.default_rng(seed)
  return simulation.pilot(name, rho, random, problems)


@pytest.fixture(scope='module')
def large():
  return curves.Curves(pilot(20_000), draws=20)


@pytest.mark.parametrize('model', [0, 1])
@pytest.mark.parametrize('k', [1, 3, 10, 30, 100, 7.5])
def test_many_problems_give_the_truth(large, model, k):
  found = large.covered(model, k)[0, 0]
  assert found == pytest.approx(simulation.truth('MATH', model, k), abs=0.01)


def test_curves_rise_and_stay_between_0_and_1(large):
  ks = np.geomspace(0.5, 2000, 40)
  found_DK = large.covered(0, ks)
  assert np.all(np.diff(found_DK, axis=1) > -1e-9)
  assert np.all((found_DK >= 0) & (found_DK <= 1))


def test_the_true_shape_is_believed(large):
  best = large.belief_RD[:, 0].argmax()
  assert curves.READINGS[best].family == 'beta'
  np.testing.assert_allclose(large.belief_RD.sum(axis=0), 1)


def test_another_shape_is_believed_where_it_is_true():
  random = np.random.default_rng(1)
  p_MQ = special.expit(random.normal(-1, 1.2, (1, 4000)))
  right_MQ = random.binomial(16, p_MQ)
  one = curves.Pilot(('m',), np.full(right_MQ.shape, 16), right_MQ)
  found = curves.Curves(one, draws=20)
  best = found.belief_RD[:, 0].argmax()
  assert curves.READINGS[best].family == 'logit-normal'


def test_pairing_corrects_the_gap_where_difficulty_is_the_same():
  """The correction at k = 1 brings the gap nearer to the truth."""
  truth = simulation.truth('MATH', 0, 1) - simulation.truth('MATH', 1, 1)
  off, plain = [], []
  for seed in range(40):
    found = curves.Curves(pilot(300, 1.0, seed), draws=100, seed=seed)
    gap = found.covered(0, 1)[0, 0] - found.covered(1, 1)[0, 0]
    off.append(gap - truth)
    alone = [1 - fits[0].none(1)[0, 0] for fits in found.fits]
    plain.append(alone[0] - alone[1] - truth)
  assert np.std(off) < 0.95 * np.std(plain)


def test_the_other_fits_meet_what_was_observed():
  one = pilot(2000)
  found = curves.Curves(one, draws=10)
  ks = [1, 2, 4, 8, 16]
  seen = [coverage.coverage(one.n_MQ[0], one.right_MQ[0], k).mean() for k in ks]
  fits = found.each(0, ks)
  np.testing.assert_allclose(fits['non-parametric'][0], seen, atol=2e-3)
  np.testing.assert_allclose(fits['power law'][0], seen, atol=0.03)
  assert len(fits) == len(curves.READINGS) + 2


def test_the_spread_is_wider_than_the_interval():
  found = curves.Curves(pilot(500), draws=100)
  low, high = found.spread(0, 100)[:, 0]
  row = curves.estimate(found.covered(0, 100)[:, 0])
  assert low < row['low'] < row['value'] < row['high'] < high


def test_a_power_law_is_found():
  """Counts whose coverage is exp(-c k^-d) at 1 to 3 samples."""
  c, d = 1.2, 0.6
  cov = [np.exp(-c * k**-d) for k in (1, 2, 3)]
  # Of three samples: none wrong, ..., from the coverage by inclusion.
  none = [1, *(1 - x for x in cov)]
  share_C = [
    sum(
      (-1) ** j * special.comb(right, j) * none[3 - right + j]
      for j in range(right + 1)
    )
    * special.comb(3, right)
    for right in range(4)
  ]
  assert min(share_C) > 0
  found = curves.power_law(np.array([share_C]), [1, 3, 50])
  np.testing.assert_allclose(
    found[0], [np.exp(-c * k**-d) for k in (1, 3, 50)], rtol=1e-6
  )


def test_half_of_the_samples_foretell_all():
  found = curves.backtest(pilot(3000), 0)
  assert (found['k_fitted'], found['k']) == (8, 16)
  assert found['foretold']['beta'] == pytest.approx(found['observed'], abs=0.01)
  few = curves.Pilot(('m',), np.full((1, 9), 3), np.ones((1, 9), int))
  assert curves.backtest(few, 0) is None


def test_problems_with_fewer_samples_do_not_move_the_curve():
  one = pilot(4000)
  random = np.random.default_rng(3)
  n_MQ, right_MQ = one.n_MQ.copy(), one.right_MQ.copy()
  some = random.random(4000) < 0.08
  right_MQ[0, some] = random.hypergeometric(
    right_MQ[0, some], 16 - right_MQ[0, some], 9
  )
  n_MQ[0, some] = 9
  other = curves.Curves(
    curves.Pilot(one.names, n_MQ, right_MQ), draws=10
  ).covered(0, [1, 30])[0]
  whole = curves.Curves(one, draws=10).covered(0, [1, 30])[0]
  np.testing.assert_allclose(other, whole, atol=0.012)
