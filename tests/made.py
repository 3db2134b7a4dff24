"""A finished study with made-up, plausible numbers, for tests of layout."""

import math
from typing import Any

import made_more


_KS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128)


def _estimate(value: float, half: float, n: int) -> dict[str, Any]:
  return {'value': value, 'low': value - half, 'high': value + half, 'n': n}


def _covered(a: float, b: float, k: int) -> float:
  """Coverage at k where success is Beta(a, b) over problems."""
  beta = math.lgamma(b + k) + math.lgamma(a + b)
  return 1 - math.exp(beta - math.lgamma(b) - math.lgamma(a + b + k))


_SHAPES = {'wc': (0.45, 1.0), 'se': (0.75, 0.8)}


def _curve(role: str, ks: tuple[int, ...], n: int) -> dict[str, Any]:
  shape = _SHAPES[role]
  coverage = [
    {'k': k, **_estimate(_covered(*shape, k), 0.45 / math.sqrt(n), n)}
    for k in ks
  ]
  solved = _covered(*shape, 1)
  return {
    'coverage': coverage,
    'diversity': [
      {'k': c['k'], **_estimate(c['k'] * solved / c['value'], 0.2, n)}
      for c in coverage
    ],
    'distinct_chains': [
      {'k': c['k'], **_estimate(2.4 * math.log1p(c['k'] * solved), 0.15, n)}
      for c in coverage
    ],
  }


def _measure(role: str, k: int, *, false: float, tokens: float) -> dict:
  n, shape = 512, _SHAPES[role]
  right = round(n * k * _covered(*shape, 1))
  levels = []
  for level in range(1, 6):
    value = min(0.99, _covered(*shape, k) * (1.35 - 0.15 * level))
    levels.append(
      {
        'level': str(level),
        'problems': 102,
        'coverage': [{'k': k, **_estimate(value, 0.05, 102)}],
        'false_positive_rate': {
          **_estimate(false * (0.4 + 0.2 * level), 0.03, 97),
          'samples': right // 5,
        },
      }
    )
  return {
    'problems': n,
    'samples': n * k,
    'graded': n * k - 3,
    'right': right,
    'verdicts': {
      'right': right,
      'wrong': n * k - right - 17,
      'unparsed': 14,
      'timeout': 2,
      'error': 1,
    },
    'finish': {'stop': n * k - 9, 'length': 9},
    'mean_output_tokens': tokens,
    **_curve(role, tuple(j for j in _KS if j <= k) + (k,) * (k not in _KS), n),
    'false_positive_rate': {**_estimate(false, 0.018, 488), 'samples': right},
    'by_level': levels,
    'samples_per_problem': k,
  }


def _setup(name: str, title: str, model: str, base: float, lift: float) -> dict:
  arms = []
  for arm, label, extra, count in (
    ('wc', 'WC data', lift, 7800),
    ('se', 'SE data', 0.0, 6100),
    ('wc_number_matched', 'WC data, as many samples', -0.03, 4200),
    ('human', 'Reference solutions', -0.06, 512),
  ):
    value = base + extra
    runs = [
      {
        'replicate': run,
        'pass@1': value + spread,
        'maj@4': value + 0.05 + spread,
        'examples': count + 7 * run,
        'epochs': 19200 / count,
        'best_step': 400 + 20 * run,
      }
      for run, spread in enumerate((-0.013, 0.002, 0.011))
    ]
    arms.append(
      {
        'arm': arm,
        'label': label,
        'examples': [run['examples'] for run in runs],
        'pass@1': _estimate(value, 0.031, 1024),
        'maj@4': _estimate(value + 0.05, 0.029, 1024),
        'replicates': runs,
      }
    )
  return {
    'setup': name,
    'title': title,
    'model': model,
    'untuned': {
      'pass@1': _estimate(base - 0.14, 0.028, 1024),
      'maj@4': _estimate(base - 0.12, 0.028, 1024),
    },
    'arms': arms,
    'contrasts': [
      {
        'a': 'wc',
        'b': 'se',
        'metric': metric,
        'difference': _estimate(lift, 0.026, 1024),
        'primary': metric == 'pass@1',
        'reading': 'WC data is better' if lift > 0.026 else 'cannot tell',
      }
      for metric in ('pass@1', 'maj@4')
    ],
  }


def _judge(name: str, rate: float, corrected: float | None) -> dict[str, Any]:
  def found(value: float | None, n: int) -> dict[str, Any] | None:
    return None if value is None else _estimate(value, 0.03, n)

  return {
    'judge': name,
    'judged': 500,
    'unknown': 12,
    'rate': found(rate, 301),
    'corrected': found(corrected, 100),
    'audit': found(corrected, 100),
    'agreement': found(0.9, 100),
    'canaries': None,
    'by_level': [
      {
        'level': str(level),
        'judged': 100,
        'rate': found(rate * level / 3, 60),
        'corrected': found(corrected, 20),
      }
      for level in range(1, 6)
    ],
  }


def _ratios(budget: str, k_se: int) -> list[dict[str, Any]]:
  rows = []
  for ratio in (1.2, 1.5, 1.75, 2.0, 2.5, 2.98, 3.5, 4.0, 5.0):
    k_wc = int(k_se * ratio)
    gap = _covered(*_SHAPES['wc'], k_wc) - _covered(*_SHAPES['se'], k_se)
    half = 0.022
    verdict = 'cannot tell'
    if abs(gap) > half:
      verdict = 'weak' if gap > 0 else 'strong'
    rows.append(
      {
        'budget': budget,
        'ratio': ratio,
        'k_se': k_se,
        'k_wc': k_wc,
        'gap': _estimate(gap, half, 512),
        'verdict': verdict,
        'actual': ratio == 2.98,
      }
    )
  return rows


def results() -> dict[str, Any]:
  """Returns the results of a finished study, which may be changed."""
  flops = {'sample': 3.1e15, 'train': 8.4e15, 'evaluate': 0.9e15, 'truth': 6e15}
  total = sum(flops.values())
  found = {
    'plan': {
      'pilot_problems': 96,
      'pilot_samples': 8,
      'currency': 'flops',
      'pair': {
        'weak': 'tiny-wc',
        'strong': 'tiny-se',
        'k_weak': 15,
        'k_strong': 5,
        'ratio': 3.1,
        'gap': 0.06,
        'gap_low': 0.01,
        'gap_high': 0.11,
        'break_even_ratio': 1.6,
        'break_even_low': 1.2,
        'break_even_high': None,
        'verdict': 'weak',
      },
      'allocation': {
        'kind': 'adaptive',
        'value': 0.86,
        'low': 0.80,
        'high': 0.91,
        'cost': 1.2e8,
        'best_pure': {
          'model': 'tiny-wc',
          'samples': 15,
          'value': 0.8,
          'low': 0.74,
          'high': 0.86,
        },
        'parts': [
          {
            'level': '3',
            'share': 0.4,
            'until': 1,
            'stages': [
              {'model': 'tiny-wc', 'samples': 20, 'round': 4},
              {'model': 'tiny-se', 'samples': 2, 'round': 2},
            ],
          },
          {'level': '', 'share': 0.6, 'until': 0, 'stages': []},
        ],
        'kinds': [
          {'kind': 'pure', 'coverage': 0.8},
          {'kind': 'adaptive', 'coverage': 0.86},
        ],
      },
      'gap': {'value': 0.073, 'low': 0.01, 'high': 0.14, 'n': 192},
      'pure': {'value': 0.81, 'low': 0.76, 'high': 0.86, 'n': 192},
      'followed': {
        'problems': 192,
        'solved': 160,
        'cost': 2.2e10,
        'covered': {'value': 0.833, 'low': 0.78, 'high': 0.88, 'n': 192},
      },
    },
    'title': 'tiny-wc against tiny-se on arith, at the same cost',
    'status': 'finished',
    'answer': {
      'sentence': (
        'At this cost, sampling from tiny-wc or from tiny-se makes no '
        'difference that this study can see: students trained on WC data solve '
        '+0.9 points more (−1.7 to +3.5, n = 1,024).'
      ),
      'details': [
        'Low budget: WC covers fewer problems than SE (−8.3 points, −10.5 to '
        '−6.1, n = 512).',
        'High budget: no difference seen (−1.0 points, −3.2 to +1.2, n = 512).',
        'On a pair with a cost ratio above about 3.6 WC would lead.',
      ],
    },
    'task': {
      'name': 'arith',
      'split': 'train',
      'problems': 512,
      'test_problems': 1024,
      'levels': ['1', '2', '3', '4', '5'],
    },
    'sampling': {
      'temperature': 0.7,
      'top_k': 3,
      'top_p': 1.0,
      'min_p': 0.0,
      'max_new_tokens': 160,
    },
    'models': {
      'wc': {
        'name': 'tiny-wc',
        'parameters': 913_408,
        'flops_per_token': 1_826_816,
        'greedy': _estimate(0.332, 0.029, 1024),
      },
      'se': {
        'name': 'tiny-se',
        'parameters': 2_721_792,
        'flops_per_token': 5_443_584,
        'greedy': _estimate(0.497, 0.031, 1024),
      },
      'student': {
        'name': 'tiny-student',
        'parameters': 913_408,
        'flops_per_token': 1_826_816,
        'greedy': None,
      },
    },
    'budgets': [
      {
        'name': name,
        'se': se,
        'wc': wc,
        'currency': 'params',
        'ratio': 2.98,
        'exact': 2.98 * se,
        'rounding': f'Rounded down from {2.98 * se:.2f} to {wc}.',
      }
      for name, se, wc in (('low', 1, 2), ('high', 4, 11))
    ],
    'quality': {
      'low': {
        'wc': _measure('wc', 2, false=0.091, tokens=61.2),
        'se': _measure('se', 1, false=0.052, tokens=58.8),
      },
      'high': {
        'wc': _measure('wc', 11, false=0.094, tokens=61.4),
        'se': _measure('se', 4, false=0.055, tokens=58.7),
        'wc_number_matched': _measure('wc', 4, false=0.092, tokens=61.4),
      },
    },
    'gaps': {
      'low': _estimate(-0.083, 0.022, 512),
      'high': _estimate(-0.010, 0.022, 512),
    },
    'curves': {role: _curve(role, _KS[:9], 512) for role in ('wc', 'se')},
    'truth': {
      'samples_per_problem': 128,
      **{role: _curve(role, _KS, 512)['coverage'] for role in ('wc', 'se')},
      'checks': [
        {
          'model': role,
          'k': k,
          'estimate': _estimate(
            _covered(*_SHAPES[role], k) + shift, 0.041, 128
          ),
          'truth': _estimate(_covered(*_SHAPES[role], k), 0.02, 512),
          'inside': abs(shift) < 0.041,
        }
        for role in ('wc', 'se')
        for k, shift in ((1, 0.01), (2, -0.012), (4, 0.045), (8, 0.02))
      ],
    },
    'ratios': _ratios('low', 1) + _ratios('high', 4),
    'break_even': {
      'low': None,
      'high': {'ratio': 3.31, 'low': 2.72, 'high': 4.12},
    },
    'training': {
      'budget': 'high',
      'steps': 600,
      'validation_problems': 256,
      'test_problems': 1024,
      'detectable_difference': 0.037,
      'replicates': 3,
      'setups': [
        _setup(
          'student', 'Knowledge distillation', 'tiny-student', 0.41, 0.009
        ),
        _setup('wc', 'Self-improvement', 'tiny-wc', 0.38, 0.034),
        _setup('se', 'Weak-to-strong improvement', 'tiny-se', 0.52, -0.012),
      ],
    },
    'judges': {
      role: [_judge('task', 0.09, None), _judge('qwen', 0.04, 0.11)]
      for role in ('wc', 'se')
    },
    'selection': [
      {
        'arm': arm,
        'label': label,
        'counts': {
          'rows': 5632,
          'right': 2310,
          'sound': 0,
          'distinct': 411,
          'per_problem': 96,
          'chosen': 2815,
          'problems': 512,
          'problems_chosen': 433,
          'chosen_right': 2815,
          'chosen_known': 2815,
        },
      }
      for arm, label in (('wc', 'WC data'), ('se', 'SE data'))
    ],
    'contamination': {
      'train': 512,
      'test': 1024,
      'equal': 0,
      'any_13_gram': 31,
      'share_of_8_grams': [
        {'share': share, 'test': count, 'train': count // 2}
        for share, count in ((0.25, 44), (0.5, 12), (0.75, 3), (1.0, 0))
      ],
      'dropped': 7,
    },
    'ledger': {
      'rows': [
        {
          'stage': stage,
          'model': model,
          'chips': 1,
          'chip_seconds': value / 2.6e13,
          'prefill_tokens': 102_400,
          'decode_tokens': 1_638_400,
          'flops': int(value * share),
          'usd': value / 1e16,
        }
        for stage, value in flops.items()
        for model, share in (('tiny-wc', 0.4), ('tiny-se', 0.6))
      ],
      'by_stage': [
        {
          'stage': stage,
          'chip_seconds': value / 1.3e13,
          'flops': int(value),
          'share_of_flops': value / total,
        }
        for stage, value in flops.items()
      ],
    },
    'examples': [
      {
        'problem_id': 'arith/train/00017',
        'level': '3',
        'question': (
          'Mia has 12 boxes with 7 pens each. She gives away 20 pens and then '
          'doubles what is left. How many pens does she have?'
        ),
        'reference': '12 * 7 = 84\n84 - 20 = 64\n64 * 2 = 128\n#### 128',
        'answer': '128',
        'samples': [
          {
            'model': 'se',
            'text': '12 * 7 = 84\n84 - 20 = 64\n64 * 2 = 128\n#### 128',
            'verdict': 'right',
            'sound': True,
            'why': '',
          },
          {
            'model': 'wc',
            'text': '12 * 7 = 74\n74 - 10 = 64\n64 * 2 = 128\n#### 128',
            'verdict': 'right',
            'sound': False,
            'why': 'Step 1: 12 * 7 is 84, not 74.',
          },
          {
            'model': 'wc',
            'text': '12 + 7 = 19\n#### 19',
            'verdict': 'wrong',
            'sound': None,
            'why': '',
          },
        ],
      }
    ],
    'provenance': {
      'commit': '0123456789abcdef0123456789abcdef01234567',
      'python': '3.11.2',
      'jax': '0.10.2',
      'started': '2026-01-02T03:04:05Z',
      'platform': 'Linux-6.1-x86_64',
    },
    'config': {
      'seed': 0,
      'sampler': {'temperature': 0.7, 'slots': 64},
      'train': {'steps': 600, 'optimizer': {'name': 'adamw'}},
    },
    'notes': ['The tiny models were trained from the same kind of problem.'],
  }
  return made_more.add(found, _covered, _SHAPES)
