"""What the students scored, and the answer that follows from it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from wcse_jax import arms as arm_data
from wcse_jax import storage
from wcse_jax.metrics import contrast, intervals
from wcse_jax.sampler import inputs


# Power of the smallest detectable difference: the sum of the normal quantiles
# of a two-sided test at 5% and of 80% power, over the half width of a 95%
# interval in standard errors.
_DETECTABLE = (1.95996 + 0.84162) / 1.95996


# Setup -> what the paper calls training its model: the student on another
# model's data, a model on its own, the strong model on the weak one's.
SETUPS = {
  'student': 'Knowledge distillation',
  'wc': 'Self-improvement',
  'se': 'Weak-to-strong improvement',
}


def untuned(study, role: str) -> dict[str, Any] | None:
  path = storage.join(study.workdir, 'untuned', role, 'evaluation.json')
  return storage.read_json(path) if storage.exists(path) else None


def training(study) -> dict[str, Any]:
  """Returns the accuracy of every arm of every setup, and their contrasts."""
  c = study.config
  setups, widths, problems = [], [], 0
  for setup in c.setups:
    scores: dict[str, dict[str, np.ndarray]] = {}
    arms = []
    for arm in study.arms(setup):
      done = [
        found
        for run in study.runs()
        if (run.setup, run.arm) == (setup, arm)
        and (found := _student(study, run)) is not None
      ]
      if not done:
        continue
      right = {
        name: np.array([one['evaluation']['right'][name] for one in done])
        for name in done[0]['evaluation']['right']
      }
      scores[arm] = right
      problems = right['pass@1'].shape[1]
      arms.append(
        {
          'arm': arm,
          'label': arm_data.LABELS[arm],
          'examples': [one['training']['examples'] for one in done],
          **{name: intervals.clustered(r) for name, r in right.items()},
          'replicates': [
            {
              'replicate': one['replicate'],
              **{n: float(r[i].mean()) for n, r in right.items()},
              'examples': one['training']['examples'],
              'epochs': one['training']['epochs'],
              'best_step': one['training']['best_step'],
            }
            for i, one in enumerate(done)
          ],
        }
      )
    contrasts = []
    for arm in scores:
      if arm == 'se' or 'se' not in scores:
        continue
      for name in scores[arm]:
        a, b = scores[arm][name], scores['se'][name]
        count = min(len(a), len(b))
        gap = intervals.clustered(a[:count] - b[:count])
        if arm == 'wc' and name == 'pass@1' and gap['low'] is not None:
          widths.append((gap['high'] - gap['low']) / 2)
        contrasts.append(
          {
            'a': arm,
            'b': 'se',
            'metric': name,
            'difference': gap,
            'primary': arm == 'wc' and name == 'pass@1',
            'reading': _reading(gap, arm_data.LABELS[arm], 'SE data'),
          }
        )
    before = untuned(study, setup) or {}
    setups.append(
      {
        'setup': setup,
        'title': SETUPS[setup],
        'model': inputs.model_name(getattr(c, setup)),
        'untuned': {
          name: before[name]
          for name in before
          if name not in ('problem_ids', 'right')
        },
        'arms': arms,
        'contrasts': contrasts,
      }
    )
  return {
    'budget': c.train_budget,
    'steps': c.sft.steps,
    'epochs': None if c.sft.steps else c.sft.epochs,
    'validation_problems': c.validation_problems,
    'test_problems': problems,
    'replicates': c.replicates,
    'detectable_difference': max(widths) * _DETECTABLE if widths else None,
    'setups': setups,
  }


def _student(study, run) -> dict[str, Any] | None:
  folder = study.folder(run)
  paths = [
    storage.join(folder, name) for name in ('training.json', 'evaluation.json')
  ]
  if not all(storage.exists(path) for path in paths):
    return None
  training, evaluation = map(storage.read_json, paths)
  return {
    'replicate': run.replicate,
    'training': training,
    'evaluation': evaluation,
  }


def _reading(gap: Mapping[str, Any], a: str, b: str) -> str:
  if gap['low'] is None:
    return 'too few numbers for an interval'
  if gap['low'] > 0:
    return f'{a} better'
  if gap['high'] < 0:
    return f'{b} better'
  return 'no difference seen'


def answer(study, gaps, training) -> dict[str, Any]:
  """Returns the answer in one sentence, which follows from the intervals."""
  name = study.config.train_budget
  strong, match = study.matches[name]
  gap = gaps[name]
  same_cost = (
    f'At the same compute ({match.count_weak} WC samples against {strong} SE '
    'samples a problem) '
  )
  if contrast.verdict(gap) == 'cannot tell':
    data_part = (
      f'{same_cost}no difference in coverage was seen ({_interval(gap)})'
    )
  else:
    data_part = (
      f'{same_cost}the weak model covers {_points(gap)} of the problems than '
      f'the strong one ({_range(gap)})'
    )
  details = []
  primary = None
  for setup in training['setups']:
    for row in setup['contrasts']:
      if row['primary']:
        primary = primary or (setup, row)
        details.append(
          f'{setup["title"]} ({setup["model"]}): WC data less SE data, pass@1 '
          f'{_interval(row["difference"])}: {row["reading"]}.'
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
      f'and students trained on its data solve {_points(difference)} test '
      f'problems than those trained on SE data ({_range(difference)}).'
    )
  return {'sentence': f'{data_part}, {rest}', 'details': details}


def _points(gap: Mapping[str, Any]) -> str:
  points = 100 * gap['value']
  return f'{abs(points):.1f} points {"more" if points > 0 else "fewer"}'


def _interval(gap: Mapping[str, Any]) -> str:
  return f'{100 * gap["value"]:+.1f} points, {_range(gap)}'


def _range(gap: Mapping[str, Any]) -> str:
  if gap['low'] is None:
    return 'no interval'
  return f'95% interval {100 * gap["low"]:+.1f} to {100 * gap["high"]:+.1f}'
