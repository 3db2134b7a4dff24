"""95% intervals of accuracies of students that were trained several times.

R replicates of an arm, each trained anew on data drawn anew, are asked the same
Q problems.  The value of replicate r on problem q is a mean, an effect of the
problem, one of the run, and the noise of that run on that problem:

  value_RQ = mean + problem_1Q + run_R1 + noise_RQ

The interval speaks of other runs on other problems, so it has the variance of
both.  That between runs is known from a handful of runs only, which is what
makes the interval wide.

- Variance: that of the replicates' means (runs and noise), and of the problems
  without the noise, which the former has already; never less than 0.
- Quantile: that of Student's t distribution at either part's degrees of
  freedom, weighted by the parts.
- Two arms: problems are paired; runs are independent, and their variance is
  pooled over arms.
- A single arm: the bounds are Wilson's, with that variance and quantile.

One replicate shows nothing of runs: then the interval is over problems alone,
and says so (`runs` is False).  Where no two problems differ, a difference gets
the interval that it would have if one problem of Q did; a share of 0 or 1 that
of Q trials.

Every function takes leading axes too (many studies at once); Y are studies.
How often these intervals hold the truth: docs/results/intervals.md; why this
one: docs/design/statistics.md.

Sources: Owen 2007, The pigeonhole bootstrap (two-way random effects); Hillis
2007, A comparison of denominator degrees of freedom methods for multiple
observer ROC analysis (the variance, and why it is cut off so); Cochran and Cox
1950, Experimental Designs, section 4.14 (the quantile); Welch 1947 and
Satterthwaite 1946 (what it is an alternative to).
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from wcse_jax.metrics import shares


Array = npt.NDArray[np.float64]

LEVEL = 0.05


@dataclasses.dataclass(frozen=True, eq=False)
class Moments:
  """What an interval needs of an arm.

  Attributes:
    problem_Q: mean over replicates of each problem.
    between: variance of the replicates' means, the noise within; 0 of one.
    noise: the part of it that is noise of runs on problems.
    replicates: R.
  """

  problem_Q: Array
  between: Array
  noise: Array
  replicates: int

  @property
  def mean(self) -> Array:
    return self.problem_Q.mean(axis=-1)

  @property
  def problems(self) -> int:
    return self.problem_Q.shape[-1]


@dataclasses.dataclass(frozen=True, eq=False)
class Runs:
  """The variance between runs, from several arms.

  Attributes:
    between: variance of a replicate's mean.
    noise: the part of it that is noise.
    degrees: degrees of freedom; 0: nothing is known.
  """

  between: Array
  noise: Array
  degrees: int


@dataclasses.dataclass(frozen=True, eq=False)
class Interval:
  """Estimates, one a study."""

  value: Array
  low: Array
  high: Array
  error: Array
  degrees: Array
  p: Array | None = None


def moments(values_RQ: npt.ArrayLike) -> Moments:
  """Returns what is needed of a matrix, or of many (leading axes)."""
  values_RQ = np.asarray(values_RQ)
  replicates, problems = values_RQ.shape[-2:]
  problem_Q = values_RQ.mean(axis=-2, dtype=np.float64)
  none = np.zeros(problem_Q.shape[:-1])
  if replicates < 2 or problems < 2:
    return Moments(problem_Q, none, none, replicates)
  run_R = values_RQ.mean(axis=-1, dtype=np.float64)
  mean = problem_Q.mean(axis=-1)
  squares = np.einsum('...rq,...rq->...', values_RQ, values_RQ, dtype=float)
  noise = (
    squares
    - replicates * np.sum(problem_Q**2, axis=-1)
    - problems * np.sum(run_R**2, axis=-1)
    + replicates * problems * mean**2
  )
  noise /= (replicates - 1) * (problems - 1) * problems
  return Moments(
    problem_Q,
    run_R.var(axis=-1, ddof=1),
    np.where(noise > shares.ROUNDING, noise, 0.0),
    replicates,
  )


def runs(arms: Sequence[Moments]) -> Runs:
  """Returns the variance between runs, pooled by degrees of freedom."""
  degrees = sum(arm.replicates - 1 for arm in arms)
  parts = [
    sum((arm.replicates - 1) * getattr(arm, name) for arm in arms)
    / max(degrees, 1)
    for name in ('between', 'noise')
  ]
  return Runs(*parts, degrees)


def quantile(
  between: npt.ArrayLike,
  rest: npt.ArrayLike,
  degrees: npt.ArrayLike,
  problems: int,
  level: float = LEVEL,
) -> Array:
  """Returns how many standard errors an interval takes on either side.

  Args:
    between: part of the variance from replicates' means.
    rest: the other part.
    degrees: of freedom of the former; those of the latter are problems - 1.
    problems: Q.
    level: share of the intervals that may miss.
  """
  between, rest = np.broadcast_arrays(between, rest)
  tail = 1 - level / 2
  whole = between + rest
  share = np.divide(between, whole, out=np.zeros_like(whole), where=whole > 0)
  found = special.stdtrit(problems - 1, tail) * (1 - share)
  if np.any(share):
    found = found + share * special.stdtrit(degrees, tail)
  return found


def mean_of(arm: Moments, known: Runs) -> Interval:
  """Returns the interval of an arm's mean; Q is at least 2."""
  variance, t = _variance(arm.problem_Q, 1 / arm.replicates, known)
  value = arm.mean
  low, high = shares.bounds(value, variance, t, arm.problems)
  return Interval(value, low, high, np.sqrt(variance), _degrees(t))


def difference_of(a: Moments, b: Moments, known: Runs) -> Interval:
  """Returns the interval of one arm's mean less another's; Q is at least 2."""
  each_Q = a.problem_Q - b.problem_Q
  variance, t = _variance(each_Q, 1 / a.replicates + 1 / b.replicates, known)
  # As if one problem of Q told the arms apart, where none does.
  same = variance <= shares.ROUNDING
  variance = np.where(same, 1 / each_Q.shape[-1] ** 2, variance)
  error, degrees = np.sqrt(variance), _degrees(t)
  value = each_Q.mean(axis=-1)
  return Interval(
    value,
    np.maximum(value - t * error, -1.0),
    np.minimum(value + t * error, 1.0),
    error,
    degrees,
    2 * special.stdtr(degrees, -np.abs(value) / error),
  )


def _variance(each_Q: Array, weight: float, known: Runs) -> tuple[Array, Array]:
  """Returns the variance of a mean over problems, and its quantile."""
  problems = each_Q.shape[-1]
  of_problems = each_Q.var(axis=-1, ddof=1) / problems
  between = weight * known.between
  rest = np.maximum(of_problems - weight * known.noise, 0.0)
  # Runs of few problems may all solve as many, though not the same ones.
  none = between + rest <= shares.ROUNDING
  rest = np.where(none, of_problems, rest)
  t = quantile(between, rest, max(known.degrees, 1), problems)
  return between + rest, t


def _degrees(t: Array) -> Array:
  """Returns the degrees of freedom at which t is the quantile."""
  return special.stdtridf(1 - LEVEL / 2, t)


def mean(
  values_RQ: npt.ArrayLike, *, pooled: Sequence[npt.ArrayLike] | None = None
) -> dict[str, Any]:
  """Returns the Estimate of the mean of R replicates on Q problems.

  Beside `value`, `low`, `high` and `n` (problems) it has `replicates`, `runs`
  (whether the noise of training is in the interval), `standard_error` and
  `degrees`, those of the t distribution whose quantile was taken.  All but the
  numbers and the value are None where there is no interval.

  Args:
    values_RQ: what each replicate scored on each problem, 0 to 1.
    pooled: the arms whose runs are taken to vary alike, this one included;
      None: this one alone.

  Raises:
    ValueError: if values are not matrices of the same problems within 0 and 1.
  """
  values_RQ = _matrix('values_RQ', values_RQ)
  arms = _pool([values_RQ], pooled)
  found, known = None, runs(arms)
  if values_RQ.shape[0] and values_RQ.shape[1] > 1:
    found = mean_of(moments(values_RQ), known)
  return _estimate(
    float(values_RQ.mean()) if values_RQ.size else None,
    found,
    values_RQ.shape[1] if values_RQ.size else 0,
    len(values_RQ),
    known.degrees > 0,
  )


def difference(
  a_RQ: npt.ArrayLike,
  b_RQ: npt.ArrayLike,
  *,
  pooled: Sequence[npt.ArrayLike] | None = None,
) -> dict[str, Any]:
  """Returns the Estimate of mean(a_RQ) - mean(b_RQ), paired by problem.

  The keys are those of `mean`, and `p`: how likely so large a difference would
  be if there was none (two-sided; below 0.05 where the interval leaves 0 out).
  `replicates` is that of the arm that has fewer.

  Args:
    a_RQ: what each replicate of an arm scored on each problem, 0 to 1.
    b_RQ: the same of another arm; its replicates may be more or fewer.
    pooled: the arms whose runs are taken to vary alike, these two included;
      None: these two.

  Raises:
    ValueError: if values are not matrices of the same problems within 0 and 1.
  """
  a_RQ, b_RQ = _matrix('a_RQ', a_RQ), _matrix('b_RQ', b_RQ)
  arms = _pool([a_RQ, b_RQ], pooled)
  found, known = None, runs(arms)
  some = bool(a_RQ.size and b_RQ.size)
  if some and a_RQ.shape[1] > 1:
    found = difference_of(moments(a_RQ), moments(b_RQ), known)
  estimate = _estimate(
    float(a_RQ.mean() - b_RQ.mean()) if some else None,
    found,
    a_RQ.shape[1] if some else 0,
    min(len(a_RQ), len(b_RQ)),
    known.degrees > 0,
  )
  return {**estimate, 'p': None if found is None else float(found.p)}


def _pool(own: list[Array], pooled) -> list[Moments]:
  """Returns the moments of the arms that tell how much runs vary."""
  arms = own
  if pooled is not None:
    arms = [_matrix('pooled', values_RQ) for values_RQ in pooled]
  problems = {arm.shape[1] for arm in (*own, *arms)}
  if len(problems) > 1:
    raise ValueError(
      f'arms must be of the same problems; got {sorted(problems)} problems.'
    )
  return [moments(arm) for arm in arms if arm.size]


def _estimate(
  value: float | None,
  found: Interval | None,
  problems: int,
  replicates: int,
  with_runs: bool,
) -> dict[str, Any]:
  return {
    'value': value,
    'low': None if found is None else float(found.low),
    'high': None if found is None else float(found.high),
    'n': problems,
    'replicates': replicates,
    'runs': found is not None and with_runs,
    'standard_error': None if found is None else float(found.error),
    'degrees': None if found is None else float(found.degrees),
  }


def _matrix(name: str, values_RQ: npt.ArrayLike) -> Array:
  values_RQ = np.asarray(values_RQ, np.float64)
  good = values_RQ.ndim == 2 and bool(
    np.all((values_RQ >= 0) & (values_RQ <= 1))
  )
  if not good:
    raise ValueError(
      f'{name} must be a matrix, replicates by problems, of values from 0 to '
      f'1; got shape {values_RQ.shape}.'
    )
  return values_RQ
