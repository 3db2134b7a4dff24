"""A planning run: pilots in, a decision out."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from wcse_jax import errors, runlog, shardfiles, storage, tasks
from wcse_jax.plan import (
  allocation,
  costs,
  curves,
  distinct,
  joint,
  pairs,
  pilots,
  policies,
  settings,
)
from wcse_jax.tasks import base


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


@dataclasses.dataclass(frozen=True)
class Given:
  """What a plan is made of.

  Attributes:
    pilot: the counts.
    levels: of each problem of the pilot; empty where there are none.
    paid: what samples cost.
    worth: the objective.
    rates: share of the right samples of each model whose reasoning is wrong;
      None where it is not known.
    sources: where each model's pilot is, and its checkpoint.
    dollars: of a million right samples of each model; None where no price is
      known.
  """

  pilot: curves.Pilot
  levels: tuple[str, ...]
  paid: costs.Prices
  worth: allocation.Worth
  rates: tuple[float | None, ...]
  sources: tuple[tuple[str, str], ...]
  dollars: tuple[float | None, ...]


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


def read(config: settings.PlanConfig) -> Given:
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
  return Given(
    pilot=pilot,
    levels=tuple(problems[one] for one in ids),
    paid=paid,
    worth=_worth(config, sources),
    rates=config.false_positive_rates or found.rates,
    sources=tuple(
      (source.path, one.checkpoint if one else '')
      for source, one in zip(sources, told, strict=True)
    ),
    dollars=costs.per_million_right(config, told, pilot),
  )


def decide(config: settings.PlanConfig, given: Given) -> dict[str, Any]:
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
      'allocation': _allocate(config, given, found, whole, order),
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
  k_strong = math.floor(
    config.budget * prices_M.max() / prices_M[strong] * (1 + 1e-9)
  )
  if k_strong < 1:
    # Fewer than one for every problem: compared at one.
    k_strong = 1
  return pairs.compare(
    found,
    weak,
    strong,
    (float(prices_M[weak]), float(prices_M[strong])),
    k_strong,
    config.margin,
    scale,
  )


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
  given: Given, found: curves.Curves, scale: joint.Scale, model: int, used
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
    curve.append(
      {
        'k': k,
        'coverage': row['value'],
        'low': row['low'] if pilot.problems > 1 else None,
        'high': row['high'] if pilot.problems > 1 else None,
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


def _allocate(
  config: settings.PlanConfig,
  given: Given,
  found: curves.Curves,
  whole: joint.Population,
  order: Sequence[int],
) -> dict[str, Any]:
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
  here = allocation.plan(chosen, levels, paid.parts, worth)
  plain = allocation.plan(pure, levels, paid.parts, worth)
  if here.value < plain.value:
    chosen, here = pure, plain
  resampled = [
    [_level(group, _resample(group, at)) for group in groups]
    for at in range(1, min(_DRAWS, config.draws) + 1)
  ]
  values_D, pure_D = (
    np.array(
      [allocation.plan(parts, levels, paid.parts, worth).value]
      + [
        allocation.plan(parts, others, paid.parts, worth).value
        for others in resampled
      ]
    )
    for parts in (chosen, pure)
  )
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
    'false_positives': {
      name: None if rate is None else rate * float(here.right_M[m])
      for m, (name, rate) in enumerate(zip(names, given.rates, strict=True))
    },
    'parts': [described(part, names) for part in chosen],
    'best_pure': {
      'model': names[pure_model.model] if pure_model else None,
      'samples': pure_model.samples if pure_model else 0,
      **_valued(pure_D, found.pilot.problems),
    },
    'gain': _valued(values_D - pure_D, found.pilot.problems),
    'kinds': [
      _of_kind(kind, allowed, tables_, levels, money, paid.parts, worth)
      for kind in allowed
      if kind != 'skip'
    ],
  }


def _of_kind(kind, allowed, tables_, levels, money, paid, worth):
  """Returns the best plan that is no more involved than a kind."""
  upto = allowed[: allowed.index(kind) + 1]
  found = allocation.plan(
    allocation.best(tables_, money, upto), levels, paid, worth
  )
  return {
    'kind': kind,
    'value': found.value,
    'coverage': found.covered,
    'cost': found.cost,
  }


def _groups(config, found, whole, levels) -> list[_Group]:
  """Returns the levels that are planned apart; small ones are put together."""
  level_Q = np.array(levels, dtype=object)
  names = sorted(set(level_Q))
  large = [name for name in names if (level_Q == name).sum() >= _LEVEL]
  rest = [name for name in names if name not in large]
  if rest and sum((level_Q == name).sum() for name in rest) < _LEVEL and large:
    # Too few to be fitted: with their neighbour in order.
    rest.append(large.pop())
  parts = [(name, [name]) for name in large]
  if rest:
    parts.append((','.join(sorted(rest)), rest))
  if len(parts) == 1:
    return [_Group('', 1.0, found, whole)]
  groups = []
  for name, members in sorted(parts):
    kept_Q = np.isin(level_Q.astype(str), [str(one) for one in members])
    pilot = curves.Pilot(
      found.pilot.names,
      found.pilot.n_MQ[:, kept_Q],
      found.pilot.right_MQ[:, kept_Q],
    )
    own = curves.Curves(
      pilot, draws=min(_DRAWS, config.draws), seed=config.seed
    )
    groups.append(
      _Group(name, float(kept_Q.mean()), own, joint.Population(own))
    )
  return groups


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


def table(
  result: Mapping[str, Any], shown: Callable[[float], str] = '{:.3f}'.format
) -> str:
  """Returns a plan as a table for the terminal."""

  def ends(row, low: str = 'low', high: str = 'high') -> str:
    if row[low] is None and row[high] is None:
      return ''
    low, high = (
      'any' if row[x] is None else shown(row[x]) for x in (low, high)
    )
    return f' [{low}, {high}]'

  lines = [f'estimand: {result["estimand"]}', '']
  lines.append(f'{"model":<24}{"cost":>12}{"k":>6}  coverage@k')
  for name, model in result['models'].items():
    for row in model['curve']:
      mark = '  extrapolated' if row['extrapolated'] else ''
      lines.append(
        f'{name:<24}{model["cost"]:>12.4g}{row["k"]:>6}  '
        f'{shown(row["coverage"])}{ends(row)}{mark}'
      )
  for name, model in result['models'].items():
    if model['usd_per_million_right'] is not None:
      usd = model['usd_per_million_right']
      lines.append(f'{name:<24}{usd:.4g} dollars a million right samples')
  for pair in result['pairs']:
    ratio = pair['break_even_ratio']
    over = pair['overtakes_at']
    lines += [
      '',
      f'{pair["weak"]} at {pair["k_weak"]} against {pair["strong"]} at '
      f'{pair["k_strong"]}, cost ratio {pair["ratio"]:.3g}: '
      f'{pair["rounding"]}',
      f'  gap {shown(pair["gap"])}{ends(pair, "gap_low", "gap_high")}: '
      f'{pair["verdict"]}'
      + (
        f'; a pilot of {pair["problems_needed"]} problems could tell'
        if pair['problems_needed']
        else ''
      ),
      '  break-even cost ratio '
      + ('none' if ratio is None else shown(ratio))
      + ends(pair, 'break_even_low', 'break_even_high'),
      f'  {pair["strong"]} overtakes at '
      + ('no budget' if over is None else f'{over:.3g} samples a problem')
      + ends(pair, 'overtakes_low', 'overtakes_high'),
    ]
  a = result['allocation']
  lines += [
    '',
    f'plan ({a["kind"]}) for {a["objective"]}: {shown(a["value"])}{ends(a)}, '
    f'{shown(a["gain"]["value"])}{ends(a["gain"])} more than the best pure arm '
    f'({a["best_pure"]["samples"]} of {a["best_pure"]["model"]}: '
    f'{shown(a["best_pure"]["value"])})',
  ]
  for part in a['parts']:
    stages = ', then '.join(
      f'{one["samples"]} of {one["model"]}'
      + (
        f' in rounds of {one["round"]}' if one['round'] < one['samples'] else ''
      )
      for one in part['stages']
    )
    until = f', until {part["until"]} right' if part['until'] else ''
    level = f' of level {part["level"]}' if part['level'] else ''
    lines.append(
      f'  {100 * part["share"]:.0f}% of the problems{level}: '
      f'{stages or "nothing"}{until}'
    )
  return '\n'.join(lines)
