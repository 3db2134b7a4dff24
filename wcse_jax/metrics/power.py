"""How small a difference a study can find.

Everything is a share: 0.015 is 1.5 points.  A study of students is planned with
three numbers, which `components` estimates from students that are there:

- `run_deviation`: standard deviation of a run's accuracy between runs of an
  arm, on problems without end;
- `disagreement`: share of problems on which students of two arms differ;
- `noise`: the same of two students of one arm, trained apart.

More replicates take off the first and the last, more problems the last two.

Source: the intervals are those of `metrics.replicated`.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from wcse_jax.metrics import replicated


# Places of the distribution of the variance between runs.
_PLACES = 200
# A difference that is always found.
_FAR = 1000.0


def detectable(
  *,
  problems: int,
  replicates: int,
  run_deviation: float,
  disagreement: float,
  noise: float | None = None,
  arms: int = 2,
  level: float = 0.05,
  power: float = 0.8,
) -> float:
  """Returns the smallest difference between two arms that will be found.

  Found means that the interval of `replicated.difference` leaves 0 out; above
  1 means that nothing will be, and it is infinite for one replicate: whatever
  is found may then be noise of training.

  Args:
    problems: test problems.
    replicates: trained students of each arm.
    run_deviation: between runs; a share.
    disagreement: of students of two arms.
    noise: of students of one arm; None: as much as the disagreement, which it
      nearly is where arms differ little.  If they differ less, the result is
      too small.
    arms: how many arms' runs are pooled.
    level: share of false alarms.
    power: share of studies that find it.

  Raises:
    ValueError: if a number is out of its range.
  """
  noise = disagreement if noise is None else min(noise, disagreement)
  _check(problems, level, power, run_deviation, disagreement, noise)
  if replicates < 1 or arms < 2:
    raise ValueError(
      'replicates must be at least 1 and arms at least 2; got '
      f'{replicates} and {arms}.'
    )
  weight = 2 / replicates
  of_noise = weight * noise / 2 / problems
  between = weight * run_deviation**2 + of_noise
  degrees = arms * (replicates - 1)
  places = (np.arange(_PLACES) + 0.5) / _PLACES
  if not degrees:
    return math.inf
  seen = between * special.chdtri(degrees, 1 - places) / degrees

  def short(difference: float) -> float:
    """Returns by how much the power falls short."""
    # Students of arms so far apart differ on as many problems at least.
    apart = max(disagreement, min(difference, 1.0)) - min(difference, 1.0) ** 2
    rest = max(apart - noise, 0.0) / problems
    t = replicated.quantile(seen, rest, degrees, problems, level)
    reach = t * np.sqrt(np.maximum(seen + rest, 1e-12))
    deviation = math.sqrt(max(between + rest, 1e-12))
    above = special.ndtr((difference - reach) / deviation)
    below = special.ndtr((-difference - reach) / deviation)
    return power - float(np.mean(above + below))

  return float(optimize.brentq(short, 0.0, _FAR))


def detectable_gap(
  *,
  problems: int,
  disagreement: float,
  level: float = 0.05,
  power: float = 0.8,
) -> float:
  """Returns the smallest gap in coverage between two models' data to be found.

  The gap is paired by problem, as in `contrast.gap`.

  Args:
    problems: that both models were sampled on.
    disagreement: mean square of the difference in coverage on a problem; with
      no more samples than k it is the share of problems that one covers and
      the other does not.
    level: share of false alarms.
    power: share of studies that find it.

  Raises:
    ValueError: if a number is out of its range.
  """
  _check(problems, level, power, 0.0, disagreement, 0.0)
  reach = special.stdtrit(problems - 1, 1 - level / 2) + special.ndtri(power)
  # gap = reach * sqrt((disagreement - gap**2) / problems), where models that
  # far apart cannot but disagree as often.
  gap = math.sqrt(reach**2 * disagreement / (problems + reach**2))
  return max(gap, reach**2 / (problems + reach**2))


def components(
  a_RQ: npt.ArrayLike,
  b_RQ: npt.ArrayLike,
  *,
  pooled: Sequence[npt.ArrayLike] | None = None,
) -> dict[str, float | None]:
  """Returns what `detectable` needs, estimated from two arms' students.

  `run_deviation` is 0 where runs vary no more than their noise on problems
  lets expect: few runs often look so.  `run_deviation_high` is the upper end
  of a one-sided 90% interval, to plan with when you would rather not be
  disappointed; both and `noise` are None where no arm has two replicates.

  Args:
    a_RQ: what each replicate of an arm scored on each problem, 0 to 1.
    b_RQ: the same of another arm.
    pooled: arms whose runs vary alike, these two included; None: these two.

  Raises:
    ValueError: if there is no value, or there are other problems.
  """
  a_RQ, b_RQ = np.asarray(a_RQ, np.float64), np.asarray(b_RQ, np.float64)
  if not a_RQ.size or not b_RQ.size or a_RQ.shape[1] != b_RQ.shape[1]:
    raise ValueError(
      'a_RQ and b_RQ must be of the same problems, at least one; got shapes '
      f'{a_RQ.shape} and {b_RQ.shape}.'
    )
  a, b = replicated.moments(a_RQ), replicated.moments(b_RQ)
  squares = np.mean(a_RQ**2) + np.mean(b_RQ**2)
  disagreement = squares - 2 * np.mean(a.problem_Q * b.problem_Q)
  found: dict[str, float | None] = {
    'run_deviation': None,
    'run_deviation_high': None,
    'disagreement': max(0.0, float(disagreement)),
    'noise': None,
  }
  arms = [replicated.moments(np.asarray(one)) for one in pooled or (a_RQ, b_RQ)]
  known = replicated.runs(arms)
  if known.degrees:
    high = known.between * known.degrees / special.chdtri(known.degrees, 0.9)
    for name, between in (('', known.between), ('_high', high)):
      excess = max(0.0, float(between - known.noise))
      found[f'run_deviation{name}'] = math.sqrt(excess)
    found['noise'] = 2 * a_RQ.shape[1] * float(known.noise)
  return found


def _check(problems, level, power, run_deviation, disagreement, noise) -> None:
  if problems < 2:
    raise ValueError(f'problems must be at least 2; got {problems}.')
  for name, share in (('level', level), ('power', power)):
    if not 0 < share < 1:
      raise ValueError(f'{name} must lie between 0 and 1; got {share}.')
  for name, share in (
    ('run_deviation', run_deviation),
    ('disagreement', disagreement),
    ('noise', noise),
  ):
    if not 0 <= share <= 1:
      raise ValueError(f'{name} must be a share, 0 to 1; got {share}.')
