"""Made-up students whose true accuracy is known.

Whether replicate r of arm a solves problem q is decided by a sum of normal
numbers: one of the problem for all arms, one of the problem for the arm, one of
the run, and one of the run on that problem.  What is above 0 is solved.  So
what a study can see (accuracies, how much they vary between runs, how often two
students differ) is what is asked for, and the normal numbers follow from it.

Letters: Y studies, R replicates, Q problems.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import optimize, special


# Studies drawn at once hold at most so many numbers.
BLOCK = 2**22
# Correlations stay below it: at 1 nothing would be random.
_MOST = 0.9999
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Students:
  """The students of one setup of a study.

  Attributes:
    accuracies: true accuracy of each arm, over problems and runs.
    deviations: standard deviation of a run's true accuracy, of each arm.
    same: correlation on a problem of two runs of an arm.
    across: the same of two arms; at most `same`.
    problems: Q.
    replicates: R of each arm.
    tied: share of the runs' variance that replicate r of all arms have in
      common (the order of the data, say).
    fixed: share of it that all replicates of an arm have in common (one pool
      of data for all, say), so that a study cannot see it.
    samples: a problem's value is the mean of so many.
    kept: with several samples, the share of the noise of a run on a problem
      that they have in common.
  """

  accuracies: tuple[float, ...]
  deviations: tuple[float, ...]
  same: float
  across: float
  problems: int
  replicates: tuple[int, ...]
  tied: float = 0.0
  fixed: float = 0.0
  samples: int = 1
  kept: float = 0.5

  def draw(
    self, studies: int, random: np.random.Generator
  ) -> list[npt.NDArray[np.float32]]:
    """Returns values_YRQ of each arm."""

    def normal(variance: float, *shape: int) -> npt.NDArray[np.float32]:
      numbers = random.standard_normal((studies, *shape), dtype=np.float32)
      return numbers * np.float32(np.sqrt(max(variance, 0.0)))

    of_runs = [
      correlation(mean, mean, mean**2 + deviation**2)
      for mean, deviation in zip(self.accuracies, self.deviations, strict=True)
    ]
    # Runs and problems together cannot be more than all.
    same = min(self.same, _MOST - max(of_runs))
    across = min(self.across, same)
    problem_Y1Q = normal(across, 1, self.problems)
    tied_YR1 = normal(self.tied, max(self.replicates), 1)
    found = []
    for accuracy, of_run, replicates in zip(
      self.accuracies, of_runs, self.replicates, strict=True
    ):
      limit = np.float32(special.ndtri(accuracy))
      run_YR1 = normal(1 - self.tied - self.fixed, replicates, 1)
      run_YR1 += tied_YR1[:, :replicates] + normal(self.fixed, 1, 1)
      run_YR1 *= np.float32(np.sqrt(of_run))
      mean_YRQ = limit + problem_Y1Q + run_YR1
      mean_YRQ += normal(same - across, 1, self.problems)
      noise = 1 - same - of_run
      shape = (replicates, self.problems)
      if self.samples == 1:
        found.append((mean_YRQ + normal(noise, *shape) > 0).astype(np.float32))
        continue
      mean_YRQ += normal(noise * self.kept, *shape)
      # The samples of a problem, given its mean, are alike and independent.
      chance_YRQ = special.ndtr(mean_YRQ / np.sqrt(noise * (1 - self.kept)))
      right_YRQ = random.binomial(self.samples, chance_YRQ)
      found.append((right_YRQ / self.samples).astype(np.float32))
    return found

  @property
  def block(self) -> int:
    """Returns how many studies to draw at once."""
    return max(1, BLOCK // (self.problems * sum(self.replicates)))


def fitted(
  *,
  accuracies: Sequence[float],
  deviations: Sequence[float],
  disagreement: float,
  noise: float,
  problems: int,
  replicates: Sequence[int],
) -> Students:
  """Returns students of whom two differ as often as asked for.

  What cannot be (two students of 10% and 20% that differ on 1% of the
  problems) is taken to the nearest that can.

  Args:
    accuracies: of each arm; that of the first two says what differs.
    deviations: of a run's accuracy, of each arm.
    disagreement: share of problems on which students of two arms differ.
    noise: the same of two students of one arm.
    problems: Q.
    replicates: R of each arm.
  """
  a, b = accuracies[:2]
  middle = (a + b) / 2
  same = correlation(middle, middle, middle - noise / 2)
  # Two differ on a, b less what both solve.
  across = correlation(a, b, (a + b - disagreement) / 2)
  return Students(
    accuracies=tuple(accuracies),
    deviations=tuple(deviations),
    same=same,
    across=min(same, across),
    problems=problems,
    replicates=tuple(replicates),
  )


def both(a: float, b: float, correlation: float) -> float:
  """Returns the chance that two students both solve a problem.

  Args:
    a: accuracy of one.
    b: accuracy of the other.
    correlation: of the normal numbers that decide, 0 to below 1.

  Source: the bivariate normal distribution as an integral over the
  correlation; Drezner and Wesolowsky 1990, On the computation of the bivariate
  normal integral.
  """
  h, k = special.ndtri([a, b])
  angles = np.arcsin(correlation) / 2 * (_NODES + 1)
  exponents = h * h + k * k - 2 * h * k * np.sin(angles)
  heights = np.exp(-exponents / (2 * np.cos(angles) ** 2))
  area = np.arcsin(correlation) / 2 * np.sum(_WEIGHTS * heights)
  return float(a * b + area / (2 * np.pi))


def correlation(a: float, b: float, wanted: float) -> float:
  """Returns the correlation at which two students both solve that share.

  The nearest possible one, from 0 to nearly 1.
  """
  if wanted <= a * b:
    return 0.0
  if wanted >= both(a, b, _MOST):
    return _MOST
  return float(optimize.brentq(lambda r: both(a, b, r) - wanted, 0.0, _MOST))
