"""The best use of a budget."""

import itertools

import numpy as np
import pytest

from wcse_jax.plan import allocation, policies, simulation


_COSTS = allocation.Costs(np.array([1.0, 3.0]), np.zeros(2))


def _level(rho=0.8, name='', share=1.0, pair='MATH'):
  z = np.random.default_rng(0).standard_normal((2048, 2))
  return allocation.Level(name, share, simulation.chances_of(pair, rho, z))


def _table(level, worth=allocation.covered, kinds=policies.KINDS, most=24):
  found = policies.candidates(
    level.p_XM, kinds=kinds, most=most, sizes=(1,), until=(1,), order=(0, 1)
  )
  return allocation.Table(level, list(found), _COSTS, worth)


@pytest.mark.parametrize('budget', [0.4, 3.0, 10.0])
@pytest.mark.parametrize('rho', [0.0, 0.8, 1.0])
def test_a_plan_meets_its_budget_and_beats_the_pure_arms(budget, rho):
  level = _level(rho)
  table = _table(level)
  found = allocation.plan(
    allocation.best([table], budget, policies.KINDS),
    [level],
    _COSTS,
    allocation.covered,
  )
  assert found.cost == pytest.approx(budget)
  assert found.value == pytest.approx(found.covered)
  for model in (0, 1):
    pure = allocation.plan(
      allocation.best_pure([level], budget, _COSTS, model),
      [level],
      _COSTS,
      allocation.covered,
    )
    assert pure.cost <= budget
    assert found.value >= pure.value - 1e-12


def test_more_kinds_are_never_worse():
  level = _level(0.5)
  table = _table(level)
  values = [
    allocation.plan(
      allocation.best([table], 6.0, policies.KINDS[: i + 1]),
      [level],
      _COSTS,
      allocation.covered,
    ).value
    for i in range(1, len(policies.KINDS))
  ]
  assert values == sorted(values)
  assert values[-1] > values[0] + 0.05


def test_no_two_policies_do_better():
  """Against every pair of policies, mixed so that the budget is met."""
  level = _level(0.8)
  table = _table(level, most=6)
  budget = 4.0
  best = 0.0
  pairs = itertools.combinations(range(len(table.policies)), 2)
  for a, b in pairs:
    low, high = sorted((a, b), key=lambda i: table.cost_P[i])
    if table.cost_P[low] <= budget <= table.cost_P[high] > table.cost_P[low]:
      share = (budget - table.cost_P[low]) / (
        table.cost_P[high] - table.cost_P[low]
      )
      mixed = (1 - share) * table.value_P[low] + share * table.value_P[high]
      best = max(best, mixed)
  found = allocation.plan(
    allocation.best([table], budget, policies.KINDS),
    [level],
    _COSTS,
    allocation.covered,
  )
  assert found.value == pytest.approx(best, abs=1e-9)


def test_levels_get_what_they_need():
  """Planned apart, easy problems leave more to the hard ones."""
  easy = _level(name='1', share=0.5, pair='GSM8K')
  hard = _level(name='5', share=0.5)
  kinds = ('skip', 'pure')
  tables = [_table(level, kinds=kinds) for level in (easy, hard)]
  apart = allocation.plan(
    allocation.best(tables, 4.0, kinds),
    [easy, hard],
    _COSTS,
    allocation.covered,
  )
  alike = allocation.plan(
    allocation.best_pure([easy, hard], 4.0, _COSTS, 0),
    [easy, hard],
    _COSTS,
    allocation.covered,
  )
  assert apart.cost == pytest.approx(4.0)
  assert apart.value > alike.value
  for name in ('1', '5'):
    shares = [part.share for part in apart.parts if part.level == name]
    assert sum(shares) == pytest.approx(1)


def test_right_samples_come_from_where_they_are_cheapest():
  level = _level(0.8)
  found = allocation.plan(
    allocation.best(
      [_table(level, allocation.right, kinds=('skip', 'pure', 'mix'))],
      5.0,
      policies.KINDS,
    ),
    [level],
    _COSTS,
    allocation.right,
  )
  # p over cost is 0.27 against 0.33 / 3.
  assert found.drawn_M[1] == 0
  assert found.value == pytest.approx(found.right_M.sum())


def test_a_budget_below_one_sample_draws_for_a_share_of_the_problems():
  level = _level()
  costs = allocation.Costs(np.array([1.0, 3.0]), np.array([1.0, 2.0]))
  drawn, skipped = allocation.best_pure([level], 0.5, costs, 1)
  assert (drawn.policy.kind, skipped.policy.kind) == ('pure', 'skip')
  assert drawn.share == pytest.approx(0.1)
  parts = (drawn, skipped)
  found = allocation.plan(parts, [level], costs, allocation.covered)
  assert found.cost == pytest.approx(0.5)


def test_dear_prompts_make_rounds_larger():
  level = _level(0.8)
  found = list(
    policies.candidates(
      level.p_XM,
      kinds=policies.KINDS,
      most=24,
      sizes=(1, 4),
      until=(1,),
      order=(0, 1),
    )
  )
  sizes = []
  for prompt in (0.0, 4.0):
    costs = allocation.Costs(np.array([1.0, 3.0]), np.full(2, prompt))
    table = allocation.Table(level, found, costs, allocation.covered)
    parts = allocation.best([table], 20.0, policies.KINDS)
    plan = allocation.plan(parts, [level], costs, allocation.covered)
    assert plan.cost == pytest.approx(20.0)
    sizes.append(max(part.policy.stages[0].round for part in parts))
  assert sizes[0] == 1
  assert sizes[1] >= 4


@pytest.mark.parametrize(
  ('gain_D', 'want'),
  [
    ([0.05, 0.04, 0.06, 0.05], True),
    ([0.01, 0.05, -0.05, 0.0], False),
    ([0.0, 0.0, 0.0, 0.0], False),
    ([-0.02, -0.02, -0.02, -0.02], False),
  ],
)
def test_a_gain_within_its_noise_is_none(gain_D, want):
  pure_D = np.full(4, 0.3)
  assert allocation.gains(pure_D + np.array(gain_D), pure_D) is want


def test_the_values_of_a_plan_are_those_of_each_reading():
  levels = [[_level(rho)] for rho in (0.0, 1.0)]
  parts = allocation.best_pure(levels[0], 6.0, _COSTS, 0)
  found = allocation.values(parts, levels, _COSTS, allocation.covered)
  assert found == pytest.approx(
    [
      allocation.plan(parts, one, _COSTS, allocation.covered).value
      for one in levels
    ]
  )
  # Of one model alone the correlation does not matter.
  assert found[0] == pytest.approx(found[1], abs=0.02)
