"""How good the planner is, on pilots of which the truth is known.

  python -m wcse_jax.plan.simulation --part=gaps --pilots=1000 > gaps.json

Populations are the beta distributions that fit the published curves of Gemma 2
9B and 27B on MATH and GSM8K; how hard both models find a problem is tied by a
normal copula.  Of every cell, so many pilots of 500 problems are drawn.

- `gaps`: bias, deviation, cover and verdicts of the gap in coverage, beside a
  maximum-likelihood fit of beta distributions: the true shape.
- `shapes`: coverage@100 where the shape is another than a beta distribution.
- `allocation`: what the chosen plan brings in truth, beside the best plan and
  the best pure arm for the truth.

Source of the curves: Bansal et al. 2024, arXiv:2408.16737.
"""

import argparse
import concurrent.futures
import dataclasses
import functools
import json
import math
import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from wcse_jax.metrics import chances
from wcse_jax.plan import allocation, curves, joint, pairs, policies


Array = npt.NDArray[np.float64]

# (a, b) of the weak and of the strong model.
PAIRS = {
  'MATH': ((0.300, 0.825), (0.316, 0.652)),
  'GSM8K': ((0.848, 0.437), (0.889, 0.270)),
}
CORRELATIONS = (0.0, 0.5, 0.8, 1.0)
BUDGETS = (1, 10)
RATIOS = (3.0, 1.3)
PROBLEMS, SAMPLES = 500, 16
MARGIN = 0.01
_TRUE_NODES = 1 << 14
_PLAN_NODES = 1024
# Resamples of a pilot, and nodes of each, for the noise of a plan's gain.
_RESAMPLES, _RESAMPLE_NODES = 20, 256


@dataclasses.dataclass(frozen=True)
class Shape:
  """A distribution of p that is no beta distribution.

  Attributes:
    name: for the table.
    mean: of the log-odds, or log a of a beta distribution.
    deviation: of the log-odds, or log b.
    never: share of problems with p = 0.
    normal: whether log-odds are normal.
  """

  name: str
  mean: float
  deviation: float
  never: float = 0.0
  normal: bool = True

  @property
  def reading(self) -> str:
    """Returns the label of the reading that is right."""
    family = 'logit-normal' if self.normal else 'beta'
    return curves.label(chances.Reading(family, bool(self.never), False))

  def p(self, random: np.random.Generator, count: int) -> Array:
    if self.normal:
      p = special.expit(random.normal(self.mean, self.deviation, count))
    else:
      p = random.beta(math.exp(self.mean), math.exp(self.deviation), count)
    return np.where(random.random(count) < self.never, 0.0, p)


SHAPES = (
  Shape('logit-normal (-1.5, 2)', -1.5, 2.0),
  Shape('logit-normal (0, 2.5)', 0.0, 2.5),
  Shape('logit-normal (1, 1.5)', 1.0, 1.5),
  Shape('10% never, MATH 9B', math.log(0.300), math.log(0.825), 0.1, False),
  Shape('10% never, GSM8K 9B', math.log(0.848), math.log(0.437), 0.1, False),
)


def pilot(
  name: str, rho: float, random: np.random.Generator, problems: int = PROBLEMS
) -> curves.Pilot:
  """Returns a pilot of the weak and the strong model of a pair."""
  p_XM = chances_of(name, rho, random.standard_normal((problems, 2)))
  right_MQ = random.binomial(SAMPLES, p_XM).T
  return curves.Pilot(
    ('weak', 'strong'), np.full(right_MQ.shape, SAMPLES), right_MQ
  )


def chances_of(name: str, rho: float, z_X2: Array) -> Array:
  """Returns p of both models on problems of independent normal numbers."""
  z_X2 = np.stack(
    [rho * z_X2[:, 1] + math.sqrt(1 - rho**2) * z_X2[:, 0], z_X2[:, 1]], 1
  )
  return np.stack(
    [
      special.betaincinv(a, b, special.ndtr(z_X2[:, m]))
      for m, (a, b) in enumerate(PAIRS[name])
    ],
    1,
  )


def truth(name: str, model: int, k: float) -> float:
  """Returns coverage@k."""
  a, b = PAIRS[name][model]
  return float(1 - np.exp(special.betaln(a, b + k) - special.betaln(a, b)))


def gaps(name: str, rho: float, draws: int, seed: int) -> list[list[float]]:
  """Returns (value, low, high) by the planner, then by the true shape.

  One row for each budget and ratio.
  """
  random = np.random.default_rng([seed, int(10 * rho), len(name)])
  one = pilot(name, rho, random)
  found = curves.Curves(one, draws=draws, seed=seed)
  rows = []
  for k, ratio in _cells():
    k_weak = math.floor(k * ratio)
    ours_D = found.covered(0, k_weak)[:, 0] - found.covered(1, k)[:, 0]
    # Reading 0 is a beta distribution alone.
    true_D = (
      found.fits[1][0].none(k)[:, 0] - found.fits[0][0].none(k_weak)[:, 0]
    )
    row = []
    for values_D in (ours_D, true_D):
      found_ = curves.estimate(values_D)
      row += [found_['value'], found_['low'], found_['high']]
    rows.append(row)
  return rows


def shapes(number: int, samples: int, draws: int, seed: int) -> list[float]:
  """Returns coverage@100: the planner's, the plug-in's, the spread.

  Then the planner's interval, and the fit of the true shape.
  """
  random = np.random.default_rng([seed, number, samples])
  right_1Q = random.binomial(samples, SHAPES[number].p(random, PROBLEMS))[None]
  one = curves.Pilot(('model',), np.full(right_1Q.shape, samples), right_1Q)
  found = curves.Curves(one, draws=draws, seed=seed)
  plug = float(np.mean(1 - (1 - right_1Q / samples) ** 100))
  low, high = found.spread(0, 100)[:, 0]
  interval = curves.estimate(found.covered(0, 100)[:, 0])
  return [
    interval['value'],
    plug,
    float(low),
    float(high),
    interval['low'],
    interval['high'],
    float(found.each(0, 100)[SHAPES[number].reading][0, 0]),
  ]


def allocations(name: str, rho: float, seed: int) -> list[list[float]]:
  """Returns in truth: the chosen plan, the best one, the best pure arm.

  One row for each budget and ratio.
  """
  random = np.random.default_rng([seed, int(10 * rho), len(name), 1])
  found = curves.Curves(pilot(name, rho, random), draws=_RESAMPLES, seed=seed)
  whole = joint.Population(found, nodes=_PLAN_NODES)
  told = allocation.Level('', 1.0, whole.p_XM)
  policies_ = candidates(told)
  resampled = [
    allocation.Level(
      '',
      1.0,
      joint.Population(
        found, at, whole.correlation_MM, nodes=_RESAMPLE_NODES
      ).p_XM,
    )
    for at in range(1, _RESAMPLES + 1)
  ]
  true = allocation.Level('', 1.0, _truth_nodes(name, rho))
  worth = allocation.covered
  rows = []
  for (k, ratio), (best, pure) in zip(_cells(), _best(name, rho), strict=True):
    costs, budget = _costs(ratio), k * ratio
    parts = chosen(told, costs, budget, policies_)
    arms = [
      allocation.best_pure([told], budget, costs, model) for model in (0, 1)
    ]
    plain = max(
      arms, key=lambda one: allocation.plan(one, [told], costs, worth).value
    )
    # As the planner does.
    values_D, pure_D = (
      allocation.values(one, [[told], *([x] for x in resampled)], costs, worth)
      for one in (parts, plain)
    )
    if not allocation.gains(values_D, pure_D):
      parts = plain
    rows.append([capped(parts, true, costs, budget), best, pure])
  return rows


def chosen(
  level: allocation.Level, costs: allocation.Costs, budget: float, found=None
) -> tuple[allocation.Part, ...]:
  """Returns the plan of most coverage for a population.

  Args:
    level: the population.
    costs: of samples.
    budget: a problem.
    found: `candidates` of the level; None to work them out.
  """
  table = allocation.Table(
    level, found or candidates(level), costs, allocation.covered
  )
  return allocation.best([table], budget, policies.KINDS)


def candidates(
  level: allocation.Level,
) -> list[tuple[policies.Policy, policies.Outcome]]:
  """Returns policies up to what the planner looks at for the largest budget."""
  most = math.ceil(8 * max(k * ratio for k, ratio in _cells()))
  return list(
    policies.candidates(
      level.p_XM,
      kinds=policies.KINDS,
      most=most,
      sizes=(1,),
      until=(1,),
      order=(0, 1),
    )
  )


def capped(
  parts: tuple[allocation.Part, ...],
  level: allocation.Level,
  costs: allocation.Costs,
  budget: float,
) -> float:
  """Returns coverage of a plan that ends when its budget is spent.

  Models are asked one after another, each in rounds of all parts, as
  `wcse_jax.follow` does; what is left undone are the last rounds.
  """
  chains = [
    policies.Chain(level.p_XM, max(1, part.policy.until)) for part in parts
  ]
  left = budget
  solved = 0.0
  for model, _, size, number in _rounds(parts):
    part, chain = parts[number], chains[number]
    open_ = chain.open_XT.sum(axis=1).mean() if part.policy.until else 1.0
    price = part.share * open_
    price *= size * costs.sample_M[model] + costs.prompt_M[model]
    chains[number] = chain.after(model, size)
    more = chains[number].solved_X.mean() - chain.solved_X.mean()
    if price > left:
      return solved + part.share * more * left / price
    solved += part.share * more
    left -= price
  return solved


def _rounds(
  parts: Sequence[allocation.Part],
) -> list[tuple[int, int, int, int]]:
  """Returns (model, samples before, samples, part) in the order to draw."""
  found = []
  for number, part in enumerate(parts):
    for stage in part.policy.stages:
      at = 0
      for size in policies.rounds(stage):
        found.append((stage.model, at, size, number))
        at += size
  return sorted(found)


def _cells() -> list[tuple[int, float]]:
  return [(k, ratio) for k in BUDGETS for ratio in RATIOS]


def _costs(ratio: float) -> allocation.Costs:
  return allocation.Costs(np.array([1.0, ratio]), np.zeros(2))


_known: dict[Any, Any] = {}


def _truth_nodes(name: str, rho: float) -> Array:
  if ('nodes', name, rho) not in _known:
    z_X2 = joint.normal(2, _TRUE_NODES)
    _known['nodes', name, rho] = chances_of(name, rho, z_X2)
  return _known['nodes', name, rho]


def _best(name: str, rho: float) -> list[tuple[float, float]]:
  """Returns (best plan, best pure arm) for the truth, of each cell."""
  if ('best', name, rho) not in _known:
    level = allocation.Level('', 1.0, _truth_nodes(name, rho))
    found = []
    policies_ = candidates(level)
    for k, ratio in _cells():
      costs, budget = _costs(ratio), k * ratio
      worth = allocation.covered
      best = allocation.plan(
        chosen(level, costs, budget, policies_), [level], costs, worth
      )
      pure = [
        allocation.plan(
          allocation.best_pure([level], budget, costs, m),
          [level],
          costs,
          worth,
        ).value
        for m in (0, 1)
      ]
      found.append((best.value, max(pure)))
    _known['best', name, rho] = found
  return _known['best', name, rho]


def summary_gaps(
  name: str, rho: float, rows_PC6: Array
) -> list[dict[str, Any]]:
  """Returns a row of the table for each budget and ratio."""
  found = []
  for cell, (k, ratio) in enumerate(_cells()):
    k_weak = math.floor(k * ratio)
    true = truth(name, 0, k_weak) - truth(name, 1, k)
    row: dict[str, Any] = {
      'pair': name,
      'rho': rho,
      'k_strong': k,
      'k_weak': k_weak,
      'true': true,
    }
    for who, at in (('', 0), ('reference_', 3)):
      value_P, low_P, high_P = rows_PC6[:, cell, at : at + 3].T
      verdicts = [
        pairs.judge({'value': v, 'low': low, 'high': high}, MARGIN)
        for v, low, high in zip(value_P, low_P, high_P, strict=True)
      ]
      wrong = 'strong' if true > 0 else 'weak'
      row |= {
        f'{who}bias': float(value_P.mean() - true),
        f'{who}deviation': float(value_P.std()),
        f'{who}cover': float(np.mean((low_P <= true) & (true <= high_P))),
        f'{who}wrong_side': verdicts.count(wrong) / len(verdicts),
        f'{who}cannot_tell': verdicts.count('cannot tell') / len(verdicts),
      }
    row['spread_ratio'] = row['deviation'] / row['reference_deviation']
    found.append(row)
  return found


def summary_shapes(number: int, samples: int, rows_P7: Array) -> dict[str, Any]:
  random = np.random.default_rng(99)
  p = SHAPES[number].p(random, 2_000_000)
  true = float(np.mean(1 - (1 - p) ** 100))
  value_P, plug_P, low_P, high_P, *ends, reference_P = rows_P7.T
  error, plug, reference = (
    float(np.sqrt(np.mean((x - true) ** 2)))
    for x in (value_P, plug_P, reference_P)
  )
  return {
    'shape': SHAPES[number].name,
    'samples': samples,
    'true': true,
    'error': error,
    'plug_in_error': plug,
    'ratio': error / plug,
    'reference_ratio': reference / plug,
    'spread_holds': float(np.mean((low_P <= true) & (true <= high_P))),
    'interval_holds': float(np.mean((ends[0] <= true) & (true <= ends[1]))),
    'spread_width': float(np.mean(high_P - low_P)),
  }


def summary_allocation(
  name: str, rho: float, rows_PC3: Array
) -> list[dict[str, Any]]:
  found = []
  for cell, (k, ratio) in enumerate(_cells()):
    value_P, best_P, pure_P = rows_PC3[:, cell].T
    found.append(
      {
        'pair': name,
        'rho': rho,
        'k_strong': k,
        'ratio': ratio,
        'best': float(best_P[0]),
        'best_pure': float(pure_P[0]),
        'chosen': float(value_P.mean()),
        'of_best': float((value_P / best_P).mean()),
        'least_of_pure': float((value_P / pure_P).min()),
      }
    )
  return found


def run(
  part: str, count: int, draws: int, workers: int
) -> list[dict[str, Any]]:
  """Returns the rows of one table.

  Args:
    part: `gaps`, `shapes` or `allocation`.
    count: pilots of a cell.
    draws: resamples of each.
    workers: processes.
  """
  found = []
  with concurrent.futures.ProcessPoolExecutor(workers) as pool:

    def each(work, *fixed) -> Array:
      # Every pilot has its own seed.
      task = functools.partial(work, *fixed)
      chunk = max(1, min(20, count // workers))
      return np.array(list(pool.map(task, range(count), chunksize=chunk)))

    if part == 'shapes':
      for number in range(len(SHAPES)):
        for samples in (4, 16):
          rows = each(shapes, number, samples, draws)
          found.append(summary_shapes(number, samples, rows))
          print(found[-1], file=sys.stderr)
      return found
    for name in PAIRS:
      for rho in CORRELATIONS:
        if part == 'gaps':
          rows = summary_gaps(name, rho, each(gaps, name, rho, draws))
        else:
          rows = summary_allocation(name, rho, each(allocations, name, rho))
        found += rows
        for row in rows:
          print(row, file=sys.stderr)
  return found


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--part', choices=('gaps', 'shapes', 'allocation'))
  parser.add_argument('--pilots', type=int, default=1000)
  parser.add_argument('--draws', type=int, default=300)
  parser.add_argument('--workers', type=int, default=os.cpu_count() or 1)
  flags = parser.parse_args()
  rows = run(flags.part, flags.pilots, flags.draws, flags.workers)
  print(json.dumps(rows, indent=1))


if __name__ == '__main__':
  main()
