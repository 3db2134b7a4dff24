import json

import numpy as np
import pytest

from wcse_jax.metrics import calibration, populations


GIVEN = {
  'accuracy': 0.48,
  'problems': 256,
  'replicates': 3,
  'run_deviation': 0.01,
  'disagreement': 0.3,
  'arms': 4,
}


@pytest.fixture(scope='module')
def found():
  return calibration.calibrate(**GIVEN)


def test_500_studies_of_the_quickstarts_size_hold_the_truth(found):
  assert found['studies'] == 500
  assert 0.93 <= found['coverage'] <= 0.97
  assert found['coverage_error'] == pytest.approx(0.007, abs=0.002)
  assert 0.02 <= found['false_alarms'] <= 0.08


def test_what_is_asked_about_is_found_in_four_of_five(found):
  (one,) = found['power_at']
  assert 0.02 < one['difference'] < 0.15
  assert 0.75 <= one['power'] <= 0.85


def test_a_seed_decides_all(found):
  assert calibration.calibrate(**GIVEN) == found
  assert calibration.calibrate(**GIVEN, seed=1) != found
  json.dumps(found, allow_nan=False)


def test_power_grows_with_the_difference_either_way():
  got = calibration.calibrate(
    **GIVEN, differences=(0.02, 0.08, 0.16, -0.16), studies=200
  )
  powers = [one['power'] for one in got['power_at']]
  assert powers[0] < powers[1] < powers[2]
  assert powers[3] == pytest.approx(powers[2], abs=0.08)


def test_blocks_do_not_change_who_is_looked_at(monkeypatch):
  students = populations.fitted(
    accuracies=(0.5, 0.5),
    deviations=(0.0, 0.0),
    disagreement=0.3,
    noise=0.3,
    problems=20,
    replicates=(2, 2),
  )
  monkeypatch.setattr(populations, 'BLOCK', 7 * 80)
  low, high = calibration.intervals(students, 30, np.random.default_rng(0))
  assert low.shape == high.shape == (30,)
  assert np.all(low < high)


def test_of_students_takes_their_size_and_components():
  students = populations.fitted(
    accuracies=(0.5, 0.45, 0.5),
    deviations=(0.02,) * 3,
    disagreement=0.3,
    noise=0.25,
    problems=300,
    replicates=(4, 3, 2),
  )
  arms = [one[0] for one in students.draw(1, np.random.default_rng(5))]
  got = calibration.of_students(*arms[:2], pooled=arms, studies=50)
  assert (got['problems'], got['replicates'], got['arms']) == (300, 3, 3)
  assert got['accuracy'] == pytest.approx((arms[0].mean() + arms[1].mean()) / 2)
  assert got['disagreement'] == pytest.approx(0.3, abs=0.06)
  assert 0.85 <= got['coverage'] <= 1


def test_nothing_is_told_where_nothing_is_known():
  solved = np.array([[1.0, 0.0, 1.0]])
  assert calibration.of_students(solved, solved) is None
  ones = np.ones((3, 10))
  assert calibration.of_students(ones, ones) is None


def test_students_that_are_all_alike_are_no_error():
  same = np.tile([[1.0, 0.0, 1.0, 1.0]], (2, 5))
  got = calibration.of_students(same, same, studies=20)
  assert got['coverage'] == 1.0
  json.dumps(got, allow_nan=False)
