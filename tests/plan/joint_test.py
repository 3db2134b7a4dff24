"""Joint difficulty of two models, and finite populations."""

import numpy as np
import pytest

from wcse_jax.plan import curves, joint, simulation


@pytest.fixture(scope='module', params=[0.0, 0.5, 0.8, 1.0])
def tied(request):
  random = np.random.default_rng(1)
  one = simulation.pilot('MATH', request.param, random, 4000)
  found = curves.Curves(one, draws=20)
  return request.param, found, joint.Population(found)


def test_the_correlation_is_found(tied):
  rho, _, whole = tied
  assert whole.correlation_MM[0, 1] == pytest.approx(rho, abs=0.05)
  np.testing.assert_allclose(np.diag(whole.correlation_MM), 1)


def test_each_model_keeps_its_curve(tied):
  _, found, whole = tied
  for model in (0, 1):
    for k in (1, 10, 50):
      mean = 1 - np.mean((1 - whole.p_XM[:, model]) ** k)
      want = found.covered(model, k)[0, 0]
      assert mean == pytest.approx(want, abs=0.004)


def test_what_one_leaves_unsolved_the_other_solves_as_in_truth(tied):
  rho, _, whole = tied
  true_XM = simulation.chances_of(
    'MATH', rho, np.random.default_rng(2).standard_normal((200_000, 2))
  )

  def rest(p_XM):
    none_X = (1 - p_XM[:, 0]) ** 8
    return np.mean(none_X * (1 - (1 - p_XM[:, 1]) ** 8))

  assert rest(whole.p_XM) == pytest.approx(rest(true_XM), abs=0.012)


def test_three_models():
  random = np.random.default_rng(3)
  two = simulation.pilot('MATH', 0.8, random, 1500)
  right_MQ = np.concatenate([two.right_MQ, two.right_MQ[:1]])
  one = curves.Pilot(('a', 'b', 'c'), np.full(right_MQ.shape, 16), right_MQ)
  whole = joint.Population(curves.Curves(one, draws=20))
  assert whole.p_XM.shape == (joint.NODES, 3)
  # A model and its copy: the noise of counts is shared, too.
  assert whole.correlation_MM[0, 2] > 0.98


def test_intervals_shrink_where_the_pilot_is_most_of_the_problems():
  random = np.random.default_rng(4)
  found = curves.Curves(simulation.pilot('MATH', 0.8, random, 500), draws=200)
  whole = joint.Population(found)
  values_D = found.covered(0, 10)[:, 0]
  widths = []
  for total in (0, 50_000, 1000, 500):
    scale = joint.Scale(found, whole, total)
    scaled_D = scale(values_D, [(0, 10, 1)])
    assert scaled_D[0] == values_D[0]
    widths.append(scaled_D.std())
  assert widths == sorted(widths, reverse=True)
  assert widths[1] == pytest.approx(widths[0], rel=0.01)
  # All problems are in the pilot: what is left is the samples' noise.
  assert widths[3] < 0.6 * widths[0]


def test_an_interval_of_all_problems_is_that_of_the_samples_noise():
  """Pilots of the very problems that the plan is for."""
  random = np.random.default_rng(5)
  held = 0
  for seed in range(25):
    p_XM = simulation.chances_of('MATH', 0.8, random.standard_normal((200, 2)))
    right_MQ = random.binomial(8, p_XM).T
    one = curves.Pilot(('a', 'b'), np.full(right_MQ.shape, 8), right_MQ)
    found = curves.Curves(one, draws=100, seed=seed)
    scale = joint.Scale(found, joint.Population(found), 200)
    values_D = scale(found.covered(0, 1)[:, 0], [(0, 1, 1)])
    row = curves.estimate(values_D)
    held += row['low'] <= p_XM[:, 0].mean() <= row['high']
  # Of 25 a sure 95% is 20 or more in 998 of 1,000 cases.
  assert held >= 20
