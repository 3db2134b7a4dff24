"""How many distinct right solutions some right samples are.

Of r right samples of a problem some repeat each other.  Distinct ones are taken
to grow as r to a power, which is fitted to each model's pilot; a power of 1 is
no repetition.  What two models find is partly the same: how much of one's the
other has already is counted in the pilot, too.

Source: Herdan 1960, Type-token Mathematics; Heaps 1978, Information Retrieval
(growth of a vocabulary as a power).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy import optimize

from wcse_jax.plan import policies


Array = npt.NDArray[np.float64]


# Problem -> the chain of each of its right samples, hashed.
Chains = Mapping[str, Sequence[int]]


class Distinct:
  """The objective `distinct`: distinct right solutions of a problem.

  Attributes:
    power_M: of each model's growth.
    shared_MM: share of the second model's distinct right solutions that the
      first one has, too, over the problems that both solve.
  """

  def __init__(self, found: Sequence[Chains]):
    self.power_M = np.array([_power(one) for one in found])
    self.shared_MM = np.zeros((len(found), len(found)))
    for a, of_a in enumerate(found):
      for b, of_b in enumerate(found):
        both = [key for key in of_a if key in of_b]
        total = sum(len(set(of_b[key])) for key in both)
        same = sum(len(set(of_a[key]) & set(of_b[key])) for key in both)
        self.shared_MM[a, b] = same / total if total and a != b else 0.0

  def __call__(self, outcome: policies.Outcome, p_XM: Array) -> Array:
    """Returns the distinct right solutions on each node."""
    right_XM = outcome.drawn_XM * p_XM
    own_XM = np.where(
      right_XM > 1, np.maximum(right_XM, 1) ** self.power_M, right_XM
    )
    total_X = np.zeros(len(p_XM))
    for m in range(len(self.power_M)):
      # Those that earlier models have are not counted twice.
      new_X = own_XM[:, m]
      for before in range(m):
        seen_X = np.minimum(own_XM[:, before], 1.0)
        new_X = new_X * (1 - self.shared_MM[before, m] * seen_X)
      total_X += new_X
    return total_X


def _power(chains: Chains) -> float:
  """Returns the power that fits best: least squares over the problems."""
  counts = np.array(
    [(len(one), len(set(one))) for one in chains.values() if len(one) > 1],
    np.float64,
  ).reshape(-1, 2)
  if not len(counts):
    return 1.0
  right_Q, distinct_Q = counts.T

  def loss(power: float) -> float:
    return float(((right_Q**power - distinct_Q) ** 2).sum())

  return float(
    optimize.minimize_scalar(loss, bounds=(0, 1), method='bounded').x
  )
