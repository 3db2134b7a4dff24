"""What the students scored, and the answer that follows from it."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from wcse_jax import storage
from wcse_jax.metrics import (
  calibration,
  contrast,
  multiple,
  power,
  replicated,
)
from wcse_jax.study import powers


_LEVEL = 0.05


def untuned(study, name: str) -> dict[str, Any] | None:
  """Returns the evaluation of a model before training; None if not done."""
  folder = storage.join(study.workdir, 'untuned', name)
  return evaluation(study, folder)


def evaluation(study, folder: str) -> dict[str, Any] | None:
  """Returns what a model scored on all test sets; None if not done.

  The measures of a transfer set have its name before theirs.
  """
  found: dict[str, Any] = {'right': {}}
  for name, path in files(study, folder).items():
    if not storage.exists(path):
      return None
    own = storage.read_json(path)
    for metric, scores in own.pop('right').items():
      key = f'{name}: {metric}' if name else metric
      found['right'][key] = scores
      found[key] = own[metric]
  return found


def files(study, folder: str) -> dict[str, str]:
  """Returns test set -> the file of a model's result, in its folder."""
  found = {'': storage.join(folder, 'evaluation.json')}
  for name in study.config.transfer:
    found[name] = storage.join(folder, 'transfer', f'{name}.json')
  return found


def training(study) -> dict[str, Any]:
  """Returns the accuracy of every arm of every setup, and their contrasts."""
  c = study.config
  setups, problems = [], 0
  for name, budget_name in _groups(study):
    setup = c.setups[name]
    done = _students(study, name, budget_name)
    scores = {
      arm: {
        metric: np.array([one['evaluation']['right'][metric] for one in rows])
        for metric in rows[0]['evaluation']['right']
      }
      for arm, rows in done.items()
    }
    arms = []
    for arm, right in scores.items():
      problems = right['pass@1'].shape[1]
      rows = done[arm]
      arms.append(
        {
          'arm': arm,
          'label': c.arms[arm].label,
          'examples': [one['training']['examples'] for one in rows],
          **{
            key: replicated.mean(
              r, pooled=[other[key] for other in scores.values()]
            )
            for key, r in right.items()
          },
          'replicates': [
            {
              'replicate': one['replicate'],
              **{n: float(r[i].mean()) for n, r in right.items()},
              'examples': one['training']['examples'],
              'epochs': one['training']['epochs'],
              'best_step': one['training']['best_step'],
            }
            for i, one in enumerate(rows)
          ],
        }
      )
    before = untuned(study, setup.model) or {'right': {}}
    setups.append(
      {
        'setup': name,
        'budget': budget_name,
        'title': setup.title,
        'model': study.stem(setup.model),
        'untuned': {key: before[key] for key in before['right']},
        'arms': arms,
        'contrasts': _contrasts(study, setup, scores),
        **_sureness(setup, scores),
      }
    )
  smallest = [
    found
    for one in setups
    if (found := one['detectable_difference']) is not None
  ]
  return {
    'budget': ', '.join(dict.fromkeys(b for _, b in _groups(study))),
    'steps': c.sft.steps,
    'epochs': None if c.sft.steps else c.sft.epochs,
    'validation_problems': c.validation_problems,
    'test_problems': problems,
    'replicates': c.replicates,
    'greedy': not c.pass_samples,
    'transfer': [
      {'name': name, 'task': test.task, 'split': test.split}
      for name, test in c.transfer.items()
    ],
    'detectable_difference': max(smallest, default=None),
    'calibration': next(
      (one['calibration'] for one in setups if one['calibration']), None
    ),
    'expected': powers.expected(study),
    'underpowered': powers.underpowered(study),
    'setups': setups,
  }


def _groups(study) -> Iterator[tuple[str, str]]:
  """Yields (setup, budget) of all students."""
  for name in study.setups():
    for budget_name in study.config.budgets_of(name):
      yield name, budget_name


def _students(
  study, setup: str, budget_name: str
) -> dict[str, list[dict[str, Any]]]:
  """Returns arm -> its finished students.

  Those on human solutions are the same at every budget.
  """
  found: dict[str, list[dict[str, Any]]] = {}
  for run in study.runs():
    human = study.config.arms[run.arm].human
    if run.setup != setup or not (human or run.budget == budget_name):
      continue
    folder = study.folder(run)
    path = storage.join(folder, 'training.json')
    scored = evaluation(study, folder)
    if scored is not None and storage.exists(path):
      found.setdefault(run.arm, []).append(
        {
          'replicate': run.replicate,
          'training': storage.read_json(path),
          'evaluation': scored,
        }
      )
  return found


def _contrasts(study, setup, scores) -> list[dict[str, Any]]:
  """Returns every arm less the one that it is compared with.

  The p-values of all but the primary one are corrected together.
  """
  ahead, base = setup.primary
  labels = {name: arm.label for name, arm in study.config.arms.items()}
  found = []
  for arm in scores:
    against = study.config.arms[arm].against
    if arm == ahead or against not in scores:
      against = base
    if arm in (against, base) or against not in scores:
      continue
    for metric in scores[arm]:
      gap = replicated.difference(
        scores[arm][metric],
        scores[against][metric],
        pooled=[other[metric] for other in scores.values()],
      )
      found.append(
        {
          'a': arm,
          'b': against,
          'metric': metric,
          'difference': gap,
          'p': gap['p'],
          'p_holm': None,
          'primary': arm == ahead and metric == 'pass@1',
        }
      )
  others = [row for row in found if not row['primary']]
  for row, p in zip(
    others, multiple.holm([row['p'] for row in others]), strict=True
  ):
    row['p_holm'] = p
  for row in found:
    row['reading'] = _reading(row, labels[row['a']], labels[row['b']])
  return found


def _sureness(setup, scores) -> dict[str, Any]:
  """Returns how sure the primary contrast of a setup is.

  `detectable_difference` is the smallest that so many runs and problems find in
  four studies of five, `calibration` how often intervals made like these hold
  the truth in simulated studies of this size; both go by how much these
  students vary, and are None where that is not known.
  """
  found: dict[str, Any] = {'detectable_difference': None, 'calibration': None}
  if not all(arm in scores for arm in setup.primary):
    return found
  a, b = (scores[arm]['pass@1'] for arm in setup.primary)
  replicates = min(len(a), len(b))
  if replicates < 2:
    return found
  pooled = [one['pass@1'] for one in scores.values()]
  parts = power.components(a, b, pooled=pooled)
  del parts['run_deviation_high']
  smallest = power.detectable(
    problems=a.shape[1], replicates=replicates, arms=len(pooled), **parts
  )
  if smallest <= 1:
    found['detectable_difference'] = smallest
  found['calibration'] = calibration.of_students(a, b, pooled=pooled)
  return found


def _reading(row: Mapping[str, Any], a: str, b: str) -> str:
  gap = row['difference']
  if gap['low'] is None:
    return 'too few numbers for an interval'
  if gap['low'] <= 0 <= gap['high']:
    return 'no difference seen'
  words = f'{a if gap["low"] > 0 else b} better'
  if row['p_holm'] is not None and row['p_holm'] > _LEVEL:
    return 'no difference seen among so many (Holm)'
  if not gap['runs']:
    return f'{words}, on these runs'
  return words


def answer(study, gaps, training) -> dict[str, Any]:
  """Returns the answer in one sentence, which follows from the intervals."""
  name = study.config.largest
  if name not in gaps:
    return {
      'sentence': 'Not known yet: the samples are not all drawn and graded.',
      'details': [],
    }
  strong, match = study.config.budgets[name], study.matches[name]
  gap = gaps[name]
  what = 'compute' if study.config.currency == 'params' else 'price'
  same_cost = (
    f'At the same {what} ({match.count_weak} WC '
    f'{_samples(match.count_weak)} against {strong} SE {_samples(strong)} a '
    'problem) '
  )
  if gap['value'] is None:
    data_part = f'{same_cost}too few samples could be graded to compare them'
  elif contrast.verdict(gap) == 'cannot tell':
    data_part = (
      f'{same_cost}no difference in coverage was seen ({_interval(gap)})'
    )
  else:
    data_part = (
      f'{same_cost}the weak model covers {_points(gap)} of the problems than '
      f'the strong one ({_range(gap)})'
    )
  labels = {name: arm.label for name, arm in study.config.arms.items()}
  details = []
  primary = None
  for setup in training['setups']:
    for row in setup['contrasts']:
      if row['primary']:
        primary = primary or (setup, row)
        details.append(
          f'{setup["title"]} ({setup["model"]}): {labels[row["a"]]} less '
          f'{labels[row["b"]]}, pass@1 {_interval(row["difference"])}: '
          f'{row["reading"]}.'
        )
  if primary is None:
    return {'sentence': data_part + '; no student was compared.', 'details': []}
  setup, row = primary
  difference = row['difference']
  if contrast.verdict(difference) == 'cannot tell':
    rest = (
      'and between students trained on either no difference in pass@1 was seen '
      f'({_interval(difference)}).'
    )
  else:
    rest = (
      f'and students trained on {labels[row["a"]]} solve '
      f'{_points(difference)} test problems than those trained on '
      f'{labels[row["b"]]} ({_range(difference)}).'
    )
  return {'sentence': f'{data_part}, {rest}', 'details': details}


def _samples(count: int) -> str:
  return 'sample' if count == 1 else 'samples'


def _points(gap: Mapping[str, Any]) -> str:
  points = 100 * gap['value']
  return f'{abs(points):.1f} points {"more" if points > 0 else "fewer"}'


def _interval(gap: Mapping[str, Any]) -> str:
  return f'{100 * gap["value"]:+.1f} points, {_range(gap)}'


def _range(gap: Mapping[str, Any]) -> str:
  if gap['low'] is None:
    return 'no interval'
  return f'95% interval {100 * gap["low"]:+.1f} to {100 * gap["high"]:+.1f}'
