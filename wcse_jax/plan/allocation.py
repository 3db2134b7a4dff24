"""The best use of a budget: which policy for which problems.

Of every policy there is what it costs a problem and what it is worth.  Problems
of one level are alike to the planner, so a budget is spent on each level along
the upper hull of these points, where it brings most first; the last step is
taken with a share of the level's problems only, so that the budget is met.
That is the best that any split of the problems over the policies can do, and a
split over more samples for fewer problems is one of them: a problem may be
skipped.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from wcse_jax.plan import policies


Array = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Level:
  """Problems that the planner cannot tell apart.

  Attributes:
    name: the level's; empty where there is one for all.
    share: of all problems.
    p_XM: chances of a right sample on nodes that stand for them.
  """

  name: str
  share: float
  p_XM: Array


@dataclasses.dataclass(frozen=True)
class Costs:
  """What is paid, in one currency.

  Attributes:
    sample_M: of drawing a sample of each model.
    prompt_M: of reading the prompt of a round.
  """

  sample_M: Array
  prompt_M: Array

  def of(self, outcome: policies.Outcome) -> float:
    """Returns the expected cost of a problem."""
    drawn_M = outcome.drawn_XM.mean(axis=0)
    asked_M = outcome.asked_XM.mean(axis=0)
    return float(drawn_M @ self.sample_M + asked_M @ self.prompt_M)


@dataclasses.dataclass(frozen=True)
class Part:
  """What is done with a share of one level's problems.

  Attributes:
    level: the name.
    share: of the level's problems.
    policy: what is done with each.
  """

  level: str
  share: float
  policy: policies.Policy


@dataclasses.dataclass(frozen=True)
class Plan:
  """What is done with all problems, and what comes of it, a problem.

  Attributes:
    parts: those of each level add up to all of it.
    cost: in the planner's currency.
    value: of the objective.
    covered: coverage.
    right_M: right samples by model.
    drawn_M: samples by model.
  """

  parts: tuple[Part, ...]
  cost: float
  value: float
  covered: float
  right_M: Array
  drawn_M: Array

  @property
  def kind(self) -> str:
    """The most involved kind of its parts."""
    return max(
      (part.policy.kind for part in self.parts if part.share > 0),
      key=policies.KINDS.index,
    )


# What an outcome on some nodes is worth, of each node.
Worth = Callable[[policies.Outcome, Array], Array]


def covered(outcome: policies.Outcome, p_XM: Array) -> Array:
  """Returns the chance that a problem is solved: the objective `coverage`."""
  del p_XM
  return outcome.solved_X


def right(outcome: policies.Outcome, p_XM: Array) -> Array:
  """Returns the right samples of a problem: the objective `right`."""
  return (outcome.drawn_XM * p_XM).sum(axis=1)


class Table:
  """Policies for a level, with cost and worth of each."""

  def __init__(
    self,
    level: Level,
    found: Sequence[tuple[policies.Policy, policies.Outcome]],
    costs: Costs,
    worth: Worth,
  ):
    self.level = level
    self.policies = [policy for policy, _ in found]
    self.cost_P = np.array([costs.of(out) for _, out in found])
    self.value_P = np.array([worth(out, level.p_XM).mean() for _, out in found])

  def hull(self, chosen_P: npt.NDArray[np.bool_]) -> list[int]:
    """Returns the policies on the upper hull, the cheapest first."""
    order = np.flatnonzero(chosen_P)
    order = order[np.lexsort((-self.value_P[order], self.cost_P[order]))]
    hull: list[int] = []
    for at in order:
      if hull and self.value_P[at] <= self.value_P[hull[-1]]:
        continue
      while len(hull) > 1 and self._slope(hull[-2], hull[-1]) <= self._slope(
        hull[-1], at
      ):
        hull.pop()
      hull.append(int(at))
    return hull

  def _slope(self, a: int, b: int) -> float:
    return (self.value_P[b] - self.value_P[a]) / max(
      self.cost_P[b] - self.cost_P[a], 1e-300
    )


def best(
  tables: Sequence[Table], budget: float, kinds: Sequence[str]
) -> tuple[Part, ...]:
  """Returns the parts of the best plan that costs `budget` a problem.

  Args:
    tables: of each level; their policies hold one that costs nothing.
    budget: cost a problem, on average over all levels.
    kinds: of `policies.KINDS`: which policies may be taken.
  """
  steps = []
  at: list[tuple[int, int, float]] = []
  for number, table in enumerate(tables):
    chosen_P = np.array([one.kind in kinds for one in table.policies])
    hull = table.hull(chosen_P)
    at.append((hull[0], hull[0], 0.0))
    for a, b in itertools.pairwise(hull):
      steps.append((-table._slope(a, b), number, a, b))
  # Within a level slopes fall, so that its steps come in their order.
  left = budget
  for _, number, a, b in sorted(steps):
    table = tables[number]
    price = (table.cost_P[b] - table.cost_P[a]) * table.level.share
    part = min(1.0, left / price) if price > 0 else 1.0
    at[number] = (a, b, part)
    left -= part * price
    if part < 1:
      break
  parts = []
  for table, (a, b, part) in zip(tables, at, strict=True):
    name = table.level.name
    if part < 1:
      parts.append(Part(name, 1 - part, table.policies[a]))
    if part > 0:
      parts.append(Part(name, part, table.policies[b]))
  return tuple(parts)


def best_pure(
  levels: Sequence[Level], budget: float, costs: Costs, model: int
) -> tuple[Part, ...]:
  """Returns as many samples of one model for every problem as are bought.

  Where that is not even one, a share of the problems gets one.
  """
  left = budget - costs.prompt_M[model]
  count = int(np.floor(left / costs.sample_M[model] * (1 + 1e-9)))
  share = 1.0
  if count < 1:
    count = 1
    share = min(1.0, budget / (costs.sample_M[model] + costs.prompt_M[model]))
  policy = policies.Policy((policies.Stage(model, count, count),))
  parts = []
  for level in levels:
    parts.append(Part(level.name, share, policy))
    if share < 1:
      parts.append(Part(level.name, 1 - share, policies.Policy()))
  return tuple(parts)


def plan(
  parts: Sequence[Part],
  levels: Sequence[Level],
  costs: Costs,
  worth: Worth,
) -> Plan:
  """Returns what comes of some parts."""
  by_name: Mapping[str, Level] = {level.name: level for level in levels}
  models = len(costs.sample_M)
  drawn_M, right_M = np.zeros(models), np.zeros(models)
  cost = value = solved = 0.0
  for part in parts:
    level = by_name[part.level]
    share = level.share * part.share
    out = policies.outcome(part.policy, level.p_XM)
    value += share * float(worth(out, level.p_XM).mean())
    solved += share * float(out.solved_X.mean())
    cost += share * costs.of(out)
    drawn_M += share * out.drawn_XM.mean(axis=0)
    right_M += share * (out.drawn_XM * level.p_XM).mean(axis=0)
  return Plan(tuple(parts), cost, value, solved, right_M, drawn_M)


def values(
  parts: Sequence[Part],
  weightings: Sequence[Sequence[Level]],
  costs: Costs,
  worth: Worth,
) -> Array:
  """Returns a plan's value by each of several readings of the levels, (D,)."""
  return np.array(
    [plan(parts, levels, costs, worth).value for levels in weightings]
  )


def gains(values_D: Array, pure_D: Array) -> bool:
  """Returns whether a plan is worth more than a pure arm for more than noise.

  A plan is chosen for its value, so a small gain is mostly the luck of the
  pilot.  It must be more than one deviation of itself over the resamples.

  Args:
    values_D: of the plan, as it is and by resamples.
    pure_D: likewise, of the best pure arm.
  """
  gain_D = values_D - pure_D
  return bool(gain_D[0] > gain_D[1:].std())
