"""The later parts of the made-up study: further models, the dial, tests."""

import copy
from collections.abc import Callable
from typing import Any


Shapes = dict[str, tuple[float, float]]


def _estimate(value: float, half: float, n: int) -> dict[str, Any]:
  return {'value': value, 'low': value - half, 'high': value + half, 'n': n}


def add(
  found: dict[str, Any],
  covered: Callable[[float, float, int], float],
  shapes: Shapes,
) -> dict[str, Any]:
  """Returns results with all optional parts.

  Args:
    found: the others; changed.
    covered: coverage of (shape, k).
    shapes: of WC and SE.
  """
  found['dial'] = _dial(covered, shapes)
  found['majority'] = {
    role: [
      {'k': k, **_estimate(base + 0.02 * k**0.5, 0.03, 512)}
      for k in (1, 3, 5, 9)
    ]
    for role, base in (('wc', 0.33), ('se', 0.49))
  }
  found['prompts'] = [
    {
      'model': name,
      'sha256': f'{at}' * 64,
      'text': f'Q: How many is {at} and {at}?\nA:',
    }
    for at, name in enumerate(('tiny-wc', 'tiny-se'))
  ]
  found['exports'] = [
    {
      'arm': arm,
      'budget': 'high',
      'label': label,
      'rows': 2815,
      'folder': f'exports/high-{arm}',
    }
    for arm, label in (('wc', 'WC data'), ('se', 'SE data'))
  ]
  found['currencies'] = [
    {
      'currency': currency,
      'wc': cost,
      'se': cost * ratio,
      'se_hot': cost * ratio * 1.1,
      'ratio': ratio,
      'wc_low': int(ratio),
      'exact_low': ratio,
      'wc_high': int(4 * ratio),
      'exact_high': 4 * ratio,
    }
    for currency, cost, ratio in (
      ('params', 1.83e6, 2.98),
      ('flops', 1.1e8, 3.05),
      ('tokens', 61.0, 0.97),
      ('chip_seconds', 6e-4, 1.72),
      ('usd', 3e-8, 1.72),
    )
  ]
  _further(found)
  _tests(found['training'])
  return found


def _dial(
  covered: Callable[[float, float, int], float], shapes: Shapes
) -> list[dict[str, Any]]:
  rows = []
  for budget, k_se in (('low', 1), ('high', 4)):
    for step in range(40):
      ratio = 1.1 * 1.05**step
      k_wc = int(k_se * ratio)
      gap = covered(*shapes['wc'], k_wc) - covered(*shapes['se'], k_se)
      verdict = 'cannot tell'
      if abs(gap) > 0.022:
        verdict = 'weak' if gap > 0 else 'strong'
      rows.append(
        {
          'budget': budget,
          'ratio': ratio,
          'k_se': k_se,
          'k_wc': k_wc,
          'gap': _estimate(gap, 0.022, 512),
          'verdict': verdict,
        }
      )
  return rows


def _further(found: dict[str, Any]) -> None:
  """Adds a third model."""
  found['models']['se_hot'] = {
    **copy.deepcopy(found['models']['se']),
    'label': 'SE, hotter',
  }
  for budget, arms in found['quality'].items():
    arms['se_hot'] = _shifted(arms['se'], 0.01)
    found.setdefault('gaps_of', []).append(
      {
        'budget': budget,
        'model': 'se_hot',
        'against': 'se',
        'k_model': 4,
        'k_against': 4,
        'gap': _estimate(0.012, 0.02, 512),
        'verdict': 'cannot tell',
      }
    )
  found['curves']['se_hot'] = _shifted(found['curves']['se'], -0.04)


def _shifted(tree: Any, by: float) -> Any:
  """Returns measures with all estimates moved."""
  if isinstance(tree, list):
    return [_shifted(item, by) for item in tree]
  if not isinstance(tree, dict):
    return tree
  moved = {key: _shifted(value, by) for key, value in tree.items()}
  for key in ('value', 'low', 'high'):
    if key in moved:
      moved[key] = moved[key] + by
  return moved


def _tests(training: dict[str, Any]) -> None:
  """Adds p-values, a further set of problems, and the calibration."""
  training['calibration'] = {
    'studies': 500,
    'coverage': 0.948,
    'problems': 1024,
    'replicates': 3,
  }
  training['underpowered'] = 'This study can miss differences of 4 points.'
  training['transfer'] = [{'name': 'svamp', 'task': 'svamp', 'problems': 300}]
  for setup in training['setups']:
    setup['budget'] = 'low' if setup['setup'] == 'se' else 'high'
    for row in (setup['untuned'], *setup['arms']):
      row['svamp: pass@1'] = _shifted(row['pass@1'], -0.11)
    for arm in setup['arms']:
      for run in arm['replicates']:
        run['svamp: pass@1'] = run['pass@1'] - 0.11
    setup['contrasts'] += [
      {
        **copy.deepcopy(contrast),
        'metric': 'svamp: pass@1',
        'primary': False,
      }
      for contrast in setup['contrasts'][:1]
    ]
    for at, contrast in enumerate(setup['contrasts']):
      contrast['role'] = 'other' if at else 'primary'
      contrast['p'] = 0.21 / (1 + at)
      contrast['p_holm'] = None if not at else 0.42 / (1 + at)
