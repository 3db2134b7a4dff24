"""Gaps, break-even ratios and verdicts."""

import numpy as np
import pytest

from wcse_jax import errors
from wcse_jax.plan import curves, joint, pairs, simulation


def fitted(problems, name='MATH', rho=0.8, draws=60, seed=0):
  random = np.random.default_rng(seed)
  return curves.Curves(
    simulation.pilot(name, rho, random, problems), draws=draws
  )


def counts(right_MQ, n=8):
  right_MQ = np.asarray(right_MQ)
  return curves.Curves(
    curves.Pilot(('a', 'b'), np.full(right_MQ.shape, n), right_MQ), draws=40
  )


@pytest.mark.parametrize(
  ('name', 'k', 'want'),
  [
    # From the distributions themselves: weak coverage at ratio * k equals
    # strong coverage at k.
    ('MATH', 1, 1.49),
    ('MATH', 10, 1.65),
    ('GSM8K', 1, 1.77),
    ('GSM8K', 10, 1.95),
  ],
)
def test_break_even_is_that_of_the_published_curves(name, k, want):
  row = pairs.compare(fitted(40_000, name), 0, 1, (1.0, 3.0), k, 0.01)
  assert row['break_even_ratio'] == pytest.approx(want, rel=0.05)
  assert row['break_even_low'] < row['break_even_ratio']
  assert row['k_weak'] == 3 * k
  assert row['verdict'] == 'weak'
  json_like = {k: type(v) for k, v in row.items()}
  assert set(json_like.values()) <= {str, int, float, type(None)}


def test_the_strong_model_overtakes_where_curves_cross():
  """MATH at a ratio of 1.75: past the break-even of k = 10, before k = 100."""
  row = pairs.compare(fitted(40_000), 0, 1, (1.0, 1.75), 10, 0.001)

  def lead(k):
    return simulation.truth('MATH', 1, k) - simulation.truth(
      'MATH', 0, 1.75 * k
    )

  ks = np.geomspace(1, 1000, 4000)
  true = ks[np.argmax([lead(k) >= 0 for k in ks])]
  assert row['overtakes_at'] == pytest.approx(true, rel=0.6)
  # Dearer by less than its lead: it covers more from the first sample on.
  assert pairs.compare(fitted(4000), 0, 1, (1.0, 1.3), 10, 0.01)[
    'overtakes_at'
  ] == pytest.approx(1.0, abs=0.2)


@pytest.mark.parametrize(
  ('low', 'high', 'want'),
  [
    (0.02, 0.04, 'weak'),
    (-0.04, -0.02, 'strong'),
    (-0.005, 0.008, 'equal'),
    (0.002, 0.008, 'equal'),
    (-0.01, 0.05, 'cannot tell'),
    (None, None, 'cannot tell'),
  ],
)
def test_verdicts(low, high, want):
  gap = {'value': 0.0, 'low': low, 'high': high}
  assert pairs.judge(gap, 0.01) == want


def test_the_pilot_that_could_tell_does():
  """With as many problems as asked for, four in five pilots decide."""
  row = pairs.compare(fitted(500, seed=1), 0, 1, (1.0, 3.0), 10, 0.01)
  gap = {'value': 0.057, 'low': -0.003, 'high': 0.117}
  needed = pairs.needed(gap, 500, 0.01)
  assert needed == pytest.approx(
    500 * (2.8 / 1.96 * 0.060 / 0.057) ** 2, rel=0.01
  )
  assert (row['problems_needed'] is None) == (row['verdict'] != 'cannot tell')
  # Of a finite number of problems there may be too few.
  assert pairs.needed(gap, 500, 0.01, needed) == needed
  assert pairs.needed(gap, 500, 0.01, needed - 1) is None
  # Nothing is to be had from a gap that lies on the margin.
  assert pairs.needed({'value': 0.0, 'low': None, 'high': None}, 9, 0.1) is None


@pytest.mark.parametrize('right', [0, 8])
def test_where_all_samples_are_alike_nothing_is_certain(right):
  row = pairs.compare(
    counts(np.full((2, 40), right)), 0, 1, (1.0, 2.0), 4, 0.01
  )
  assert row['verdict'] == 'cannot tell'
  assert row['gap_low'] < row['gap'] < row['gap_high']
  assert row['break_even_ratio'] is row['overtakes_at'] is None


def test_break_even_is_surer_of_known_problems():
  found = fitted(200)
  wide = pairs.compare(found, 0, 1, (1.0, 3.0), 4, 0.01)
  scale = joint.Scale(found, joint.Population(found), 200)
  narrow = pairs.compare(found, 0, 1, (1.0, 3.0), 4, 0.01, scale, 200)
  for stem in ('gap', 'break_even'):
    ends = [row[f'{stem}_high'] - row[f'{stem}_low'] for row in (narrow, wide)]
    assert 0 < ends[0] < ends[1]
  assert narrow['break_even_ratio'] == pytest.approx(wide['break_even_ratio'])


def test_one_problem_tells_nothing():
  row = pairs.compare(counts([[3], [5]]), 0, 1, (1.0, 2.0), 4, 0.01)
  assert (row['gap_low'], row['gap_high']) == (None, None)
  assert row['verdict'] == 'cannot tell'


def test_a_clear_difference_is_told():
  random = np.random.default_rng(0)
  right = np.stack(
    [random.binomial(8, 0.05, 200), random.binomial(8, 0.6, 200)]
  )
  row = pairs.compare(counts(right), 0, 1, (1.0, 1.5), 2, 0.01)
  assert row['verdict'] == 'strong'
  assert row['break_even_ratio'] > 5


def test_a_budget_below_one_weak_sample_is_refused():
  with pytest.raises(errors.InputError, match='cost_weak'):
    pairs.compare(fitted(100), 0, 1, (5.0, 1.0), 1, 0.01)


def test_none_overtakes_where_both_solve_all():
  """Models of one difficulty, the dearer one three times as dear."""
  random = np.random.default_rng(0)
  p_Q = random.beta(4, 1, 300)
  right = np.stack([random.binomial(8, p_Q), random.binomial(8, p_Q)])
  row = pairs.compare(counts(right), 0, 1, (1.0, 3.0), 2, 0.01)
  assert row['overtakes_at'] is None
