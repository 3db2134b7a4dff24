"""Two models at one budget: which one covers more, and from which ratio on."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from wcse_jax import budget
from wcse_jax.plan import curves, joint


Array = npt.NDArray[np.float64]

VERDICTS = ('weak', 'strong', 'equal', 'cannot tell')
# Break-even is looked for up to this cost ratio, and overtaking up to this many
# samples of the strong model.
MOST_RATIO = 1000.0
MOST_SAMPLES = 10_000
# What counts as a lead, where both come near to 1.
_LEAD = 1e-4
# Points a factor of 10.
_DENSE = 40
# A 95% interval leaves 0 out with a chance of 80%: 1.96 + 0.84 deviations.
_POWER = 2.80


def compare(
  found: curves.Curves,
  weak: int,
  strong: int,
  costs: tuple[float, float],
  k_strong: int,
  margin: float,
  scale: joint.Scale | None = None,
  problems: int = 0,
) -> dict[str, Any]:
  """Returns a row of `pairs` in `plan.json`.

  The gap is coverage of the weak model at `k_weak`, what the cost of
  `k_strong` samples buys of it, less that of the strong one at `k_strong`.

  - `break_even_ratio`: how many times dearer a strong sample has to be for
    equal coverage; None where the weak model never gets there.
  - `overtakes_at`: the least number of strong samples a problem at which the
    strong model covers as much at the ratio of the given costs; None where it
    never does, up to `MOST_SAMPLES`; 1 is 1 or less.
  - `problems_needed`: of a pilot that would decide with a chance of 80% if the
    gap is what it seems to be; None where the verdict is not `cannot tell`, or
    no number would do, or all `problems` are too few.

  Args:
    found: the fits.
    weak: number of the cheaper model.
    strong: number of the dearer one.
    costs: of a sample of the weak and of the strong model.
    k_strong: samples per problem of the strong one.
    margin: gaps within this either way are called equal.
    scale: how much narrower intervals are; None: not at all.
    problems: how many there are; 0: without limit.

  Raises:
    InputError: if the budget does not buy one weak sample.
  """
  match = budget.matched(k_strong, costs[1], costs[0])
  k_weak = match.count_weak
  gap_D = (
    found.covered(weak, k_weak)[:, 0] - found.covered(strong, k_strong)[:, 0]
  )
  if scale is not None:
    gap_D = scale(gap_D, [(weak, k_weak, 1), (strong, k_strong, -1)])
  gap = _estimate(found, (weak, strong), (k_weak, k_strong), gap_D)
  ratio_D = _break_even(found, weak, strong, k_strong, scale)
  over_D = _overtaking(found, weak, strong, costs[1] / costs[0], scale)
  verdict = judge(gap, margin)
  if not _varied(found, (weak, strong)):
    ratio_D, over_D = np.full((2, len(gap_D)), np.inf)
  return {
    'weak': found.pilot.names[weak],
    'strong': found.pilot.names[strong],
    'k_strong': k_strong,
    'k_weak': k_weak,
    'rounding': match.rounding,
    'ratio': float(match.ratio),
    'gap': gap['value'],
    'gap_low': gap['low'],
    'gap_high': gap['high'],
    'margin': margin,
    **_named('break_even_ratio', 'break_even', ratio_D),
    **_named('overtakes_at', 'overtakes', over_D),
    'verdict': verdict,
    'problems_needed': (
      needed(gap, found.pilot.problems, margin, problems)
      if verdict == 'cannot tell'
      else None
    ),
  }


def judge(gap: dict[str, float | None], margin: float) -> str:
  """Returns one of `VERDICTS` for an Estimate of the gap."""
  low, high = gap['low'], gap['high']
  if low is None or high is None:
    return 'cannot tell'
  if -margin <= low and high <= margin:
    return 'equal'
  if low > 0:
    return 'weak'
  if high < 0:
    return 'strong'
  return 'cannot tell'


def needed(
  gap: dict[str, float | None], problems: int, margin: float, most: int = 0
) -> int | None:
  """Returns how many problems would decide, with a chance of 80%.

  The deviation is taken to fall with the square root of the problems.  None
  where more than `most` would be needed, unless that is 0.
  """
  if gap['low'] is None:
    return None
  deviation = (gap['high'] - gap['low']) / (2 * 1.96)
  distance = max(abs(gap['value']), margin - abs(gap['value']))
  if not deviation or not distance > 0:
    return None
  count = max(
    problems + 1, math.ceil(problems * (_POWER * deviation / distance) ** 2)
  )
  return None if most and count > most else count


def _varied(found: curves.Curves, models: tuple[int, int]) -> bool:
  """Returns whether there is anything to resample."""
  pilot = found.pilot
  return pilot.problems > 1 and all(
    0 < pilot.right_MQ[m].sum() < pilot.n_MQ[m].sum() for m in models
  )


def _estimate(found, models, ks, gap_D: Array) -> dict[str, float | None]:
  """Returns the gap's Estimate, wider where counts have nothing to resample.

  A pilot of a single problem has no interval.  Where all samples of a model are
  right, or all wrong, every resample is the same; then the interval reaches as
  far as 3 over the number of problems (or of samples), the 95% bound where
  nothing was seen.
  """
  problems = found.pilot.problems
  if problems < 2:
    return {'value': float(gap_D[0]), 'low': None, 'high': None}
  gap = curves.estimate(gap_D)
  for model, k, sign in zip(models, ks, (1, -1), strict=True):
    below, above = room(found.pilot, model, k)
    gap['low'] -= below if sign > 0 else above
    gap['high'] += above if sign > 0 else below
  gap['low'], gap['high'] = max(gap['low'], -1.0), min(gap['high'], 1.0)
  return gap


def room(pilot: curves.Pilot, model: int, k: float) -> tuple[float, float]:
  """Returns how far coverage@k may be below and above what was seen.

  (0, 0) where some samples of a model are right and some are wrong.
  """
  n, right = pilot.n_MQ[model].sum(), pilot.right_MQ[model].sum()
  if not right:
    return 0.0, min(1.0, 3 * max(k / n, 1 / pilot.problems))
  if right == n:
    return min(1.0, 3 / pilot.problems), 0.0
  return 0.0, 0.0


def _break_even(found, weak: int, strong: int, k_strong: int, scale) -> Array:
  """Returns the ratio of equal coverage of each weighting; inf for none."""
  ratios_K = _logspace(1 / k_strong / 10, MOST_RATIO)
  weak_DK = found.covered(weak, ratios_K * k_strong)
  strong_D = found.covered(strong, k_strong)[:, 0]
  lead_DK = weak_DK - strong_D[:, None]
  if scale is not None:
    for at, ratio in enumerate(ratios_K):
      parts = [(weak, ratio * k_strong, 1), (strong, k_strong, -1)]
      lead_DK[:, at] = scale(lead_DK[:, at], parts)
  return _first(ratios_K, lead_DK)


def _overtaking(found, weak: int, strong: int, ratio: float, scale) -> Array:
  """Returns the least strong samples at which the strong model leads.

  1 where it does from the first sample on, inf where it never does.
  """
  ks_K = _logspace(1.0, MOST_SAMPLES)
  lead_DK = found.covered(strong, ks_K) - found.covered(weak, ks_K * ratio)
  if scale is not None:
    for at, k in enumerate(ks_K):
      parts = [(weak, k * ratio, -1), (strong, k, 1)]
      lead_DK[:, at] = scale(lead_DK[:, at], parts)
  # Where both solve all, neither leads.
  return _first(ks_K, lead_DK - _LEAD)


def _first(ks_K: Array, lead_DK: Array) -> Array:
  """Returns where each row first reaches 0; inf where it does not."""
  reached_DK = lead_DK >= 0
  first_D = reached_DK.argmax(axis=1)
  found_D = np.full(len(lead_DK), np.inf)
  for draw in np.flatnonzero(reached_DK.any(axis=1)):
    at = first_D[draw]
    found_D[draw] = _between(ks_K, lead_DK[draw], at - 1) if at else ks_K[0]
  return found_D


def _between(ks_K: Array, lead_K: Array, at: int) -> float:
  """Returns where a line through two points crosses 0, on the log of k."""
  low, high = lead_K[at], lead_K[at + 1]
  share = low / (low - high) if low != high else 0.5
  return float(ks_K[at] * (ks_K[at + 1] / ks_K[at]) ** share)


def _logspace(low: float, high: float) -> Array:
  count = round(_DENSE * math.log10(high / low)) + 1
  return np.geomspace(low, high, count)


def _named(name: str, stem: str, values_D: Array) -> dict[str, float | None]:
  """Returns value and interval, None for what is infinite."""
  # Between a number and an infinity there is nothing.
  low, high = curves.ends(values_D[1:], 'nearest')
  return {
    name: _finite(values_D[0]),
    f'{stem}_low': _finite(low),
    f'{stem}_high': _finite(high),
  }


def _finite(value: float) -> float | None:
  return float(value) if math.isfinite(value) else None
