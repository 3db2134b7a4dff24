"""What a study found: every number of the report, from the run folder's files.

Nothing is drawn or trained here, so an unfinished study gives its findings so
far.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wcse_jax import arms as arm_data
from wcse_jax import budget, grade, outcome, runlog, storage
from wcse_jax.metrics import contrast, coverage, intervals, measure
from wcse_jax.sampler import inputs


_EXAMPLES = 4


def collect(study, graded: Mapping[str, arm_data.Graded]) -> dict[str, Any]:
  """Returns the results of a study (`study.Study`), ready for JSON."""
  c = study.config
  tables = {role: one.table for role, one in graded.items()}
  training = outcome.training(study)
  gaps = {
    name: contrast.gap(
      tables['wc'].restrict(*_span(study.pool('wc', name, 0))),
      tables['se'].restrict(*_span(study.pool('se', name, 0))),
      study.count('wc', name),
      study.count('se', name),
    )
    for name in study.matches
  }
  planned = list(study.runs())
  finished = all(
    storage.exists(storage.join(study.folder(run), 'evaluation.json'))
    for run in planned
  )
  truth = _truth(study, tables)
  return {
    'title': c.title,
    'status': 'finished' if finished else 'unfinished',
    'answer': outcome.answer(study, gaps, training),
    'task': {
      'name': c.task,
      'split': 'train',
      'problems': len(study.problems),
      'test_problems': training['test_problems'],
      'levels': sorted({p.level for p in study.problems}),
    },
    'sampling': {
      name: getattr(c.sampler, name)
      for name in ('temperature', 'top_k', 'top_p', 'min_p', 'max_new_tokens')
    },
    'models': {
      role: {
        'name': inputs.model_name(getattr(c, role)),
        'parameters': model.parameters(),
        'flops_per_token': budget.flops_per_token(model),
        'greedy': (outcome.untuned(study, role) or {}).get('pass@1'),
      }
      for role, model in study.models.items()
    },
    'budgets': [
      {
        'name': name,
        'se': strong,
        'wc': match.count_weak,
        'currency': 'params',
        'ratio': float(match.ratio),
        'exact': float(match.exact),
        'rounding': match.rounding,
      }
      for name, (strong, match) in study.matches.items()
    ],
    'currencies': _currencies(study, graded),
    'quality': {name: _quality(study, tables, name) for name in study.matches},
    'gaps': gaps,
    'curves': {
      role: _curves(
        tables[role].restrict(*_span(study.pool(role, 'high', 0))),
        study.count(role, 'high'),
      )
      for role in tables
    },
    'truth': truth,
    'plan': _plan(study, tables),
    'ratios': _ratios(study, tables),
    'break_even': _break_even(study, tables),
    'training': training,
    'selection': _selection(study, graded),
    'contamination': _contamination(study),
    'judges': {
      role: grade.reasoning(
        tables[role], study.workdir, inputs.model_name(getattr(c, role))
      )
      for role in tables
    },
    'ledger': _ledger(study),
    'examples': _examples(study, graded),
    'provenance': _provenance(),
    'config': study.described(),
    'notes': _notes(study),
  }


def _provenance() -> dict[str, str]:
  """Returns what made the results, without times."""
  found = runlog.provenance()
  flat = {key: found[key] for key in ('commit', 'python', 'platform')}
  flat |= found['versions']
  return {key: value for key, value in flat.items() if value is not None}


def _span(pool: range) -> tuple[int, int]:
  return pool.start, len(pool)


def _quality(study, tables, name: str) -> dict[str, Any]:
  """Returns the measures of replicate 0's pool at a budget."""
  found = {}
  for role, table in tables.items():
    pool = study.pool(role, name, 0)
    found[role] = _measured(table, pool)
  matched = study.pool('wc', name, 0)[: study.count('se', name)]
  found['wc_number_matched'] = _measured(tables['wc'], matched)
  return found


def _measured(table: measure.Table, pool: range) -> dict[str, Any]:
  part = table.restrict(*_span(pool))
  return measure.measure(part, [len(pool)]) | {'samples_per_problem': len(pool)}


def _curves(table: measure.Table, most: int) -> dict[str, Any]:
  found = measure.measure(table, list(range(1, most + 1)))
  return {
    name: found[name] for name in ('coverage', 'diversity', 'distinct_chains')
  }


def _truth(study, tables) -> dict[str, Any] | None:
  """Returns coverage by brute force, and what few samples estimated of it."""
  many = study.config.truth_samples
  if not many:
    return None
  ks = [
    k
    for k in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256)
    if k <= many
  ]
  found: dict[str, Any] = {'samples_per_problem': many, 'checks': []}
  for role, table in tables.items():
    brute = measure.measure(table.restrict(0, many), ks)['coverage']
    found[role] = brute
    pool = study.pool(role, 'high', 0)
    shown = [k for k in ks if k <= len(pool)]
    few = measure.measure(table.restrict(*_span(pool)), shown)['coverage']
    for row in few:
      truth = next(one for one in brute if one['k'] == row['k'])
      inside = row['low'] <= truth['value'] <= row['high']
      found['checks'].append(
        {
          'model': role,
          'k': row['k'],
          'estimate': _estimate(row),
          'truth': _estimate(truth),
          'inside': bool(inside),
        }
      )
  return found


def _plan(study, tables) -> dict[str, Any] | None:
  """Returns what the pilot foretold, beside brute force and the outcome."""
  c = study.config
  path = storage.join(study.workdir, 'plan', 'plan.json')
  if not c.pilot_problems or not storage.exists(path):
    return None
  plan = storage.read_json(path)
  done = storage.join(study.workdir, 'planned', 'followed.json')
  followed = storage.read_json(done) if storage.exists(done) else None
  (pair,) = plan['pairs']
  many = c.truth_samples
  by_name = {
    inputs.model_name(getattr(c, role)): tables[role].restrict(0, many)
    for role in tables
  }
  weak, strong = by_name[pair['weak']], by_name[pair['strong']]
  pure = plan['allocation']['best_pure']
  found: dict[str, Any] = {
    'pilot_problems': c.pilot_problems,
    'pilot_samples': c.pilot_samples,
    'currency': plan['currency'],
    'pair': pair,
    'allocation': plan['allocation'],
    'gap': None,
    'pure': None,
    'followed': None,
  }
  if max(pair['k_weak'], pair['k_strong']) <= many:
    found['gap'] = contrast.gap(weak, strong, pair['k_weak'], pair['k_strong'])
  if 0 < pure['samples'] <= many:
    table = by_name[pure['model']]
    found['pure'] = intervals.mean(
      coverage.coverage(table.n_Q, table.right_Q, pure['samples'])
    )
  if followed is not None:
    right = np.arange(followed['problems']) < followed['solved']
    found['followed'] = followed | {
      'covered': intervals.mean(right.astype(np.float64))
    }
  return found


def _estimate(row: Mapping[str, Any]) -> dict[str, Any]:
  return {name: row[name] for name in ('value', 'low', 'high', 'n')}


def _ratios(study, tables) -> list[dict[str, Any]]:
  """Returns the brute-force gap at each cost ratio, the pair's own included."""
  many = study.config.truth_samples
  if not many:
    return []
  weak, strong = (tables[role].restrict(0, many) for role in ('wc', 'se'))
  found = []
  for name, (count, match) in study.matches.items():
    own = float(match.ratio)
    for ratio in sorted({*study.config.cost_ratios, own}):
      k_weak = budget.matched(count, ratio, 1).count_weak
      if k_weak > many:
        continue
      gap = contrast.gap(weak, strong, k_weak, count)
      found.append(
        {
          'budget': name,
          'ratio': ratio,
          'k_se': count,
          'k_wc': k_weak,
          'gap': gap,
          'verdict': contrast.verdict(gap),
          'actual': ratio == own,
        }
      )
  return found


def _break_even(study, tables) -> dict[str, Any]:
  many = study.config.truth_samples
  if not many:
    return {}
  weak, strong = (tables[role].restrict(0, many) for role in ('wc', 'se'))
  return {
    name: contrast.break_even(weak, strong, count)
    for name, (count, _) in study.matches.items()
  }


def _selection(study, graded) -> list[dict[str, Any]]:
  """Returns what became of the pool of each arm of replicate 0."""
  c = study.config
  used = dict.fromkeys((*c.student_arms, *c.other_arms))
  return [
    {
      'arm': arm,
      'label': arm_data.LABELS[arm],
      'counts': arm_data.choose(
        arm, study.task, study.trained, graded, study.pools(0), c.selection
      )[1],
    }
    for arm in used
    if arm != 'human'
  ]


def _contamination(study) -> dict[str, Any]:
  """Returns what training and test problems have in common."""
  return {
    **study.overlap.summary(),
    'dropped': len(study.problems) - len(study.trained),
  }


def _currencies(study, graded) -> list[dict[str, Any]]:
  """Returns what a sample of each model costs, and the counts that match.

  In dollars also what a million right samples cost (`right_se`, `right_wc`).
  """
  found = []
  costs: dict[str, dict[str, float]] = {
    name: {} for name in ('params', 'flops', 'tokens', 'chip_seconds', 'usd')
  }
  right: dict[str, float] = {}
  for role, one in graded.items():
    cost = study.sampling_cost(role)
    count = len(one.samples)
    # The paper takes both models' samples to be of one length.
    costs['params'][role] = budget.flops_per_token(study.models[role])
    costs['flops'][role] = cost['flops'] / count
    # Truncated samples are paid for as far as they were drawn.
    costs['tokens'][role] = cost['decode_tokens'] / count
    costs['chip_seconds'][role] = cost['chip_seconds'] / count
    usd = study.sampling_usd(role)
    if usd is not None:
      costs['usd'][role] = usd / count
      if one.table.right_Q.sum():
        right[role] = usd / int(one.table.right_Q.sum()) * 1e6
  for currency, by_role in costs.items():
    if not by_role:
      continue
    row: dict[str, Any] = {'currency': currency, **by_role}
    if currency == 'usd':
      row |= {f'right_{role}': value for role, value in right.items()}
    if by_role['wc'] > 0:
      row['ratio'] = by_role['se'] / by_role['wc']
      for name, (count, _) in study.matches.items():
        exact = row['ratio'] * count
        # To 9 digits: costs are measured, and 3 must not become 2.
        row[f'wc_{name}'] = math.floor(round(exact, 9))
        row[f'exact_{name}'] = exact
    found.append(row)
  return found


def _ledger(study) -> dict[str, Any]:
  rows = runlog.merge_ledger(study.workdir)
  whole = sum(row['flops'] for row in rows) or 1
  stages = []
  for stage in dict.fromkeys(row['stage'] for row in rows):
    part = [row for row in rows if row['stage'] == stage]
    flops = sum(row['flops'] for row in part)
    stages.append(
      {
        'stage': stage,
        'chip_seconds': sum(row['chip_seconds'] for row in part),
        'flops': flops,
        'share_of_flops': flops / whole,
      }
    )
  return {'rows': rows, 'by_stage': stages}


def _examples(study, graded) -> list[dict[str, Any]]:
  """Returns a few problems with samples of both models, false positives first.

  The problems are the first, in order, on which each kind of sample occurs.
  """
  by_problem: dict[str, dict[str, list[Any]]] = {}
  for role, one in graded.items():
    texts = {(s.problem_id, s.index): s.text for s in one.samples}
    pool = study.pool(role, 'high', 0)
    for g in one.grades:
      if g.index in pool:
        row = {
          'model': role,
          'text': texts[g.problem_id, g.index].strip(),
          'verdict': g.verdict,
          'sound': g.sound,
          'why': g.why,
          'index': g.index,
        }
        by_problem.setdefault(g.problem_id, {}).setdefault(role, []).append(row)
  kinds: Sequence[tuple[str, Any]] = (
    ('a false positive', lambda r: r['sound'] is False),
    ('a wrong answer', lambda r: r['verdict'] == 'wrong'),
    ('right and sound', lambda r: r['sound'] is True),
    ('unparsed', lambda r: r['verdict'] == 'unparsed'),
  )
  found, used = [], set()
  for _, fits in kinds[:_EXAMPLES]:
    for problem in study.problems:
      rows = by_problem.get(problem.id, {})
      flat = sorted(
        (r for part in rows.values() for r in part),
        key=lambda r: (not fits(r), r['model'] != 'wc', r['index']),
      )
      if problem.id in used or not flat or not fits(flat[0]):
        continue
      used.add(problem.id)
      shown = [flat[0]]
      for role in ('wc', 'se'):
        shown += [r for r in flat if r['model'] == role and r is not flat[0]][
          :1
        ]
      found.append(
        {
          'problem_id': problem.id,
          'level': problem.level,
          'question': problem.question,
          'reference': problem.solution,
          'answer': problem.answer,
          'samples': [
            {k: v for k, v in r.items() if k != 'index'} for r in shown
          ],
        }
      )
      break
  return found


def _notes(study) -> list[str]:
  c = study.config
  return [
    f'Intervals are 95% bootstrap intervals: over {len(study.problems)} '
    'problems for data quality; over replicates and test problems together '
    f'for students. With {c.replicates} replicates the latter are too narrow '
    'rather than too wide: they show part of the variance between runs.',
    'Data quality is of the pool of replicate 0; every replicate draws a pool '
    'of its own and trains with a seed of its own.',
    'Every arm of a setup is trained for the same number of '
    + ('steps.' if c.sft.steps else 'passes over its data.'),
    'A model that was tuned on clean solutions before, as the embedded ones '
    'were, can lose accuracy when it is tuned on sampled ones: what is '
    'compared is one source of data with another, with the untuned model '
    'beside them.',
  ]
