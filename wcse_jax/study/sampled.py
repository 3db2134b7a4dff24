"""What the samples of a study show: coverage, gaps, cost ratios, costs."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from wcse_jax import budget, shardfiles, storage
from wcse_jax.metrics import contrast, coverage, intervals, measure
from wcse_jax.study import settings


Tables = Mapping[str, measure.Table]
# At these k coverage by brute force is shown.
_KS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256)
# Cost ratios of the dial.
_DIAL = 40


def pool(study, tables: Tables, name: str, budget_name: str) -> measure.Table:
  """Returns the table of replicate 0's pool at a budget."""
  indices = study.pool(name, budget_name, 0)
  return tables[name].restrict(indices.start, len(indices))


def gaps(study, tables: Tables) -> dict[str, Any]:
  """Returns the gap in coverage of the pair at each budget."""
  return {
    name: _gap(study, tables, 'wc', name) for name in study.config.budgets
  }


def _gap(study, tables: Tables, model: str, budget_name: str):
  return contrast.gap(
    pool(study, tables, model, budget_name),
    pool(study, tables, 'se', budget_name),
    study.count(model, budget_name),
    study.count('se', budget_name),
  )


def gaps_of_others(study, tables: Tables) -> list[dict[str, Any]]:
  """Returns the gap of every further model against SE at each budget."""
  return [
    {
      'budget': budget_name,
      'model': model,
      'against': 'se',
      'k_model': study.count(model, budget_name),
      'k_against': study.count('se', budget_name),
      'gap': (gap := _gap(study, tables, model, budget_name)),
      'verdict': contrast.verdict(gap),
    }
    for budget_name in study.config.budgets
    for model in tables
    if model not in settings.PAIR and study.count(model, budget_name)
  ]


def quality(study, tables: Tables, budget_name: str) -> dict[str, Any]:
  """Returns the measures of replicate 0's pools at a budget."""
  found = {
    model: _measured(tables[model], study.pool(model, budget_name, 0))
    for model in tables
    if study.count(model, budget_name)
  }
  matched = study.pool('wc', budget_name, 0)[: study.count('se', budget_name)]
  return found | {'wc_number_matched': _measured(tables['wc'], matched)}


def _measured(table: measure.Table, indices: range) -> dict[str, Any]:
  part = table.restrict(indices.start, len(indices))
  return measure.measure(part, [len(indices)]) | {
    'samples_per_problem': len(indices)
  }


def curves(study, tables: Tables) -> dict[str, Any]:
  """Returns every measure that goes by the number of samples, by model."""
  most = study.config.largest
  found = {}
  for model in tables:
    count = study.count(model, most)
    if count:
      whole = measure.measure(
        pool(study, tables, model, most), list(range(1, count + 1))
      )
      names = ('coverage', 'diversity', 'distinct_chains', 'majority')
      found[model] = {name: whole[name] for name in names}
  return found


def brute(study, tables: Tables) -> dict[str, measure.Table]:
  """Returns the pair's samples for coverage by brute force.

  Where a study draws none for that, these are the samples of all replicates.
  """
  return {
    name: tables[name].restrict(0, many) for name, many in _many(study).items()
  }


def _many(study) -> dict[str, int]:
  """Returns how many samples a problem `brute` has of each model."""
  own = study.config.truth_samples
  return {name: own or study.drawn(name) for name in settings.PAIR}


def truth(study, tables: Tables) -> dict[str, Any] | None:
  """Returns coverage by brute force, and what few samples estimated of it."""
  many = study.config.truth_samples
  if not many:
    return None
  ks = [k for k in _KS if k <= many]
  found: dict[str, Any] = {'samples_per_problem': many, 'checks': []}
  for role, table in brute(study, tables).items():
    exact = _coverage(table, ks)
    found[role] = exact
    few = pool(study, tables, role, study.config.largest)
    shown = [k for k in ks if k <= study.count(role, study.config.largest)]
    for row in _coverage(few, shown):
      known = next(one for one in exact if one['k'] == row['k'])
      inside = row['low'] <= known['value'] <= row['high']
      found['checks'].append(
        {
          'model': role,
          'k': row['k'],
          'estimate': _estimate(row),
          'truth': _estimate(known),
          'inside': bool(inside),
        }
      )
  return found


def _coverage(table: measure.Table, ks) -> list[dict[str, Any]]:
  """Returns coverage at each k, as `measure.measure` does, and it alone."""
  found = []
  for k in ks:
    kept_Q = table.n_Q >= k
    values_Q = coverage.coverage(table.n_Q[kept_Q], table.right_Q[kept_Q], k)
    found.append({'k': k, **intervals.mean(values_Q)})
  return found


def _estimate(row: Mapping[str, Any]) -> dict[str, Any]:
  return {name: row[name] for name in ('value', 'low', 'high', 'n')}


def ratios(study, tables: Tables) -> list[dict[str, Any]]:
  """Returns the gap at each cost ratio, the pair's own included."""
  found = []
  for name, match in study.matches.items():
    own = float(match.ratio)
    for ratio in sorted({*study.config.cost_ratios, own}):
      row = _at_ratio(study, tables, name, ratio)
      if row is not None:
        found.append({**row, 'actual': ratio == own})
  return found


def dial(study, tables: Tables) -> list[dict[str, Any]]:
  """Returns the same on a fine grid, one row for each count of WC samples."""
  many = _many(study)['wc']
  found = []
  for name, count in study.config.budgets.items():
    grid = np.geomspace(1, many / count, _DIAL)
    counts = sorted({max(count, math.floor(count * r + 1e-9)) for r in grid})
    for k_weak in counts:
      row = _at_ratio(study, tables, name, k_weak / count)
      if row is not None:
        found.append(row)
  return found


def _at_ratio(
  study, tables: Tables, budget_name: str, ratio: float
) -> dict[str, Any] | None:
  """Returns the gap at a cost ratio; None beyond the samples at hand."""
  count = study.config.budgets[budget_name]
  k_weak = budget.matched(count, ratio, 1).count_weak
  most = _many(study)
  if k_weak > most['wc'] or count > most['se']:
    return None
  weak, strong = brute(study, tables).values()
  gap = contrast.gap(weak, strong, k_weak, count)
  return {
    'budget': budget_name,
    'ratio': ratio,
    'k_se': count,
    'k_wc': k_weak,
    'gap': gap,
    'verdict': contrast.verdict(gap),
  }


def break_even(study, tables: Tables) -> dict[str, Any]:
  """Returns the cost ratio at which the pair covers as much, by budget."""
  weak, strong = brute(study, tables).values()
  most = _many(study)['se']
  return {
    name: contrast.break_even(weak, strong, count)
    for name, count in study.config.budgets.items()
    if count <= most
  }


def plan(study, tables: Tables) -> dict[str, Any] | None:
  """Returns what the pilot foretold, beside brute force and the outcome."""
  c = study.config
  path = storage.join(study.workdir, 'plan', 'plan.json')
  if not c.pilot_problems or not storage.exists(path):
    return None
  found = storage.read_json(path)
  done = storage.join(study.planned(0), 'followed.json')
  followed = storage.read_json(done) if storage.exists(done) else None
  (pair,) = found['pairs']
  many = c.truth_samples
  by_name = {
    study.stem(role): table for role, table in brute(study, tables).items()
  }
  weak, strong = by_name[pair['weak']], by_name[pair['strong']]
  pure = found['allocation']['best_pure']
  result: dict[str, Any] = {
    'pilot_problems': c.pilot_problems,
    'pilot_samples': c.pilot_samples,
    'currency': found['currency'],
    'pair': pair,
    'allocation': found['allocation'],
    'gap': None,
    'pure': None,
    'followed': None,
  }
  if max(pair['k_weak'], pair['k_strong']) <= many:
    result['gap'] = contrast.gap(weak, strong, pair['k_weak'], pair['k_strong'])
  if 0 < pure['samples'] <= many:
    (row,) = _coverage(by_name[pure['model']], [pure['samples']])
    result['pure'] = _estimate(row)
  if followed is not None:
    right = np.arange(followed['problems']) < followed['solved']
    result['followed'] = followed | {
      'covered': intervals.mean(right.astype(np.float64))
    }
  return result


def currencies(study, tables: Tables) -> list[dict[str, Any]]:
  """Returns what a sample of each model costs, and the counts that match.

  In dollars also what a million right samples cost (`right_MODEL`).
  """
  costs: dict[str, dict[str, float]] = {
    name: {} for name in ('params', 'flops', 'tokens', 'chip_seconds', 'usd')
  }
  right: dict[str, float] = {}
  for model, table in tables.items():
    cost = _sampling_cost(study, model)
    count = int(table.rows_Q.sum())
    # Truncated samples are paid for as far as they were drawn.
    costs['tokens'][model] = cost['decode_tokens'] / count
    architecture = study.models[model]
    if architecture is not None:
      # The paper takes both models' samples to be of one length.
      costs['params'][model] = budget.flops_per_token(architecture)
      costs['flops'][model] = cost['flops'] / count
      costs['chip_seconds'][model] = cost['chip_seconds'] / count
    usd = _sampling_usd(study, model)
    if usd is not None:
      costs['usd'][model] = usd / count
      if table.right_Q.sum():
        right[model] = usd / int(table.right_Q.sum()) * 1e6
  found = []
  for currency, by_model in costs.items():
    if not by_model:
      continue
    row: dict[str, Any] = {'currency': currency, **by_model}
    if currency == 'usd':
      row |= {f'right_{model}': value for model, value in right.items()}
    if by_model.get('wc', 0) > 0 and 'se' in by_model:
      row['ratio'] = by_model['se'] / by_model['wc']
      for name, count in study.config.budgets.items():
        exact = row['ratio'] * count
        # To 9 digits: costs are measured, and 3 must not become 2.
        row[f'wc_{name}'] = math.floor(round(exact, 9))
        row[f'exact_{name}'] = exact
    found.append(row)
  return found


def _sampling_cost(study, model: str) -> dict[str, float]:
  """Returns the cost of all of a model's samples, from their manifest."""
  path = storage.join(study.workdir, 'samples', study.stem(model))
  return shardfiles.ShardFolder(path).cost()


def _sampling_usd(study, model: str) -> float | None:
  """Returns what a model's samples cost, from the ledger; None if unknown."""
  path = storage.join(
    study.workdir, 'ledger', f'sample-{study.stem(model)}.json'
  )
  return storage.read_json(path)['usd'] if storage.exists(path) else None
