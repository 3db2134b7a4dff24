"""How well figures of the data pick the better student.

For each cell, a budget and a cost ratio, and each replicate, a proxy sees that
replicate's data and picks an arm.  The better arm is the one with the higher
mean accuracy over the other replicates, so that no noise is counted as a gain.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from wcse_jax.metrics import intervals
from wcse_jax.plan import pairs


Array = npt.NDArray[np.float64]

# What each proxy goes by; more is taken to be better.
PROXIES = {
  'coverage': 'problems with a right sample',
  'right': 'right samples',
  'distinct': 'distinct right samples, by chain, of all problems',
  'student loss': 'loss of the untuned student on the data, less of it',
  'planner': 'coverage foretold by the planner from a pilot',
  'always weak': 'the weak model, whatever the data',
  'always strong': 'the strong model, whatever the data',
}
# A gap within this either way is called equal.
MARGIN = 0.01
_DRAWS = 2000


def judge(
  cells: Sequence[tuple[int, float, int]],
  students: Mapping[tuple[str, int, int], Mapping[str, Any]],
  foretold: Mapping[tuple[str, int], float],
  replicates: int,
) -> dict[str, Any]:
  """Returns how well each proxy picks the better student.

  `picks` is how often a proxy picks the better arm, `regret` how much accuracy
  it gives away against always picking it.  Their intervals come from replicates
  that are drawn anew; a replicate is never judged by a copy of itself.

  Of each cell, `data_verdict` is what coverage says and `student_verdict` what
  the students do: one of `pairs.VERDICTS`, with a margin of `MARGIN`.

  Args:
    cells: (strong samples, cost ratio, weak samples).
    students: (`wc` or `se`, samples, replicate) -> its figures.
    foretold: (`wc` or `se`, samples) -> coverage by the planner.
    replicates: how many.
  """
  accuracy = _by_arm(students, 'accuracy')
  keys = [(('wc', weak), ('se', strong)) for strong, _, weak in cells]
  accuracy_2CR = np.stack(
    [np.stack([accuracy[pair[i]] for pair in keys]) for i in (0, 1)]
  )
  random = np.random.default_rng(0)
  weight_DR = np.concatenate(
    [np.ones((1, replicates)), *intervals.weights(random, replicates, _DRAWS)]
  )
  rows = []
  for name in PROXIES:
    weak_CR = np.array(
      [
        [
          _picked(
            _proxy(name, students[*weak, r], foretold[weak]),
            _proxy(name, students[*strong, r], foretold[strong]),
          )
          for r in range(replicates)
        ]
        for weak, strong in keys
      ]
    )
    picks_D, regret_D = _held_out(weak_CR, accuracy_2CR, weight_DR)
    rows.append(
      {
        'proxy': name,
        'goes_by': PROXIES[name],
        'picks': _estimate(picks_D, replicates),
        'regret': _estimate(regret_D, replicates),
      }
    )
  return {
    'students': len(students),
    'replicates': replicates,
    'proxies': sorted(rows, key=lambda row: row['regret']['value']),
    'cells': [
      _cell(cell, pair, accuracy, _by_arm(students, 'coverage'))
      for cell, pair in zip(cells, keys, strict=True)
    ],
  }


def _cell(cell, pair, accuracy, coverage) -> dict[str, Any]:
  k_strong, ratio, k_weak = cell
  weak, strong = pair
  gap = intervals.difference(accuracy[weak], accuracy[strong])
  of_data = intervals.difference(coverage[weak], coverage[strong])
  return {
    'k_strong': k_strong,
    'ratio': ratio,
    'k_weak': k_weak,
    'weak': intervals.mean(accuracy[weak]),
    'strong': intervals.mean(accuracy[strong]),
    'gap': gap,
    'coverage_gap': of_data,
    'data_verdict': pairs.judge(of_data, MARGIN),
    'student_verdict': pairs.judge(gap, MARGIN),
  }


def _held_out(
  weak_CR: Array, accuracy_2CR: Array, weight_DR: Array
) -> tuple[Array, Array]:
  """Returns (share of right picks, regret) of each weighting, (D,).

  Args:
    weak_CR: share of a replicate's pick that is the weak arm.
    accuracy_2CR: of the weak and of the strong arm's students.
    weight_DR: how often each replicate counts.
  """
  cells, replicates = weak_CR.shape
  picks_D, regret_D = np.zeros((2, len(weight_DR)))
  for r in range(replicates):
    other_DR = weight_DR.copy()
    other_DR[:, r] = 0
    total_D = other_DR.sum(axis=1)
    # A weighting of one replicate alone has nothing to judge it by.
    share_DR = other_DR / np.maximum(total_D, 1)[:, None]
    weak_DC, strong_DC = (share_DR @ one_CR.T for one_CR in accuracy_2CR)
    best_DC = np.maximum(weak_DC, strong_DC)
    pick_C = weak_CR[:, r]
    right_DC = pick_C * (weak_DC == best_DC)
    right_DC = right_DC + (1 - pick_C) * (strong_DC == best_DC)
    got_DC = pick_C * weak_DC + (1 - pick_C) * strong_DC
    factor_D = weight_DR[:, r] / weight_DR.sum(axis=1) / cells
    picks_D += factor_D * right_DC.sum(axis=1)
    regret_D += factor_D * (best_DC - got_DC).sum(axis=1)
  return picks_D, regret_D


def _estimate(values_D: Array, count: int) -> dict[str, Any]:
  low, high = np.quantile(values_D[1:], intervals.TAILS)
  return {
    'value': float(values_D[0]),
    'low': float(low),
    'high': float(high),
    'n': count,
  }


def _picked(weak: float, strong: float) -> float:
  """Returns which share of a pick is the weak arm; half of it for a tie."""
  return 0.5 if weak == strong else float(weak > strong)


def _by_arm(students, name: str) -> dict[tuple[str, int], Array]:
  """Returns (role, samples) -> a figure of each replicate."""
  found: dict[tuple[str, int], list[tuple[int, float]]] = {}
  for (role, samples, replicate), row in students.items():
    found.setdefault((role, samples), []).append((replicate, row[name]))
  return {
    key: np.array([value for _, value in sorted(values)])
    for key, values in found.items()
  }


def _proxy(name: str, row: Mapping[str, Any], foretold: float) -> float:
  match name:
    case 'student loss':
      return -row[name]
    case 'planner':
      return foretold
    case 'always weak':
      return float(row['role'] == 'wc')
    case 'always strong':
      return float(row['role'] == 'se')
  return row[name]


def table(results: Mapping[str, Any]) -> str:
  """Returns the results as a table for the terminal."""
  lines = [f'{results["students"]} students']
  lines.append(
    f'{"proxy":<16}{"picks the better, %":>26}{"regret, points":>26}'
  )
  for row in results['proxies']:
    lines.append(
      f'{row["proxy"]:<16}{_shown(row["picks"]):>26}{_shown(row["regret"]):>26}'
    )
  lines.append('')
  lines.append(
    f'{"SE":>4}{"ratio":>7}{"WC":>5}{"students, points":>24}'
    f'{"verdict":>13}{"coverage, points":>24}{"verdict":>13}'
  )
  for row in results['cells']:
    lines.append(
      f'{row["k_strong"]:>4}{row["ratio"]:>7.3g}{row["k_weak"]:>5}'
      f'{_shown(row["gap"]):>24}{row["student_verdict"]:>13}'
      f'{_shown(row["coverage_gap"]):>24}{row["data_verdict"]:>13}'
    )
  return '\n'.join(lines)


def _shown(row: Mapping[str, Any]) -> str:
  value, low, high = (100 * row[name] for name in ('value', 'low', 'high'))
  return f'{value:.1f} [{low:.1f}, {high:.1f}]'
