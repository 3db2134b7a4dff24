"""How a budget is best spent on the problems of each level."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from wcse_jax.plan import (
  allocation,
  curves,
  joint,
  policies,
  settings,
)
from wcse_jax.plan import (
  given as inputs,
)


Array = npt.NDArray[np.float64]

# Levels with fewer problems of the pilot are planned with the others.
_LEVEL = 30
# Resamples, and nodes for each, of the intervals of a plan.
_DRAWS, _NODES = 40, 1024
# Samples of a problem by one model, if nothing else is said: this many times
# what the budget buys, and no more than that.
_TIMES, _MOST = 8, 512


@dataclasses.dataclass(frozen=True)
class _Group:
  """Problems of some levels, with the fits to their part of the pilot."""

  name: str
  share: float
  found: curves.Curves
  whole: joint.Population


def spend(
  config: settings.PlanConfig,
  given: inputs.Given,
  found: curves.Curves,
  whole: joint.Population,
  order: Sequence[int],
) -> dict[str, Any]:
  """Returns `allocation` of `plan.json`.

  Its intervals are those of an unlimited population: of a plan for a finite
  number of problems they are too wide.

  Args:
    config: the budget, and which plans to choose from.
    given: the pilot's levels, costs and worth.
    found: the fits to the whole pilot.
    whole: the population that they make.
    order: the models, the cheapest first.
  """
  paid, worth = given.paid, given.worth
  groups = _groups(config, found, whole, given.levels)
  levels = [_level(group, group.whole) for group in groups]
  money = config.budget * paid.mean_M.max()
  most = config.most_samples or min(
    _MOST, max(8, math.ceil(_TIMES * money / paid.mean_M.min()))
  )
  tables_ = [
    allocation.Table(
      level,
      list(
        policies.candidates(
          level.p_XM,
          kinds=config.policies,
          most=most,
          sizes=config.rounds,
          until=config.until,
          order=order,
        )
      ),
      paid.parts,
      worth,
    )
    for level in levels
  ]
  allowed = tuple(
    kind
    for kind in policies.KINDS
    if kind in (*config.policies, 'skip', 'pure')
  )
  chosen = allocation.best(tables_, money, allowed)
  pure = max(
    (allocation.best_pure(levels, money, paid.parts, m) for m in order),
    key=lambda parts: allocation.plan(parts, levels, paid.parts, worth).value,
  )
  resampled = [
    [_level(group, _resample(group, at)) for group in groups]
    for at in range(1, min(_DRAWS, config.draws) + 1)
  ]
  values_D, pure_D = (
    allocation.values(parts, [levels, *resampled], paid.parts, worth)
    for parts in (chosen, pure)
  )
  if not allocation.gains(values_D, pure_D):
    chosen, values_D = pure, pure_D
  here = allocation.plan(chosen, levels, paid.parts, worth)
  plain = allocation.plan(pure, levels, paid.parts, worth)
  names = found.pilot.names
  pure_model = next(
    (part.policy.stages[0] for part in pure if part.policy.stages), None
  )
  return {
    'objective': config.objective,
    'budget': money,
    'kind': here.kind,
    **_valued(values_D, found.pilot.problems),
    'coverage': here.covered,
    'cost': here.cost,
    'samples': dict(zip(names, here.drawn_M.tolist(), strict=True)),
    'right': dict(zip(names, here.right_M.tolist(), strict=True)),
    'false_positives': _false_positives(here, names, given.rates),
    'parts': [described(part, names) for part in chosen],
    'best_pure': {
      'model': names[pure_model.model] if pure_model else None,
      'samples': pure_model.samples if pure_model else 0,
      'share': max(
        (float(part.share) for part in pure if part.policy.stages), default=0.0
      ),
      'false_positives': _false_positives(plain, names, given.rates),
      **_valued(pure_D, found.pilot.problems),
    },
    'gain': _valued(values_D - pure_D, found.pilot.problems),
    'kinds': [
      _of_kind(kind, allowed, tables_, levels, money, given, names)
      for kind in allowed
      if kind != 'skip'
    ],
  }


def _of_kind(kind, allowed, tables_, levels, money, given, names):
  """Returns the best plan that is no more involved than a kind."""
  upto = allowed[: allowed.index(kind) + 1]
  found = allocation.plan(
    allocation.best(tables_, money, upto), levels, given.paid.parts, given.worth
  )
  return {
    'kind': kind,
    'value': found.value,
    'coverage': found.covered,
    'cost': found.cost,
    'false_positives': _false_positives(found, names, given.rates),
  }


def _false_positives(
  plan: allocation.Plan,
  names: Sequence[str],
  rates: Sequence[float | None],
) -> dict[str, float | None]:
  """Returns the right samples by wrong reasoning, a problem, by model."""
  return {
    name: None if rate is None else rate * float(plan.right_M[m])
    for m, (name, rate) in enumerate(zip(names, rates, strict=True))
  }


def _groups(config, found, whole, levels) -> list[_Group]:
  """Returns the levels that are planned apart.

  A level with too few problems, or too few samples of them, is taken together
  with the next one in order.
  """
  level_Q = np.array([str(one) for one in levels])
  members: list[list[str]] = []
  open_: list[str] = []
  for name in sorted(set(level_Q)):
    open_.append(name)
    if _large(found.pilot, np.isin(level_Q, open_)):
      members.append(open_)
      open_ = []
  if open_ and members:
    members[-1] += open_
  if len(members) < 2:
    return [_Group('', 1.0, found, whole)]
  groups = []
  for names in members:
    kept_Q = np.isin(level_Q, names)
    own = curves.Curves(
      found.pilot.of_problems(kept_Q),
      draws=min(_DRAWS, config.draws),
      seed=config.seed,
    )
    groups.append(
      _Group(','.join(names), float(kept_Q.mean()), own, joint.Population(own))
    )
  return groups


def _large(pilot: curves.Pilot, kept_Q: npt.NDArray[np.bool_]) -> bool:
  """Returns whether some problems of a pilot can be fitted apart."""
  part = pilot.of_problems(kept_Q)
  return part.problems >= _LEVEL and all(
    part.common(m) >= curves.LEAST for m in range(len(part.names))
  )


def _resample(group: _Group, at: int) -> joint.Population:
  return joint.Population(
    group.found, at, group.whole.correlation_MM, nodes=_NODES
  )


def _level(group: _Group, population: joint.Population) -> allocation.Level:
  return allocation.Level(group.name, group.share, population.p_XM)


def _valued(values_D: Array, problems: int) -> dict[str, float | None]:
  row: dict[str, float | None] = dict(curves.estimate(values_D))
  return row if problems > 1 else row | {'low': None, 'high': None}


def described(part: allocation.Part, names: Sequence[str]) -> dict[str, Any]:
  """Returns a part of a plan, ready for JSON."""
  return {
    'level': part.level,
    'share': float(part.share),
    'kind': part.policy.kind,
    'until': part.policy.until,
    'stages': [
      {
        'model': names[stage.model],
        'samples': stage.samples,
        'round': stage.round,
      }
      for stage in part.policy.stages
    ],
  }
