"""Gaps and break-even ratios, on models whose truth is known."""

import math

import numpy as np
import pytest

from wcse_jax import records
from wcse_jax.metrics import contrast, coverage, extrapolation, measure


def table(rates, samples, seed, cut=0):
  """Returns a table of `samples` draws of each problem at its rate.

  Of the first `cut` problems only three could be graded.
  """
  random = np.random.default_rng(seed)
  problems = [
    records.Problem(id=f'p{q}', task='t', question='', answer='')
    for q in range(len(rates))
  ]
  grades = []
  for at, (problem, rate) in enumerate(zip(problems, rates, strict=True)):
    for index, right in enumerate(random.random(samples) < rate):
      lost = at < cut and index >= 3
      grades.append(
        records.Grade(
          problem_id=problem.id,
          index=index,
          answer='',
          correct=None if lost else bool(right),
          verdict='timeout' if lost else 'right' if right else 'wrong',
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


def test_problems_with_ungraded_samples_are_left_out_and_counted(pair):
  random = np.random.default_rng(0)
  weak_rates = random.beta(0.300, 0.825, 400)
  some = table(weak_rates, 64, seed=1, cut=5)
  assert some.n_Q[:6].tolist() == [3] * 5 + [64]
  gap = contrast.gap(some, pair[1], 30, 10)
  assert gap['n'] == 395
  assert contrast.gap(some, pair[1], 3, 10)['n'] == 400
  whole = contrast.gap(*pair, 30, 10)
  assert gap['value'] == pytest.approx(whole['value'], abs=0.02)
  found = contrast.break_even(some, pair[1], 10, draws=50)
  assert found['n'] == 395
  whole = contrast.break_even(*pair, 10, draws=50)
  assert found['ratio'] == pytest.approx(whole['ratio'], rel=0.05)
  none = table([0.5] * 9, 8, seed=0, cut=9)
  full = table([0.5] * 9, 8, seed=0)
  assert contrast.gap(none, full, 4, 4)['value'] is None
  assert contrast.break_even(full, none, 4)['ratio'] is None


def test_other_problems_are_refused(pair):
  other = table([0.5] * 3, 4, seed=0)
  with pytest.raises(ValueError, match='same problems'):
    contrast.gap(pair[0], other, 1, 1)


def test_compare_has_the_measures_of_one_less_those_of_the_other(pair):
  weak, strong = pair
  ks = [1, 8]
  got = contrast.compare(weak, strong, ks)
  a, b = measure.measure(weak, ks), measure.measure(strong, ks)
  for name in ('coverage', 'majority'):
    for row, x, y in zip(got[name], a[name], b[name], strict=True):
      assert row['k'] == x['k']
      assert row['value'] == pytest.approx(x['value'] - y['value'])
      assert row['low'] < row['value'] < row['high']
  assert got['pass@1']['value'] == pytest.approx(
    a['pass@1']['value'] - b['pass@1']['value']
  )
  assert got['coverage'][1] == pytest.approx(
    {'k': 8, **contrast.gap(weak, strong, 8, 8)}
  )
  assert got['false_positive_rate']['value'] is None
  assert got['diversity'] == []


def test_compare_takes_the_problems_that_both_have():
  rates = np.full(6, 0.5)
  a, b = table(rates, 8, seed=5), table(rates, 4, seed=6)
  got = contrast.compare(a.restrict(0, 8), b, [4, 8])
  assert [row['n'] for row in got['coverage']] == [6, 0]
  assert got['coverage'][1]['value'] is None


def test_pairing_narrows_the_interval_of_models_alike():
  rates = np.random.default_rng(7).beta(0.3, 0.8, 300)
  a, b = table(rates, 32, seed=8), table(rates, 32, seed=9)
  got = contrast.compare(a, b, [1, 4])
  for name in ('coverage', 'majority'):
    for at, row in enumerate(got[name]):
      apart = [measure.measure(t, [1, 4])[name][at] for t in (a, b)]
      unpaired = np.hypot(*(one['high'] - one['low'] for one in apart))
      assert row['high'] - row['low'] < 0.7 * unpaired


def test_compare_by_level_and_subject():
  made = []
  for seed in (1, 2):
    problems = [
      records.Problem(
        id=f'p{q}',
        task='t',
        question='',
        answer='',
        level=str(q % 2),
        subject='s' if q < 4 else 'r',
      )
      for q in range(6)
    ]
    random = np.random.default_rng(seed)
    grades = [
      records.Grade(
        problem_id=problem.id,
        index=i,
        answer='',
        correct=bool(right),
        verdict='right' if right else 'wrong',
        sound=None,
        why='',
      )
      for problem in problems
      for i, right in enumerate(random.random(4) < 0.5)
    ]
    made.append(measure.Table.from_rows(problems, None, grades))
  got = contrast.compare(*made, [2])
  assert [row['level'] for row in got['by_level']] == ['0', '1']
  assert [row['subject'] for row in got['by_subject']] == ['r', 's']
  part = got['by_subject'][1]
  assert part['problems'] == part['coverage'][0]['n'] == 4
  covered = [coverage.coverage(4, t.right_Q[:4], 2).mean() for t in made]
  want = covered[0] - covered[1]
  assert part['coverage'][0]['value'] == pytest.approx(want)


def test_compare_refuses_other_problems(pair):
  with pytest.raises(ValueError, match='same problems'):
    contrast.compare(pair[0], table(np.full(3, 0.5), 4, seed=1), [1])


def test_gap_beyond_the_samples_is_marked(pair):
  weak, strong = pair
  few_w, few_s = weak.restrict(0, 12), strong.restrict(0, 4)
  inside = contrast.gap(few_w, few_s, 12, 4, extrapolate=True)
  assert inside['extrapolated'] is False
  assert inside['value'] == contrast.gap(few_w, few_s, 12, 4)['value']
  beyond = contrast.gap(few_w, few_s, 48, 16, extrapolate=True)
  assert beyond['extrapolated'] is True
  truth = contrast.gap(weak, strong, 48, 16)
  assert beyond['low'] <= truth['value'] <= beyond['high']
  one = extrapolation.coverage_at(few_w.n_Q, few_w.right_Q, [48])[0]
  other = extrapolation.coverage_at(few_s.n_Q, few_s.right_Q, [16])[0]
  assert beyond['value'] == pytest.approx(one['value'] - other['value'])
  none = contrast.gap(few_w, few_s, 48, 16)
  assert (none['value'], none['n']) == (None, 0)
