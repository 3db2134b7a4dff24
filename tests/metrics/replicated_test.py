import json

import numpy as np
import pytest
from scipy import stats

from wcse_jax.metrics import intervals, populations, replicated


def _students(seed, replicates=4, problems=30, lift=0.0):
  random = np.random.default_rng(seed)
  ease_Q = random.random(problems)
  run_R1 = random.normal(lift, 0.05, (replicates, 1))
  return (random.random((replicates, problems)) < ease_Q + run_R1).astype(float)


def _mean_squares(values_RQ):
  """Returns those of problems, runs and what is left, of the textbook."""
  replicates, problems = values_RQ.shape
  mean = values_RQ.mean()
  of_problems = of_runs = left = 0.0
  for r in range(replicates):
    of_runs += problems * (values_RQ[r].mean() - mean) ** 2
    for q in range(problems):
      fit = values_RQ[r].mean() + values_RQ[:, q].mean() - mean
      left += (values_RQ[r, q] - fit) ** 2
  for q in range(problems):
    of_problems += replicates * (values_RQ[:, q].mean() - mean) ** 2
  return (
    of_problems / (problems - 1),
    of_runs / (replicates - 1),
    left / (problems - 1) / (replicates - 1),
  )


def test_moments_are_mean_squares_by_hand():
  values_RQ = _students(1)
  problems, between, left = _mean_squares(values_RQ)
  got = replicated.moments(values_RQ)
  assert got.mean == pytest.approx(values_RQ.mean())
  assert got.between == pytest.approx(between / 30)
  assert got.noise == pytest.approx(left / 30)
  assert got.problem_Q.var(ddof=1) == pytest.approx(problems / 4)


def test_variance_of_a_mean_is_that_of_two_way_random_effects():
  values_RQ = _students(2, replicates=5, problems=40)
  problems, between, left = _mean_squares(values_RQ)
  # The unbiased variance of the grand mean.
  want = (problems + between - left) / (5 * 40)
  assert problems > left
  got = replicated.mean(values_RQ)
  assert got['standard_error'] ** 2 == pytest.approx(want)


def test_variance_between_problems_is_never_below_0():
  # Each problem is solved by one of two runs: problems are less unlike than
  # their noise.
  values_RQ = np.array([[1, 0] * 20, [0, 1] * 20], float)
  got = replicated.mean(values_RQ)
  assert got['standard_error'] == 0.0
  # Then as for so many trials, and not a width of 0.
  assert got['low'] == pytest.approx(0.35, abs=0.02)


def test_runs_are_pooled_by_their_degrees_of_freedom():
  arms = [_students(3, 2), _students(4, 5), _students(5, 3)]
  got = replicated.runs([replicated.moments(one) for one in arms])
  parts = [(len(one) - 1, one.mean(1).var(ddof=1)) for one in arms]
  assert got.degrees == 7
  assert got.between == pytest.approx(sum(d * v for d, v in parts) / 7)


def test_quantile_lies_between_those_of_its_parts():
  few, many = stats.t.ppf(0.975, 2), stats.t.ppf(0.975, 199)
  assert replicated.quantile(1.0, 0.0, 2, 200) == pytest.approx(few)
  assert replicated.quantile(0.0, 1.0, 2, 200) == pytest.approx(many)
  assert replicated.quantile(1.0, 3.0, 2, 200) == pytest.approx(
    few / 4 + 3 * many / 4
  )
  assert replicated.quantile(0.0, 0.0, 2, 200) == pytest.approx(many)


def test_difference_is_paired_by_problem():
  a_RQ, b_RQ = _students(6, 3), _students(6, 3)
  apart_RQ = np.random.default_rng(0).permutation(b_RQ.T).T
  paired, other = (replicated.difference(a_RQ, b) for b in (b_RQ, apart_RQ))
  assert paired['value'] == pytest.approx(other['value'])
  assert paired['standard_error'] < 0.75 * other['standard_error']


def test_difference_turns_round():
  a_RQ, b_RQ = _students(7, 3), _students(8, 2, lift=0.2)
  one, other = (
    replicated.difference(a_RQ, b_RQ),
    replicated.difference(b_RQ, a_RQ),
  )
  assert one['value'] == pytest.approx(a_RQ.mean() - b_RQ.mean())
  assert (one['low'], one['high']) == pytest.approx(
    (-other['high'], -other['low'])
  )
  assert one['p'] == pytest.approx(other['p'])
  assert one['replicates'] == other['replicates'] == 2


def test_p_is_below_5_percent_where_the_interval_leaves_0_out():
  seen = set()
  for seed in range(30):
    got = replicated.difference(
      _students(seed, 3, 200, 0.06), _students(seed + 100, 3, 200)
    )
    outside = not got['low'] <= 0 <= got['high']
    assert outside == (got['p'] < 0.05)
    seen.add(outside)
  assert seen == {True, False}


def test_the_interval_is_at_students_t_of_the_degrees_told():
  got = replicated.difference(_students(9), _students(10))
  half = stats.t.ppf(0.975, got['degrees']) * got['standard_error']
  assert got['high'] - got['value'] == pytest.approx(half)
  assert got['p'] == pytest.approx(
    2 * stats.t.sf(abs(got['value']) / got['standard_error'], got['degrees'])
  )


def test_more_arms_pooled_make_it_narrower():
  arms = [_students(seed, 2) for seed in (11, 12, 13, 14)]
  two = replicated.difference(*arms[:2])
  four = replicated.difference(*arms[:2], pooled=[arms[0], arms[1]] * 4)
  assert two['value'] == four['value']
  assert four['high'] - four['low'] < 0.7 * (two['high'] - two['low'])


def test_one_replicate_speaks_of_problems_alone():
  a_RQ, b_RQ = _students(15, 1), _students(16, 1)
  got = replicated.difference(a_RQ, b_RQ)
  want = intervals.difference(a_RQ[0], b_RQ[0])
  assert (got['low'], got['high']) == pytest.approx((want['low'], want['high']))
  assert not got['runs']
  one, plain = replicated.mean(a_RQ), intervals.mean(a_RQ[0])
  assert (one['low'], one['high']) == pytest.approx(
    (plain['low'], plain['high'])
  )
  # What other arms' runs tell is used.
  known = replicated.mean(a_RQ, pooled=[a_RQ, _students(17)])
  assert known['runs']
  assert known['high'] - known['low'] > one['high'] - one['low']


def test_runs_that_solve_as_many_are_not_certain():
  # Either arm's runs solve two problems, but not the same ones: no variance
  # between runs, and less over problems than the noise explains.
  a_RQ = np.array([[1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0]], float)
  b_RQ = np.array([[0, 1, 1, 0, 0, 0], [1, 0, 0, 0, 1, 0]], float)
  got = replicated.difference(a_RQ, b_RQ)
  each_Q = a_RQ.mean(0) - b_RQ.mean(0)
  assert got['standard_error'] ** 2 == pytest.approx(each_Q.var(ddof=1) / 6)
  assert got['low'] < 0 < got['high']
  assert got['p'] == 1.0


def test_students_that_are_alike_differ_on_one_problem_at_most():
  same_RQ = np.tile(_students(18, 1, 100), (3, 1))
  got = replicated.difference(same_RQ, same_RQ)
  assert got['value'] == 0.0
  assert got['high'] == pytest.approx(stats.t.ppf(0.975, 99) / 100)
  assert got['low'] == -got['high']
  assert got['p'] == 1.0


@pytest.mark.parametrize('share', [0.0, 1.0])
def test_all_or_none_solved_has_the_width_of_so_many_trials(share):
  got = replicated.mean(np.full((3, 50), share))
  t = stats.t.ppf(0.975, 49)
  width = t**2 / (50 + t**2)
  assert got['value'] == share
  assert got['high'] - got['low'] == pytest.approx(width)
  assert 0 <= got['low'] <= got['high'] <= 1


def test_bounds_of_a_difference_stay_within_1():
  a_RQ, b_RQ = np.ones((2, 3)), np.zeros((2, 3))
  a_RQ[0, :2] = 0
  got = replicated.difference(a_RQ, b_RQ)
  assert got['high'] == 1.0
  assert got['low'] >= -1.0


def test_leading_axes_equal_loops():
  random = np.random.default_rng(19)
  arms = [
    (random.random((5, count, 20)) < 0.6).astype(np.float32)
    for count in (3, 2, 4)
  ]
  whole = [replicated.moments(one) for one in arms]
  known = replicated.runs(whole)
  gaps = replicated.difference_of(*whole[:2], known)
  means = replicated.mean_of(whole[0], known)
  for study in range(5):
    own = [one[study] for one in arms]
    gap = replicated.difference(*own[:2], pooled=own)
    mean = replicated.mean(own[0], pooled=own)
    for found, want in ((gaps, gap), (means, mean)):
      assert found.value[study] == pytest.approx(want['value'], abs=1e-7)
      assert found.low[study] == pytest.approx(want['low'], abs=1e-7)
      assert found.high[study] == pytest.approx(want['high'], abs=1e-7)
      assert found.error[study] == pytest.approx(want['standard_error'])
    assert gaps.p[study] == pytest.approx(gap['p'])


def test_the_mean_of_an_arm_is_held_near_its_end():
  # 3 students of 95%, 256 problems, 800 studies: error of the share 0.8%.
  students = populations.fitted(
    accuracies=(0.95, 0.95),
    deviations=(0.01, 0.01),
    disagreement=0.05,
    noise=0.05,
    problems=256,
    replicates=(3, 3),
  )
  arms = students.draw(800, np.random.default_rng(20))
  whole = [replicated.moments(one) for one in arms]
  found = replicated.mean_of(whole[0], replicated.runs(whole))
  held = np.mean((found.low <= 0.95) & (found.high >= 0.95))
  assert 0.93 <= held <= 0.975
  assert np.all((found.low >= 0) & (found.high <= 1))


@pytest.mark.parametrize(
  ('values', 'want'),
  [
    (np.zeros((0, 5)), (None, None, None, 0, 0)),
    (np.zeros((3, 0)), (None, None, None, 0, 3)),
    ([[1.0], [0.0]], (0.5, None, None, 1, 2)),
  ],
)
def test_undefined_is_null(values, want):
  for got in (
    replicated.mean(values),
    replicated.difference(values, np.zeros_like(values)),
  ):
    assert (
      tuple(got[k] for k in ('value', 'low', 'high', 'n', 'replicates')) == want
    )
    assert not got['runs']
    json.dumps(got, allow_nan=False)


@pytest.mark.parametrize(
  ('call', 'named'),
  [
    (lambda: replicated.mean([1.0]), 'values_RQ'),
    (lambda: replicated.mean([[2.0, 0.0]]), 'values_RQ'),
    (lambda: replicated.mean([[np.nan, 0.0]]), 'values_RQ'),
    (lambda: replicated.difference([[1, 0]], [[1, -1]]), 'b_RQ'),
    (lambda: replicated.difference([[1, 0]], [[1, 0, 1]]), 'same problems'),
    (lambda: replicated.mean([[1, 0]], pooled=[[[1, 0, 1]]]), 'same problems'),
    (lambda: replicated.mean([[1, 0]], pooled=[[1, 0]]), 'pooled'),
  ],
)
def test_refuses_what_is_no_matrix_of_shares(call, named):
  with pytest.raises(ValueError, match=named):
    call()
