"""The planner on pilots with a known truth: a shortened form.

The whole is `python -m wcse_jax.plan.simulation`; docs/results/planner.md.
"""

import numpy as np
import pytest

from wcse_jax.plan import simulation


def test_gaps_are_right_on_average_and_as_sure_as_they_say():
  rows = np.array([simulation.gaps('MATH', 0.8, 100, s) for s in range(40)])
  for row in simulation.summary_gaps('MATH', 0.8, rows):
    deviation = row['deviation'] / np.sqrt(len(rows))
    assert abs(row['bias']) < 0.003 + 2.5 * deviation
    # Of 40 a sure 95% is 33 or more in 998 of 1,000 cases.
    assert row['cover'] >= 33 / 40
    assert row['wrong_side'] <= 0.07
    assert row['spread_ratio'] < 1.25


@pytest.mark.parametrize('samples', [4, 16])
@pytest.mark.parametrize('number', [0, 3])
def test_other_shapes_are_within_the_spread(number, samples):
  rows = np.array(
    [simulation.shapes(number, samples, 60, s) for s in range(12)]
  )
  row = simulation.summary_shapes(number, samples, rows)
  assert row['ratio'] < 0.5
  assert row['spread_holds'] >= 10 / 12


def test_chosen_plans_are_nearly_the_best():
  rows = np.array([simulation.allocations('MATH', 0.5, s) for s in range(2)])
  for row in simulation.summary_allocation('MATH', 0.5, rows):
    assert row['of_best'] >= 0.97
    assert row['least_of_pure'] >= 0.97
    assert row['chosen'] <= row['best'] + 0.005


@pytest.mark.slow
def test_a_table_is_made_by_several_processes():
  rows = simulation.run('shapes', 2, 20, 2)
  assert len(rows) == 2 * len(simulation.SHAPES)


def test_what_is_left_when_the_money_ends_is_the_last_rounds():
  level = simulation.allocation.Level(
    '', 1.0, simulation.chances_of('MATH', 0.5, simulation.joint.normal(2, 256))
  )
  costs = simulation.allocation.Costs(np.array([1.0, 3.0]), np.zeros(2))
  parts = simulation.chosen(level, costs, 3.0)
  values = [
    simulation.capped(parts, level, costs, money)
    for money in (0.0, 1.0, 2.0, 2.9, 3.0, 50.0)
  ]
  assert values[0] == 0
  assert values == sorted(values)
  whole = simulation.allocation.plan(
    parts, [level], costs, simulation.allocation.covered
  )
  assert values[-1] == pytest.approx(whole.covered)
