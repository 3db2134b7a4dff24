"""What a study found: every number of the report, from the run folder's files.

Nothing is drawn or trained here, so an unfinished study gives its findings so
far: parts whose stages are not done are None or empty.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from wcse_jax import arms as arm_data
from wcse_jax import budget, grade, records, runlog, storage
from wcse_jax.metrics import measure
from wcse_jax.sampler import inputs
from wcse_jax.study import exporting, outcome, sampled, settings


def collect(
  study, graded: Mapping[str, arm_data.Graded], done: Mapping[str, bool]
) -> dict[str, Any]:
  """Returns the results of a study, ready for JSON.

  Args:
    study: a `design.Study`.
    graded: the samples of the models whose stages are done.
    done: stage -> whether it is.
  """
  c = study.config
  tables = {name: one.table for name, one in graded.items()}
  pair = all(name in tables for name in settings.PAIR)
  gaps = sampled.gaps(study, tables) if pair else {}
  training = outcome.training(study)
  found = {
    'title': c.title,
    'status': 'finished' if all(done.values()) else 'unfinished',
    'stages': {'done': sum(done.values()), 'all': len(done)},
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
    'models': _models(study),
    'budgets': _budgets(study),
    'currencies': sampled.currencies(study, tables) if pair else [],
    'quality': {
      name: sampled.quality(study, tables, name) if pair else {}
      for name in c.budgets
    },
    'gaps': gaps,
    'gaps_of': sampled.gaps_of_others(study, tables) if pair else [],
    'truth': sampled.truth(study, tables) if pair else None,
    'plan': sampled.plan(study, tables) if pair else None,
    'ratios': sampled.ratios(study, tables) if pair else [],
    'dial': sampled.dial(study, tables) if pair else [],
    'break_even': sampled.break_even(study, tables) if pair else {},
    'training': training,
    'selection': _selection(study),
    'contamination': _contamination(study),
    'judges': {
      name: grade.reasoning(table, study.workdir, study.stem(name))
      for name, table in tables.items()
    },
    'ledger': _ledger(study),
    'examples': _examples(study, graded),
    'prompts': _prompts(study),
    'exports': exporting.listed(study),
    'provenance': _provenance(),
    'config': study.described(),
    'notes': _notes(study),
  }
  curves = sampled.curves(study, tables) if pair else {}
  found['majority'] = {
    name: one.pop('majority') for name, one in curves.items()
  }
  return found | {'curves': curves}


def _models(study) -> dict[str, Any]:
  """Returns what is known of each model, the pair first."""
  names = dict.fromkeys((*settings.PAIR, *study.config.models))
  found = {}
  for name in names:
    model, architecture = study.config.models[name], study.models[name]
    shown = study.stem(name)
    if model.student is not None:
      shown = model.student
    found[name] = {
      'name': shown,
      'label': model.label or name,
      'parameters': architecture.parameters() if architecture else None,
      'flops_per_token': budget.flops_per_token(architecture)
      if architecture
      else None,
      'greedy': (outcome.untuned(study, name) or {}).get('pass@1'),
    }
  return found


def _budgets(study) -> list[dict[str, Any]]:
  return [
    {
      'name': name,
      'se': study.config.budgets[name],
      'wc': match.count_weak,
      'currency': study.config.currency,
      'ratio': float(match.ratio),
      'exact': float(match.exact),
      'rounding': match.rounding,
    }
    for name, match in study.matches.items()
  ]


def _provenance() -> dict[str, str]:
  """Returns what made the results, without times."""
  found = runlog.provenance()
  flat = {key: found[key] for key in ('commit', 'python', 'platform')}
  flat |= found['versions']
  return {key: value for key, value in flat.items() if value is not None}


def _selection(study) -> list[dict[str, Any]]:
  """Returns what became of the pool of each arm of replicate 0."""
  found = []
  for budget_name, arm in study.arm_budgets():
    path = storage.join(study.workdir, 'data', budget_name, f'{arm}.json')
    if storage.exists(path):
      found.append(
        {
          'arm': arm,
          'budget': budget_name,
          'label': study.config.arms[arm].label,
          'counts': storage.read_json(path)['counts'][0],
        }
      )
  return found


def _contamination(study) -> dict[str, Any]:
  """Returns what training and test problems have in common."""
  return {
    **study.overlap.summary(),
    'dropped': len(study.problems) - len(study.trained),
  }


def _prompts(study) -> list[dict[str, Any]]:
  """Returns what each model is asked for the first problem, with its hash."""
  found = []
  for name in study.sources():
    work = inputs.prepare(study.sampling(name))
    position = work.chosen[0][0]
    text = work.prompts[position]
    found.append(
      {
        'model': name,
        'text': text,
        'sha256': hashlib.sha256(
          text.encode('utf-8', 'surrogatepass')
        ).hexdigest(),
      }
    )
  return found


def _ledger(study) -> dict[str, Any]:
  rows = runlog.booked(study.workdir)
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


def _examples(
  study, graded: Mapping[str, arm_data.Graded]
) -> list[dict[str, Any]]:
  """Returns a few problems with samples of both models, false positives first.

  The problems are the first, in order, on which each kind of sample occurs.
  """
  budget_name = study.config.largest
  pools = {
    name: study.pool(name, budget_name, 0)
    for name in settings.PAIR
    if name in graded
  }
  found, used = [], set()
  for kind, fits in _KINDS.items():
    places = [
      place
      for name, pool in pools.items()
      for place in _places(graded[name].table, pool, kind)
    ]
    at = min(set(places) - used, default=None)
    if at is None:
      continue
    used.add(at)
    position, problem = study.placed[at]
    rows = [
      (name, row)
      for name, pool in pools.items()
      for row in graded[name].rows(pool, {problem.id: problem}, position)
    ]
    rows.sort(
      key=lambda r: (not fits(r[1].grade), r[0] != 'wc', r[1].grade.index)
    )
    shown = [rows[0]]
    for name in pools:
      shown += [r for r in rows if r[0] == name and r is not rows[0]][:1]
    found.append(
      {
        'problem_id': problem.id,
        'level': problem.level,
        'question': problem.question,
        'reference': problem.solution,
        'answer': problem.answer,
        'samples': [
          {
            'model': name,
            'text': row.sample.text.strip(),
            'verdict': row.grade.verdict,
            'sound': row.grade.sound,
            'why': row.grade.why,
          }
          for name, row in shown
        ],
      }
    )
  return found


# Kind of sample -> whether a grade is of it.
_KINDS: dict[str, Callable[[records.Grade], bool]] = {
  'unsound': lambda grade: bool(grade.correct) and grade.sound is False,
  'wrong': lambda grade: grade.verdict == 'wrong',
  'sound': lambda grade: bool(grade.correct) and grade.sound is True,
  'unparsed': lambda grade: grade.verdict == 'unparsed',
}


def _places(table: measure.Table, pool: range, kind: str) -> list[int]:
  """Returns the problems, by their place, that have a sample of a kind."""
  part = table.restrict(pool.start, len(pool))
  mask_M = {
    'unsound': part.unsound_M,
    'sound': part.judged_M & ~part.unsound_M,
  }.get(kind)
  if mask_M is None:
    mask_M = part.verdict_M == list(records.VERDICTS).index(kind)
  return np.unique(part.problem_M[mask_M]).tolist()


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
