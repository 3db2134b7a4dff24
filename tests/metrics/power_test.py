import json
import math

import numpy as np
import pytest
from scipy import stats

from wcse_jax.metrics import calibration, intervals, populations, power


def _students(accuracies, deviation, disagreement, noise, problems, replicates):
  return populations.fitted(
    accuracies=accuracies,
    deviations=[deviation] * len(accuracies),
    disagreement=disagreement,
    noise=noise,
    problems=problems,
    replicates=[replicates] * len(accuracies),
  )


@pytest.mark.parametrize(
  ('problems', 'replicates', 'deviation', 'disagreement', 'noise', 'arms'),
  [
    (256, 3, 0.01, 0.3, 0.28, 2),
    (256, 3, 0.02, 0.3, 0.3, 4),
    (1319, 2, 0.01, 0.25, 0.2, 4),
    (500, 10, 0.02, 0.2, 0.15, 2),
  ],
)
def test_the_detectable_difference_is_found_in_four_studies_of_five(
  problems, replicates, deviation, disagreement, noise, arms
):
  smallest = power.detectable(
    problems=problems,
    replicates=replicates,
    run_deviation=deviation,
    disagreement=disagreement,
    noise=noise,
    arms=arms,
  )
  students = _students(
    (0.4 + smallest / 2, 0.4 - smallest / 2, *[0.4] * (arms - 2)),
    deviation,
    disagreement,
    noise,
    problems,
    replicates,
  )
  low, high = calibration.intervals(students, 400, np.random.default_rng(1))
  # The share's own error is 2 points.
  assert 0.75 <= np.mean((low > 0) | (high < 0)) <= 0.85


def test_more_of_anything_finds_less():
  given = {
    'problems': 256,
    'replicates': 3,
    'run_deviation': 0.01,
    'disagreement': 0.3,
  }
  base = power.detectable(**given)
  for change in (
    {'problems': 1319},
    {'replicates': 5},
    {'arms': 4},
    {'run_deviation': 0.0},
    {'disagreement': 0.2},
    {'power': 0.5},
    {'level': 0.2},
  ):
    assert power.detectable(**(given | change)) < base


def test_with_runs_without_end_and_no_noise_it_is_the_textbooks():
  got = power.detectable(
    problems=10**6,
    replicates=1000,
    run_deviation=0.02,
    disagreement=0.0,
    noise=0.0,
  )
  error = 0.02 * math.sqrt(2 / 1000)
  want = error * (stats.norm.ppf(0.975) + stats.norm.ppf(0.8))
  # A difference of d has at least d of the problems apart.
  assert got == pytest.approx(want, rel=0.1)


def test_one_replicate_finds_nothing():
  assert math.isinf(
    power.detectable(
      problems=256, replicates=1, run_deviation=0.0, disagreement=0.3
    )
  )


def test_gap_is_found_in_four_studies_of_five():
  problems, disagreement = 192, 0.25
  gap = power.detectable_gap(problems=problems, disagreement=disagreement)
  random = np.random.default_rng(2)
  ahead = (disagreement + gap) / 2
  found = 0
  for _ in range(1000):
    drawn_Q = random.random(problems)
    a_Q = drawn_Q < ahead
    b_Q = (drawn_Q >= ahead) & (drawn_Q < disagreement)
    got = intervals.difference(a_Q, b_Q)
    found += not got['low'] <= 0 <= got['high']
  assert 0.76 <= found / 1000 <= 0.84


def test_a_gap_needs_as_much_disagreement_as_itself():
  got = power.detectable_gap(problems=20, disagreement=0.001)
  assert 0 < got < 1
  assert got > power.detectable_gap(problems=200, disagreement=0.001)


def test_components_are_what_the_students_were_made_with():
  students = _students((0.5, 0.45, 0.45), 0.03, 0.35, 0.25, 800, 6)
  a, b, c = (
    arm_YRQ.astype(float)
    for arm_YRQ in students.draw(60, np.random.default_rng(3))
  )
  found = [
    power.components(a[y], b[y], pooled=[a[y], b[y], c[y]]) for y in range(60)
  ]
  mean = {key: np.mean([one[key] for one in found]) for key in found[0]}
  assert mean['disagreement'] == pytest.approx(0.35, abs=0.01)
  # Less what runs' own accuracies differ by.
  assert mean['noise'] == pytest.approx(0.25 - 2 * 0.03**2, abs=0.01)
  assert mean['run_deviation'] == pytest.approx(0.03, abs=0.002)
  # 90% of them; the share's own error is 4 points.
  above = np.mean([one['run_deviation_high'] > 0.03 for one in found])
  assert 0.8 <= above <= 0.99


def test_disagreement_by_pairs():
  random = np.random.default_rng(4)
  a_RQ, b_RQ = random.random((2, 9)) < 0.5, random.random((3, 9)) < 0.6
  pairs = [np.mean(a_Q != b_Q) for a_Q in a_RQ for b_Q in b_RQ]
  got = power.components(a_RQ, b_RQ)
  assert got['disagreement'] == pytest.approx(np.mean(pairs))
  json.dumps(got, allow_nan=False)


def test_of_one_replicate_runs_are_not_known():
  got = power.components([[1, 0, 1]], [[1, 1, 0]])
  assert got['disagreement'] == pytest.approx(2 / 3)
  assert (
    got['run_deviation'] is got['run_deviation_high'] is got['noise'] is None
  )


@pytest.mark.parametrize(
  ('change', 'named'),
  [
    ({'problems': 1}, 'problems'),
    ({'replicates': 0}, 'replicates'),
    ({'arms': 1}, 'arms'),
    ({'level': 0.0}, 'level'),
    ({'power': 1.0}, 'power'),
    ({'run_deviation': -0.1}, 'run_deviation'),
    ({'disagreement': 1.5}, 'disagreement'),
    ({'noise': -1.0}, 'noise'),
  ],
)
def test_refuses_what_is_out_of_range(change, named):
  given = {
    'problems': 10,
    'replicates': 2,
    'run_deviation': 0.01,
    'disagreement': 0.3,
  }
  with pytest.raises(ValueError, match=named):
    power.detectable(**(given | change))


@pytest.mark.parametrize('shapes', [((0, 3), (1, 3)), ((2, 3), (2, 4))])
def test_components_refuse_other_problems(shapes):
  with pytest.raises(ValueError, match='same problems'):
    power.components(*map(np.zeros, shapes))
