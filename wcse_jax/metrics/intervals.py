"""95% bootstrap intervals over problems.

Samples of one problem hang together, so problems are resampled, never samples.
Every function returns an Estimate: `{'value', 'low', 'high', 'n'}`, n being the
number of problems.  `value` is None where it is undefined (no problem, or a
denominator of 0); `low` and `high` are None there and where n is 1, since one
problem has no spread.  The interval is the percentile one: where every problem
has the same value it has width 0, which does not mean certainty.

Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, ch. 13.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


DRAWS = 2000
# The ends of the interval, as shares of the resamples.
TAILS = (0.025, 0.975)
# Weights held at once: 2**21 float64 are 16 MiB.
_BLOCK = 2**21


def mean(
  values_Q: npt.ArrayLike, *, draws: int = DRAWS, seed: int = 0
) -> dict[str, Any]:
  """Returns the Estimate of the mean over problems."""
  values_Q = _vector('values_Q', values_Q)
  return ratios(
    values_Q[None], np.ones((1, values_Q.size)), draws=draws, seed=seed
  )[0]


def ratio(
  numerator_Q: npt.ArrayLike,
  denominator_Q: npt.ArrayLike,
  *,
  draws: int = DRAWS,
  seed: int = 0,
) -> dict[str, Any]:
  """Returns the Estimate of sum(numerator_Q) / sum(denominator_Q)."""
  numerator_Q = _vector('numerator_Q', numerator_Q)
  denominator_Q = _vector('denominator_Q', denominator_Q)
  if numerator_Q.size != denominator_Q.size:
    raise ValueError(
      'numerator_Q and denominator_Q must be of the same problems; got '
      f'{numerator_Q.size} and {denominator_Q.size}.'
    )
  return ratios(numerator_Q[None], denominator_Q[None], draws=draws, seed=seed)[
    0
  ]


def difference(
  a_Q: npt.ArrayLike,
  b_Q: npt.ArrayLike,
  *,
  draws: int = DRAWS,
  seed: int = 0,
) -> dict[str, Any]:
  """Returns the Estimate of mean(a_Q) - mean(b_Q), paired by problem."""
  a_Q, b_Q = _vector('a_Q', a_Q), _vector('b_Q', b_Q)
  if a_Q.size != b_Q.size:
    raise ValueError(
      f'a_Q and b_Q must be of the same problems; got {a_Q.size} and '
      f'{b_Q.size}.'
    )
  return mean(a_Q - b_Q, draws=draws, seed=seed)


def ratios(
  numerators_CQ: npt.NDArray[np.float64],
  denominators_CQ: npt.NDArray[np.float64],
  *,
  counts_C: npt.NDArray[np.int64] | None = None,
  draws: int = DRAWS,
  seed: int = 0,
) -> list[dict[str, Any]]:
  """Returns one Estimate a row, all from the same resampled problems.

  Args:
    numerators_CQ: C quantities of each problem.
    denominators_CQ: what each is divided by, summed over problems (ones: a
      mean).
    counts_C: how many of the problems each is of, both numbers of the others
      being 0; None: all of them.
    draws: number of bootstrap resamples.
    seed: of the resampling.
  """
  rows, problems = numerators_CQ.shape
  totals, sums = _resampled([numerators_CQ, denominators_CQ], draws, seed)
  counts_C = np.full(rows, problems) if counts_C is None else counts_C
  return [
    _estimate(
      totals[0][row],
      totals[1][row],
      (sums[0][:, row], sums[1][:, row]) if counts_C[row] > 1 else None,
      int(counts_C[row]),
    )
    for row in range(rows)
  ]


def ratio_differences(
  numerators_a_CQ: npt.NDArray[np.float64],
  denominators_a_CQ: npt.NDArray[np.float64],
  numerators_b_CQ: npt.NDArray[np.float64],
  denominators_b_CQ: npt.NDArray[np.float64],
  *,
  counts_C: npt.NDArray[np.int64] | None = None,
  draws: int = DRAWS,
  seed: int = 0,
) -> list[dict[str, Any]]:
  """Returns the Estimate of each ratio of a less that of b, paired by problem.

  Arguments are as in `ratios`, of a and of b on the same problems.  The value
  is None where either ratio is undefined.
  """
  parts = [
    numerators_a_CQ,
    denominators_a_CQ,
    numerators_b_CQ,
    denominators_b_CQ,
  ]
  rows, problems = numerators_a_CQ.shape
  totals, sums = _resampled(parts, draws, seed)
  counts_C = np.full(rows, problems) if counts_C is None else counts_C
  return [
    _estimate(
      *_joined(*(total[row] for total in totals)),
      _joined(*(part[:, row] for part in sums)) if counts_C[row] > 1 else None,
      int(counts_C[row]),
    )
    for row in range(rows)
  ]


def _joined(top_a, bottom_a, top_b, bottom_b):
  """Returns numerator and denominator of the difference of two ratios."""
  return top_a * bottom_b - top_b * bottom_a, bottom_a * bottom_b


def _resampled(parts, draws: int, seed: int):
  """Returns sums over problems of each part: as they are, and resampled.

  The former have shape (C,), the latter (draws, C).
  """
  rows, problems = parts[0].shape
  totals = [part.sum(axis=1) for part in parts]
  if problems < 2:
    return totals, [np.zeros((0, rows))] * len(parts)
  columns = np.concatenate(parts).T
  sums = np.concatenate(
    [
      block @ columns
      for block in weights(np.random.default_rng(seed), problems, draws)
    ]
  )
  return totals, np.split(sums, len(parts), axis=1)


def clustered(
  values_RQ: npt.ArrayLike, *, draws: int = DRAWS, seed: int = 0
) -> dict[str, Any]:
  """Returns the Estimate of the mean of R training replicates on Q problems.

  Replicates (seeds of one arm) and problems are resampled both, each on its
  own, so the interval speaks of another training run on other problems.  Read
  it with care when R is small: resampling R replicates shows only (R-1)/R of
  the variance between runs (half of it at R = 2, two thirds at 3), from very
  few values, so it is then too narrow; with R = 1 the noise of training is not
  in it at all, and it speaks of other problems only.

  Args:
    values_RQ: for example pass@1 of each replicate on each problem; all
      replicates are measured on the same problems.
    draws: number of bootstrap resamples.
    seed: of the resampling.
  """
  values_RQ = np.asarray(values_RQ, np.float64)
  if values_RQ.ndim != 2 or not np.all(np.isfinite(values_RQ)):
    raise ValueError(
      'values_RQ must be a finite matrix, replicates by problems; got shape '
      f'{values_RQ.shape}.'
    )
  replicates, problems = values_RQ.shape
  if not replicates or not problems:
    return _estimate(0.0, 0.0, None, 0)
  total, cells = values_RQ.sum(), values_RQ.size
  if problems < 2:
    return _estimate(total, cells, None, problems)
  of_problems, of_replicates = np.random.default_rng(seed).spawn(2)
  means_R = np.concatenate(
    [w @ values_RQ.T for w in weights(of_problems, problems, draws)]
  )
  chosen_R = np.concatenate(list(weights(of_replicates, replicates, draws)))
  tops = np.einsum('dr,dr->d', means_R, chosen_R)
  return _estimate(total, cells, (tops, np.full(draws, cells)), problems)


def weights(
  random: np.random.Generator, items: int, draws: int
) -> Iterator[npt.NDArray[np.float64]]:
  """Yields blocks of multinomial weights: how often each item was drawn."""
  size = max(1, _BLOCK // items)
  for start in range(0, draws, size):
    count = min(size, draws - start)
    picks = random.integers(items, size=(count, items))
    picks += np.arange(count)[:, None] * items
    flat = np.bincount(picks.reshape(-1), minlength=count * items)
    yield flat.reshape(count, items).astype(np.float64)


def _estimate(
  top: float,
  bottom: float,
  resampled: Sequence[npt.NDArray[np.float64]] | None,
  problems: int,
) -> dict[str, Any]:
  low = high = None
  if resampled is not None and bottom:
    tops, bottoms = resampled
    # A resample without any denominator has no ratio to speak of.
    kept = bottoms != 0
    low, high = map(float, np.quantile(tops[kept] / bottoms[kept], TAILS))
  return {
    'value': float(top / bottom) if bottom else None,
    'low': low,
    'high': high,
    'n': problems,
  }


def _vector(name: str, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
  values = np.asarray(values, np.float64)
  if values.ndim != 1 or not np.all(np.isfinite(values)):
    raise ValueError(
      f'{name} must be a finite vector, one value a problem; got shape '
      f'{values.shape}.'
    )
  return values
