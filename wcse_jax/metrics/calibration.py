"""How often a study's own intervals hold the truth, at its own size.

Studies like the one at hand are made up, with students as accurate, as variable
and as unlike as its own, and the intervals of `metrics.replicated` are asked
whether they hold what is then known.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from wcse_jax.metrics import populations, power, replicated


STUDIES = 500


def calibrate(
  *,
  accuracy: float,
  problems: int,
  replicates: int,
  run_deviation: float,
  disagreement: float,
  noise: float | None = None,
  arms: int = 2,
  differences: Sequence[float] = (),
  studies: int = STUDIES,
  seed: int = 0,
) -> dict[str, Any]:
  """Returns how good the intervals of a difference between two arms are.

  - `coverage`: share of the intervals that hold the true difference, of all
    studies made up; `coverage_error` is its standard error.
  - `false_alarms`: share of the intervals that leave 0 out where both arms are
    alike.
  - `power_at`: by difference, the share that leaves 0 out on its side.

  Args:
    accuracy: of the students of either arm; half a difference is added to the
      one and taken from the other.
    problems: test problems.
    replicates: students of each arm.
    run_deviation: of accuracy between runs of an arm; a share.
    disagreement: share of problems on which students of two arms differ.
    noise: the same of two students of one arm; None: as much.
    arms: how many arms' runs are pooled.
    differences: at which power is asked for; none: that of
      `power.detectable`.
    studies: made up for each difference, and for none.
    seed: of what is made up.
  """
  numbers = {
    'run_deviation': run_deviation,
    'disagreement': disagreement,
    'noise': disagreement if noise is None else min(noise, disagreement),
  }
  if not differences:
    smallest = power.detectable(
      problems=problems, replicates=replicates, arms=arms, **numbers
    )
    # Beyond that there is no pair of accuracies.
    differences = (min(smallest, 1.9 * min(accuracy, 1 - accuracy)),)
  random = np.random.default_rng(seed)
  held, alarms, found = [], 0.0, []
  for difference in (0.0, *differences):
    students = populations.fitted(
      accuracies=(
        accuracy + difference / 2,
        accuracy - difference / 2,
        *[accuracy] * (arms - 2),
      ),
      deviations=[run_deviation] * arms,
      disagreement=max(disagreement, abs(difference)),
      noise=numbers['noise'],
      problems=problems,
      replicates=[replicates] * arms,
    )
    low, high = intervals(students, studies, random)
    held.append(np.mean((low <= difference) & (difference <= high)))
    if not difference:
      alarms = float(np.mean((low > 0) | (high < 0)))
      continue
    seen = high < 0 if difference < 0 else low > 0
    found.append({'difference': difference, 'power': float(np.mean(seen))})
  coverage = float(np.mean(held))
  return {
    'studies': studies,
    'problems': problems,
    'replicates': replicates,
    'arms': arms,
    'accuracy': accuracy,
    **numbers,
    'coverage': coverage,
    'coverage_error': math.sqrt(
      coverage * (1 - coverage) / (studies * len(held))
    ),
    'false_alarms': alarms,
    'power_at': found,
  }


def of_students(
  a_RQ: npt.ArrayLike,
  b_RQ: npt.ArrayLike,
  *,
  pooled: Sequence[npt.ArrayLike] | None = None,
  **options: Any,
) -> dict[str, Any] | None:
  """Returns `calibrate` for two arms' own size and components.

  None where an arm has one replicate, so that little is known of runs, or
  where all students solved all problems, or none.

  Args:
    a_RQ: what each replicate of an arm scored on each problem, 0 to 1.
    b_RQ: the same of another arm.
    pooled: arms whose runs vary alike, these two included; None: these two.
    **options: `differences`, `studies`, `seed`.
  """
  a_RQ, b_RQ = np.asarray(a_RQ, np.float64), np.asarray(b_RQ, np.float64)
  found = power.components(a_RQ, b_RQ, pooled=pooled)
  del found['run_deviation_high']
  accuracy = float((a_RQ.mean() + b_RQ.mean()) / 2)
  replicates = min(len(a_RQ), len(b_RQ))
  if replicates < 2 or not 0 < accuracy < 1:
    return None
  return calibrate(
    accuracy=accuracy,
    problems=a_RQ.shape[1],
    replicates=replicates,
    arms=2 if pooled is None else max(2, len(pooled)),
    **found,
    **options,
  )


def intervals(
  students: populations.Students, studies: int, random: np.random.Generator
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
  """Returns (low, high) of the first arm less the second, of each study."""
  lows, highs = [], []
  for start in range(0, studies, students.block):
    count = min(students.block, studies - start)
    arms = [replicated.moments(one) for one in students.draw(count, random)]
    found = replicated.difference_of(*arms[:2], replicated.runs(arms))
    lows.append(found.low)
    highs.append(found.high)
  return np.concatenate(lows), np.concatenate(highs)
