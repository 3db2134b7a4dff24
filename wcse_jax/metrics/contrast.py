"""The weak model against the strong one: gaps and the break-even ratio."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from wcse_jax.metrics import coverage, intervals, measure


def gap(
  weak: measure.Table, strong: measure.Table, k_weak: int, k_strong: int
) -> dict[str, Any]:
  """Returns the Estimate of coverage of the weak less that of the strong model.

  Args:
    weak: its samples, on the same problems as `strong`.
    strong: its samples.
    k_weak: samples per problem of the weak model.
    k_strong: samples per problem of the strong model.

  Raises:
    ValueError: if the tables are of different problems, or have too few
      samples.
  """
  if weak.ids != strong.ids:
    raise ValueError('weak, strong: wanted the same problems; got others.')
  return intervals.difference(
    coverage.coverage(weak.n_Q, weak.right_Q, k_weak),
    coverage.coverage(strong.n_Q, strong.right_Q, k_strong),
  )


def verdict(estimate: dict[str, Any]) -> str:
  """Returns `weak`, `strong` or `cannot tell`, as a gap's interval says."""
  if estimate['low'] is not None and estimate['low'] > 0:
    return 'weak'
  if estimate['high'] is not None and estimate['high'] < 0:
    return 'strong'
  return 'cannot tell'


def break_even(
  weak: measure.Table,
  strong: measure.Table,
  k_strong: int,
  *,
  draws: int = intervals.DRAWS,
  seed: int = 0,
) -> dict[str, Any]:
  """Returns the cost ratio at which both models cover as much, with interval.

  At k_strong samples of the strong model, the weak one covers as many problems
  with ratio * k_strong samples; between whole numbers coverage is taken as
  linear.  An end that lies beyond the samples at hand is None.

  Args:
    weak: samples of the weak model, many per problem.
    strong: samples of the strong model on the same problems.
    k_strong: samples per problem of the strong model.
    draws: number of bootstrap resamples of the problems.
    seed: of the resampling.
  """
  most = int(weak.n_Q.min())
  curve_KQ = np.stack(
    [coverage.coverage(weak.n_Q, weak.right_Q, k) for k in range(1, most + 1)]
  )
  level_Q = coverage.coverage(strong.n_Q, strong.right_Q, k_strong)
  problems = level_Q.size
  random = np.random.default_rng(seed)
  picks = random.multinomial(
    problems, np.full(problems, 1 / problems), size=draws
  )
  ratios = [
    _crossing(curve_KQ @ weights, float(level_Q @ weights)) / k_strong
    for weights in picks / problems
  ]
  value = _crossing(curve_KQ.mean(axis=1), float(level_Q.mean())) / k_strong
  low, high = np.quantile(ratios, [0.025, 0.975], method='nearest')
  return {
    'ratio': _finite(value),
    'low': _finite(low),
    'high': _finite(high),
    'n': problems,
  }


def _crossing(curve_K: Sequence[float], level: float) -> float:
  """Returns the number of samples at which a rising curve reaches a level."""
  above = np.asarray(curve_K) >= level
  if not above.any():
    return float('inf')
  at = int(np.argmax(above))
  before = curve_K[at - 1] if at else 0.0
  return at + (level - before) / max(curve_K[at] - before, 1e-12)


def _finite(value: float) -> float | None:
  return float(value) if np.isfinite(value) else None
