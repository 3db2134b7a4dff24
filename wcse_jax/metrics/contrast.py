"""The weak model against the strong one: gaps and the break-even ratio.

All are paired: both models on the same problems, which are resampled together.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from wcse_jax.metrics import (
  coverage,
  extrapolation,
  intervals,
  measure,
  quantity,
)


# Share of problems that may have fewer graded samples than others.
_FEW_UNGRADED = 0.05


def gap(
  weak: measure.Table,
  strong: measure.Table,
  k_weak: int,
  k_strong: int,
  *,
  extrapolate: bool = False,
) -> dict[str, Any]:
  """Returns the Estimate of coverage of the weak less that of the strong model.

  It is of the problems of which both have enough graded samples, n of them.

  Args:
    weak: its samples, on the same problems as `strong`.
    strong: its samples.
    k_weak: samples per problem of the weak model.
    k_strong: samples per problem of the strong model.
    extrapolate: whether samples beyond those at hand may be asked for; the row
      then has `extrapolated`, which says whether they were.

  Raises:
    ValueError: if the tables are of different problems.
  """
  _check(weak, strong)
  if extrapolate:
    both_Q = (weak.n_Q > 0) & (strong.n_Q > 0)
    beyond = bool(
      np.any(weak.n_Q[both_Q] < k_weak) or np.any(strong.n_Q[both_Q] < k_strong)
    )
    if beyond:
      found = extrapolation.difference(
        (weak.n_Q, weak.right_Q), (strong.n_Q, strong.right_Q), k_weak, k_strong
      )
    else:
      found = intervals.difference(
        coverage.coverage(weak.n_Q[both_Q], weak.right_Q[both_Q], k_weak),
        coverage.coverage(strong.n_Q[both_Q], strong.right_Q[both_Q], k_strong),
      )
    return {**found, 'extrapolated': beyond}
  both_Q = (weak.n_Q >= k_weak) & (strong.n_Q >= k_strong)
  return intervals.difference(
    coverage.coverage(weak.n_Q[both_Q], weak.right_Q[both_Q], k_weak),
    coverage.coverage(strong.n_Q[both_Q], strong.right_Q[both_Q], k_strong),
  )


def compare(
  a: measure.Table,
  b: measure.Table,
  ks: Sequence[int],
  *,
  draws: int = intervals.DRAWS,
  seed: int = 0,
) -> dict[str, Any]:
  """Returns every measure of a less that of b, as `measure.measure` has them.

  The keys are those of `measures.json`; each estimate is of the problems that
  both models have enough samples of, n of them.

  Args:
    a: samples of one model.
    b: samples of another model on the same problems.
    ks: the numbers of samples drawn of either.
    draws: number of bootstrap resamples of the problems.
    seed: of the resampling.

  Raises:
    ValueError: if the tables are of different problems, or one of them is of
      grades alone.
  """
  _check(a, b)
  if a.sampled != b.sampled:
    raise ValueError(
      'a, b: wanted samples with both or with none; got one with grades alone.'
    )
  of_a, of_b = quantity.of(a, ks), quantity.of(b, ks)
  options = {'draws': draws, 'seed': seed}

  def arranged(mask_Q=None) -> dict[str, Any]:
    found = quantity.differences(of_a, of_b, mask_Q, **options)
    return measure.arrange(of_a, found)

  return {
    **arranged(),
    **{
      f'by_{kind}': [
        {kind: name, 'problems': int(mask_Q.sum()), **arranged(mask_Q)}
        for name, mask_Q in measure.strata(names)
      ]
      for kind, names in (('level', a.levels), ('subject', a.subjects))
    },
  }


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
  linear.  An end that lies beyond the samples at hand is None.  Where some
  samples could not be graded it goes by as many as 95% of the problems have,
  and by these problems.

  Args:
    weak: samples of the weak model, many per problem.
    strong: samples of the strong model on the same problems.
    k_strong: samples per problem of the strong model.
    draws: number of bootstrap resamples of the problems.
    seed: of the resampling.
  """
  most = int(np.quantile(weak.n_Q, _FEW_UNGRADED, method='lower'))
  kept_Q = (weak.n_Q >= most) & (strong.n_Q >= k_strong)
  problems = int(kept_Q.sum())
  if not (most and problems):
    return {'ratio': None, 'low': None, 'high': None, 'n': 0}
  n_Q, right_Q = weak.n_Q[kept_Q], weak.right_Q[kept_Q]
  curve_KQ = np.stack(
    [coverage.coverage(n_Q, right_Q, k) for k in range(1, most + 1)]
  )
  level_Q = coverage.coverage(
    strong.n_Q[kept_Q], strong.right_Q[kept_Q], k_strong
  )
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


def _check(a: measure.Table, b: measure.Table) -> None:
  if a.ids != b.ids:
    raise ValueError('wanted tables of the same problems; got others.')


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
