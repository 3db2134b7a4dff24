"""A planning run: pilots in, a decision out."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from wcse_jax import errors, runlog, shardfiles, storage, tasks
from wcse_jax.plan import (
  allocation,
  costs,
  curves,
  distinct,
  joint,
  pairs,
  pilots,
  settings,
  spending,
)
from wcse_jax.plan import (
  given as inputs,
)
from wcse_jax.tasks import base


def plan(config: settings.PlanConfig, workdir: str) -> dict[str, Any]:
  """Returns what `workdir/plan.json` holds, which it writes.

  Raises:
    InputError: if the configuration or a pilot does not fit, or the budget is
      too small for one sample; nothing is written before that.
  """
  config.validate()
  result = decide(config, read(config))
  with runlog.writing(workdir, dataclasses.asdict(config)):
    storage.publish_json(storage.join(workdir, 'plan.json'), result)
  return result


def read(config: settings.PlanConfig) -> inputs.Given:
  """Returns what a validated configuration names.

  Raises:
    InputError: if a pilot does not fit.
  """
  sources = [pilots.find(path) for path in config.pilots]
  found = pilots.read(sources)
  pilot, ids = found.pilot, found.ids
  paid = costs.prices_of(config, sources)
  problems = _problems(config, ids)
  told = [costs.spent(source) for source in sources]
  return inputs.Given(
    pilot=pilot,
    levels=tuple(problems[one] for one in ids),
    paid=paid,
    worth=_worth(config, sources),
    rates=config.false_positive_rates or found.rates,
    sources=tuple(
      (source.path, one.checkpoint if one else '')
      for source, one in zip(sources, told, strict=True)
    ),
    dollars=costs.per_million_right(config, told, pilot, found.drawn),
  )


def decide(config: settings.PlanConfig, given: inputs.Given) -> dict[str, Any]:
  """Returns what `plan.json` holds.

  Raises:
    InputError: if the budget is too small for one sample, or `problems` for the
      pilot.
  """
  pilot, paid = given.pilot, given.paid
  prices_M = paid.mean_M
  if config.problems and config.problems < pilot.problems:
    raise errors.InputError(
      f'problems: wanted 0 or at least the {pilot.problems} of the pilot; got '
      f'{config.problems}.'
    )
  money = config.budget * prices_M.max()
  if money < prices_M.min():
    raise errors.InputError(
      f'budget: wanted the cost of one sample of some model; {config.budget:g} '
      f'of the dearest buy {money / prices_M.min():.3g} of the cheapest.'
    )
  found = curves.Curves(pilot, draws=config.draws, seed=config.seed)
  whole = joint.Population(found)
  scale = joint.Scale(found, whole, config.problems)
  order = sorted(range(len(prices_M)), key=lambda m: prices_M[m])
  rows = [
    _pair(config, found, scale, prices_M, weak, strong)
    for i, weak in enumerate(order)
    for strong in order[i + 1 :]
  ]
  used = {row[f'k_{role}'] for row in rows for role in ('weak', 'strong')}
  return shardfiles.plain(
    {
      'currency': config.currency,
      'costs_given': bool(config.costs),
      'budget': money,
      'problems': config.problems,
      'estimand': _estimand(config, pilot),
      'pilot': {
        'problems': pilot.problems,
        'levels': sorted({*given.levels} - {''}),
      },
      'models': {
        name: _model(given, found, scale, m, used)
        for m, name in enumerate(pilot.names)
      },
      'correlation': whole.correlation_MM.tolist(),
      'pairs': rows,
      'allocation': spending.spend(config, given, found, whole, order),
    }
  )


def _problems(
  config: settings.PlanConfig, ids: Sequence[str]
) -> dict[str, str]:
  """Returns problem -> level, empty where there are none."""
  if not config.task:
    return dict.fromkeys(ids, '')
  task = tasks.load(config.task, config.data, bad_rows=config.bad_rows)
  known = {
    p.id: p.level for _, p in base.select(task, config.split, validation_size=0)
  }
  missing = [one for one in ids if one not in known]
  if missing:
    raise errors.InputError(
      f'pilots: wanted problems of the split {config.split} of {config.task}; '
      f'{len(missing)} are not, the first {missing[0]}.'
    )
  return {one: known[one] for one in ids}


def _worth(
  config: settings.PlanConfig,
  sources: Sequence[pilots.Source],
) -> allocation.Worth:
  """Returns what the objective makes of an outcome."""
  match config.objective:
    case 'coverage':
      return allocation.covered
    case 'right':
      return allocation.right
  task = tasks.load(config.task, config.data, bad_rows=config.bad_rows)
  return distinct.Distinct([pilots.chains(source, task) for source in sources])


def _pair(config, found, scale, prices_M, weak: int, strong: int):
  bought = config.budget * prices_M.max() / prices_M[strong]
  # Where that is fewer than one for every problem, they are compared at one.
  k_strong = max(1, math.floor(bought * (1 + 1e-9)))
  row = pairs.compare(
    found,
    weak,
    strong,
    (float(prices_M[weak]), float(prices_M[strong])),
    k_strong,
    config.margin,
    scale,
    config.problems,
  )
  if bought < 1:
    row['rounding'] += f' The budget buys {bought:.2g} of the strong.'
  return row


def _estimand(config: settings.PlanConfig, pilot: curves.Pilot) -> str:
  if not config.problems:
    return (
      'coverage of an unlimited population of problems, of which the '
      f'{pilot.problems} of the pilot are a random sample'
    )
  return (
    f'coverage of {config.problems} problems, of which the {pilot.problems} of '
    'the pilot are a random part'
  )


def _model(
  given: inputs.Given,
  found: curves.Curves,
  scale: joint.Scale,
  model: int,
  used,
) -> dict[str, Any]:
  pilot = found.pilot
  n = pilot.common(model)
  ks = sorted({1 << i for i in range((4 * n).bit_length())} | {n} | set(used))
  values_DK = found.covered(model, ks)
  spread_2K = found.spread(model, ks)
  curve = []
  for at, k in enumerate(ks):
    values_D = scale(values_DK[:, at], [(model, k, 1)])
    row = curves.estimate(values_D)
    below, above = pairs.room(pilot, model, k)
    known = pilot.problems > 1
    curve.append(
      {
        'k': k,
        'coverage': row['value'],
        'low': max(0.0, row['low'] - below) if known else None,
        'high': min(1.0, row['high'] + above) if known else None,
        'spread_low': spread_2K[0, at],
        'spread_high': spread_2K[1, at],
        'extrapolated': k > n,
      }
    )
  paid, (path, checkpoint) = given.paid, given.sources[model]
  return {
    'cost': float(paid.mean_M[model]),
    'usd_per_million_right': given.dollars[model],
    'cost_of_drawing': float(paid.parts.sample_M[model]),
    'cost_of_reading': float(paid.parts.prompt_M[model]),
    'n': n,
    'samples': int(pilot.n_MQ[model].sum()),
    'right': int(pilot.right_MQ[model].sum()),
    'source': path,
    'checkpoint': checkpoint,
    'curve': curve,
    'fits': [
      {
        'fit': curves.label(one.reading),
        'belief': found.belief_RD[r, 0],
        'coverage': (1 - one.none(ks)[0]).tolist(),
      }
      for r, one in enumerate(found.fits[model])
    ],
    'backtest': curves.backtest(pilot, model),
  }
