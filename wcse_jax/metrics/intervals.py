"""95% intervals over problems.

Samples of one problem hang together: problems vary, never samples alone.
Every function returns an Estimate: `{'value', 'low', 'high', 'n'}`, n being the
number of problems.  `value` is None where it is undefined (no problem, or a
denominator of 0); `low` and `high` are None there and where n is 1, since one
problem has no spread.  Which interval it is depends on the kind of number:

- a share (coverage, accuracy, false positive rate): Wilson's, with the variance
  over problems (`metrics.shares`), which stays right near 0 and 1, where few
  problems are unlike the rest;
- a paired difference of means: Student's t.  Where two models are alike on
  every problem it is as wide as if they were not on one;
- any other mean or ratio: the percentile bootstrap over problems.  Where every
  problem has the same value it has width 0, which does not mean certainty.

How often they hold the truth: docs/results/intervals.md.

Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, ch. 13.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from wcse_jax.metrics import shares


DRAWS = 2000
# The ends of the interval, as shares of the resamples.
TAILS = (0.025, 0.975)
# Weights held at once: 2**21 float64 are 16 MiB.
_BLOCK = 2**21


def mean(
  values_Q: npt.ArrayLike, *, draws: int = DRAWS, seed: int = 0
) -> dict[str, Any]:
  """Returns the Estimate of the mean over problems.

  Values that all lie between 0 and 1 are taken as shares.
  """
  values_Q = _vector('values_Q', values_Q)
  share = bool(np.all((values_Q >= 0) & (values_Q <= 1)))
  return ratio(
    values_Q, np.ones(values_Q.size), share=share, draws=draws, seed=seed
  )


def ratio(
  numerator_Q: npt.ArrayLike,
  denominator_Q: npt.ArrayLike,
  *,
  share: bool = False,
  draws: int = DRAWS,
  seed: int = 0,
) -> dict[str, Any]:
  """Returns the Estimate of sum(numerator_Q) / sum(denominator_Q).

  Args:
    numerator_Q: of each problem.
    denominator_Q: of each problem.
    share: whether it is a part of a whole: 0 <= numerator <= denominator.
    draws: number of bootstrap resamples, of what is none.
    seed: of the resampling.
  """
  numerator_Q = _vector('numerator_Q', numerator_Q)
  denominator_Q = _vector('denominator_Q', denominator_Q)
  if numerator_Q.size != denominator_Q.size:
    raise ValueError(
      'numerator_Q and denominator_Q must be of the same problems; got '
      f'{numerator_Q.size} and {denominator_Q.size}.'
    )
  return ratios(
    numerator_Q[None],
    denominator_Q[None],
    shares_C=np.array([share]),
    draws=draws,
    seed=seed,
  )[0]


def difference(a_Q: npt.ArrayLike, b_Q: npt.ArrayLike) -> dict[str, Any]:
  """Returns the Estimate of mean(a_Q) - mean(b_Q), paired by problem."""
  a_Q, b_Q = _vector('a_Q', a_Q), _vector('b_Q', b_Q)
  if a_Q.size != b_Q.size:
    raise ValueError(
      f'a_Q and b_Q must be of the same problems; got {a_Q.size} and '
      f'{b_Q.size}.'
    )
  return _paired(a_Q - b_Q, a_Q.size)


def ratios(
  numerators_CQ: npt.NDArray[np.float64],
  denominators_CQ: npt.NDArray[np.float64],
  *,
  counts_C: npt.NDArray[np.int64] | None = None,
  shares_C: npt.NDArray[np.bool_] | None = None,
  draws: int = DRAWS,
  seed: int = 0,
) -> list[dict[str, Any]]:
  """Returns one Estimate a row, resampled rows all from the same problems.

  Args:
    numerators_CQ: C quantities of each problem.
    denominators_CQ: what each is divided by, summed over problems (ones: a
      mean).
    counts_C: how many of the problems each is of, both numbers of the others
      being 0; None: all of them.
    shares_C: which are shares, 0 <= numerator <= denominator; None: none.
    draws: number of bootstrap resamples.
    seed: of the resampling.
  """
  rows, problems = numerators_CQ.shape
  counts_C = np.full(rows, problems) if counts_C is None else counts_C
  shares_C = np.zeros(rows, bool) if shares_C is None else shares_C
  others = iter(
    _bootstrapped(
      [numerators_CQ[~shares_C], denominators_CQ[~shares_C]],
      counts_C[~shares_C],
      draws,
      seed,
    )
  )
  return [
    _share(numerators_CQ[row], denominators_CQ[row], int(counts_C[row]))
    if shares_C[row]
    else next(others)
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
  counts_C = np.full(rows, problems) if counts_C is None else counts_C
  # Ratios whose denominators are 1 for the problems that are in are means.
  means_C = np.array(
    [
      np.array_equal(a_Q, b_Q)
      and np.all((a_Q == 0) | (a_Q == 1))
      and a_Q.sum() == count
      for a_Q, b_Q, count in zip(denominators_a_CQ, denominators_b_CQ, counts_C)
    ],
    bool,
  )
  others = iter(
    _bootstrapped(
      [part[~means_C] for part in parts], counts_C[~means_C], draws, seed
    )
  )
  found = []
  for row in range(rows):
    if not means_C[row]:
      found.append(next(others))
      continue
    in_Q = denominators_a_CQ[row] > 0
    each_Q = (numerators_a_CQ[row] - numerators_b_CQ[row])[in_Q]
    found.append(_paired(each_Q, int(counts_C[row])))
  return found


def _share(
  numerator_Q: npt.NDArray, denominator_Q: npt.NDArray, problems: int
) -> dict[str, Any]:
  """Returns the Estimate of a share, whose variance is over problems."""
  top, bottom = numerator_Q.sum(), denominator_Q.sum()
  if problems < 2 or not bottom:
    return _estimate(top, bottom, None, problems)
  value = top / bottom
  # What a problem adds to the share's error, to first order.
  off_Q = numerator_Q - value * denominator_Q
  variance = off_Q @ off_Q / bottom**2 * problems / (problems - 1)
  t = special.stdtrit(problems - 1, TAILS[1])
  ends = shares.bounds(value, variance, t, problems)
  return _estimate(top, bottom, ends, problems)


def _paired(each_Q: npt.NDArray, problems: int) -> dict[str, Any]:
  """Returns the Estimate of the mean of differences on problems: Student's."""
  if problems < 2:
    return _estimate(each_Q.sum(), problems, None, problems)
  value = each_Q.mean()
  error = each_Q.std(ddof=1) / np.sqrt(problems)
  if not np.any(each_Q):
    error = 1 / problems
  half = special.stdtrit(problems - 1, TAILS[1]) * error
  ends = (value - half, value + half)
  return _estimate(each_Q.sum(), problems, ends, problems)


def _bootstrapped(
  parts: Sequence[npt.NDArray],
  counts_C: npt.NDArray[np.int64],
  draws: int,
  seed: int,
) -> list[dict[str, Any]]:
  """Returns the Estimate of a ratio, or of the difference of two, a row.

  Args:
    parts: numerators_CQ and denominators_CQ, of one or of two.
    counts_C: how many problems each row is of.
    draws: number of resamples.
    seed: of the resampling.
  """
  if not len(counts_C):
    return []
  joined = _joined if len(parts) == 4 else lambda *ratio: ratio
  totals, sums = _resampled(parts, draws, seed)
  found = []
  for row, count in enumerate(counts_C):
    ends = None
    if count > 1:
      tops, bottoms = joined(*(part[:, row] for part in sums))
      # A resample without any denominator has no ratio to speak of.
      kept = bottoms != 0
      if kept.any():
        ends = np.quantile(tops[kept] / bottoms[kept], TAILS)
    top, bottom = joined(*(total[row] for total in totals))
    found.append(_estimate(top, bottom, ends, int(count)))
  return found


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
  own, so the interval speaks of another training run on other problems.  When
  R is small it is too narrow: resampling R replicates shows only (R-1)/R of the
  variance between runs (half of it at R = 2, two thirds at 3), from very few
  values; with R = 1 the noise of training is not in it at all, and it speaks of
  other problems only.  `metrics.replicated` has intervals that are not.

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
  return _estimate(total, cells, np.quantile(tops / cells, TAILS), problems)


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
  top: float, bottom: float, ends: Sequence[float] | None, problems: int
) -> dict[str, Any]:
  """Returns an Estimate; without a value where the denominator is 0."""
  low, high = (None, None) if ends is None or not bottom else map(float, ends)
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
