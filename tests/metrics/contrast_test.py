"""Gaps and break-even ratios, on models whose truth is known."""

import math

import numpy as np
import pytest

from wcse_jax import records
from wcse_jax.metrics import contrast, measure


def table(rates, samples, seed):
  """Returns a table of `samples` draws of each problem at its rate."""
  random = np.random.default_rng(seed)
  problems = [
    records.Problem(id=f'p{q}', task='t', question='', answer='')
    for q in range(len(rates))
  ]
  grades = []
  for problem, rate in zip(problems, rates, strict=True):
    for index, right in enumerate(random.random(samples) < rate):
      grades.append(
        records.Grade(
          problem_id=problem.id,
          index=index,
          answer='',
          correct=bool(right),
          verdict='right' if right else 'wrong',
          sound=None,
          why='',
        )
      )
  return measure.Table.from_rows(problems, None, grades)


@pytest.fixture(scope='module')
def pair():
  """Returns tables of Beta-distributed rates: the paper's MATH pair."""
  random = np.random.default_rng(0)
  weak = table(random.beta(0.300, 0.825, 400), 64, seed=1)
  strong = table(random.beta(0.316, 0.652, 400), 64, seed=2)
  return weak, strong


def cover(a, b, k):
  """Returns coverage@k of Beta(a, b): 1 - B(a, b + k) / B(a, b)."""

  def log_beta(x, y):
    return math.lgamma(x) + math.lgamma(y) - math.lgamma(x + y)

  return 1 - math.exp(log_beta(a, b + k) - log_beta(a, b))


def test_gap_is_that_of_the_known_curves(pair):
  gap = contrast.gap(*pair, 30, 10)
  truth = cover(0.300, 0.825, 30) - cover(0.316, 0.652, 10)
  assert gap['low'] < truth < gap['high']
  assert gap['n'] == 400


def test_verdicts_follow_the_counts(pair):
  assert contrast.verdict(contrast.gap(*pair, 1, 4)) == 'strong'
  assert contrast.verdict(contrast.gap(*pair, 60, 1)) == 'weak'


def test_verdict_needs_the_whole_interval():
  row = {'value': 0.1, 'low': -0.01, 'high': 0.2, 'n': 9}
  assert contrast.verdict(row) == 'cannot tell'
  unknown = {'value': 0.1, 'low': None, 'high': None, 'n': 1}
  assert contrast.verdict(unknown) == 'cannot tell'


def test_break_even_is_where_the_curves_meet(pair):
  found = contrast.break_even(*pair, 10, draws=400)
  level = cover(0.316, 0.652, 10)
  k = next(k for k in range(1, 200) if cover(0.300, 0.825, k) >= level)
  assert found['low'] < k / 10 < found['high']
  assert found['low'] < found['ratio'] < found['high']


def test_break_even_beyond_the_samples_is_open(pair):
  weak, strong = pair
  found = contrast.break_even(weak.restrict(0, 4), strong, 40, draws=50)
  assert found['ratio'] is None
  assert found['high'] is None


def test_other_problems_are_refused(pair):
  other = table([0.5] * 3, 4, seed=0)
  with pytest.raises(ValueError, match='same problems'):
    contrast.gap(pair[0], other, 1, 1)
