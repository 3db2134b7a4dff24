"""Distributions of the chance of a right sample, against brute force."""

import numpy as np
import pytest
from scipy import integrate, special, stats

from wcse_jax.metrics import chances


READINGS = [
  chances.Reading(family, never, always)
  for family in chances.FAMILIES
  for never in (False, True)
  for always in (False, True)
]
DRAWN = {
  'beta': lambda r, q: r.beta(0.4, 0.9, q),
  'logit-normal': lambda r, q: special.expit(r.normal(-0.5, 1.8, q)),
}


def _shares(p, n, seed, draws=0):
  random = np.random.default_rng(seed)
  right_Q = random.binomial(n, p)
  weights = [np.ones(p.size)]
  weights += list(
    random.multinomial(p.size, np.full(p.size, 1 / p.size), size=draws)
  )
  n_Q = np.full(p.size, n)
  return chances.histogram(n_Q, right_Q, np.array(weights, float), n)


def _log_pmf(reading, never, always, theta, n):
  """log P(count) by quadrature over p, an end's mass added."""
  if reading.family == 'beta':
    density = stats.beta(*np.exp(theta)).pdf
  else:

    def density(p):
      z = (special.logit(p) - theta[0]) / np.exp(theta[1])
      return stats.norm.pdf(z) / np.exp(theta[1]) / (p * (1 - p))

  found = []
  for count in range(n + 1):
    value = integrate.quad(
      lambda p, c=count: stats.binom.pmf(c, n, p) * density(p),
      0,
      1,
      limit=400,
      points=[0.01, 0.5, 0.99],
    )[0]
    found.append((1 - never - always) * value)
  found[0] += never
  found[-1] += always
  return np.log(found)


@pytest.mark.parametrize('family', chances.FAMILIES)
def test_counts_are_those_of_the_density(family):
  theta, n = np.array([0.3, 0.4]), 5
  want = _log_pmf(chances.Reading(family), 0, 0, theta, n)
  found = chances.FAMILIES[family].log_pmf(n, theta)
  np.testing.assert_allclose(found, want, atol=1e-6)


@pytest.mark.parametrize('reading', READINGS, ids=str)
def test_a_fit_is_the_most_likely_point(reading):
  p = DRAWN['logit-normal'](np.random.default_rng(0), 300)
  p[:30], p[30:50] = 0, 1
  n = 6
  share_DC = _shares(p, n, 1)
  found = chances.fit(reading, share_DC, p.size)
  assert np.all(reading.never or found.never_D == 0)
  assert np.all(reading.always or found.always_D == 0)

  def likelihood(never, always, theta):
    pmf_C = np.exp(found.family.log_pmf(n, np.asarray(theta)))
    pmf_C = (1 - never - always) * pmf_C
    pmf_C[0] += never
    pmf_C[-1] += always
    return float(np.sum(share_DC[0] * np.log(np.maximum(pmf_C, 1e-300))))

  best = found.never_D[0], found.always_D[0], found.theta_D2[0]
  value = likelihood(*best)
  assert value == pytest.approx(found.fitness_D[0], abs=1e-9)
  random = np.random.default_rng(5)
  family = found.family
  for scale in (1.0, 0.1, 0.01):
    for _ in range(700):
      never, always, _ = random.dirichlet([1, 1, 4])
      near = random.normal(size=2) * scale
      theta = np.clip(found.theta_D2[0] + near, family.low, family.high)
      if scale < 1:
        never, always = best[0] + never * scale, best[1] + always * scale
      ends = never * reading.never, always * reading.always
      assert likelihood(*ends, theta) <= value + 1e-7


@pytest.mark.parametrize('family', chances.FAMILIES)
@pytest.mark.parametrize('n', [4, 16])
def test_resamples_are_fitted_as_if_alone(family, n):
  p = DRAWN[family](np.random.default_rng(2), 400)
  share_DC = _shares(p, n, 3, draws=60)
  reading = chances.Reading(family)
  found = chances.fit(reading, share_DC, p.size)
  ks = [1, 30, 100]
  for draw in range(1, 61, 6):
    alone = chances.fit(reading, share_DC[draw : draw + 1], p.size)
    np.testing.assert_allclose(
      found.none(ks)[draw], alone.none(ks)[0], atol=1e-3
    )


def test_parameters_of_many_problems_are_found():
  random = np.random.default_rng(4)
  p = np.where(random.random(40_000) < 0.3, 0, random.beta(1.5, 3, 40_000))
  found = chances.fit(
    chances.Reading('beta', never=True), _shares(p, 16, 5), p.size
  )
  assert found.never_D[0] == pytest.approx(0.3, abs=0.02)
  assert np.exp(found.theta_D2[0]) == pytest.approx([1.5, 3], rel=0.1)


@pytest.mark.parametrize('reading', READINGS, ids=str)
def test_quantiles_and_moments_are_of_one_distribution(reading):
  p = DRAWN['beta'](np.random.default_rng(6), 500)
  p[:50], p[50:100] = 0, 1
  found = chances.fit(reading, _shares(p, 8, 7), p.size)
  even = (np.arange(200_000) + 0.5) / 200_000
  p_X = found.quantile(even)
  for k in (1, 7, 40, 2.5):
    mean = np.mean((1 - p_X) ** k)
    assert found.none(k)[0, 0] == pytest.approx(mean, abs=1e-4)


def test_nothing_drawn_holds_no_right_one():
  p = DRAWN['beta'](np.random.default_rng(8), 100)
  for reading in READINGS:
    found = chances.fit(reading, _shares(p, 4, 9), p.size)
    assert found.none(0)[0, 0] == pytest.approx(1)


@pytest.mark.parametrize('right', [0, 5])
def test_problems_that_are_all_alike(right):
  share_DC = np.zeros((3, 6))
  share_DC[:, right] = 1
  for reading in READINGS:
    found = chances.fit(reading, share_DC, 50)
    none_DK = found.none([1, 10])
    assert np.all(np.isfinite(none_DK))
    np.testing.assert_allclose(none_DK, 1 - right / 5, atol=0.06)
