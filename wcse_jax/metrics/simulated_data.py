"""How often intervals of sampled data hold the truth, where it is known.

Two models sample the same problems, the weak one more often.  The chance of a
right sample is beta-distributed over problems, and how hard both find a problem
is tied by a normal copula; a right sample's reasoning is wrong with a chance
that is beta-distributed, too.

Letters: Y studies, Q problems.
"""

import collections
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from wcse_jax.metrics import candidates, coverage, intervals


Array = npt.NDArray[np.float64]

# Chances of a right sample: beta distributions of the weak and of the strong
# model.  The first two fit published curves of Gemma 2 9B and 27B.
CHANCES = {
  'MATH': ((0.300, 0.825), (0.316, 0.652)),
  'GSM8K': ((0.848, 0.437), (0.889, 0.270)),
  'easy': ((1.2, 0.4), (1.5, 0.3)),
}
RANKS = (0.5, 0.9)
PROBLEMS = 192
WEAK_SAMPLES, STRONG_SAMPLES = 15, 5
# Mean chance of wrong reasoning; how alike the samples of a problem are.
FALSE_RATES = (0.02, 0.15)
_FALSE_SAMPLES = 2.0
# Studies looked at together, which bounds the memory.
_BLOCK = 50


def rows(
  name: str, ranks: float, studies: int, seed: int = 0
) -> list[dict[str, Any]]:
  """Returns rows of what is said of two models' samples.

  Args:
    name: of `CHANCES`.
    ranks: correlation of the normal ranks of how hard the models find a
      problem.
    studies: how many are made up.
    seed: of what is made up.
  """
  random = np.random.default_rng(seed)
  ends: dict[tuple, dict[str, list]] = {}
  for start in range(0, studies, _BLOCK):
    many = min(_BLOCK, studies - start)
    for key, truth, found in _looked_at(name, ranks, many, random):
      own = ends.setdefault((key, truth), collections.defaultdict(list))
      for method, bounds in found.items():
        own[method].append(bounds)
  return [
    {
      'part': 'data',
      'chances': name,
      'ranks': ranks,
      'problems': PROBLEMS,
      'quantity': key,
      'truth': truth,
      'intervals': {
        method: candidates.scored(np.concatenate(parts, axis=1), truth)
        for method, parts in own.items()
      },
    }
    for (key, truth), own in ends.items()
  ]


def _looked_at(
  name: str, ranks: float, studies: int, random: np.random.Generator
) -> Iterator[tuple[str, float, dict[str, candidates.Bounds]]]:
  """Yields (quantity, its truth, intervals of it), of studies just drawn."""
  shape = (studies, PROBLEMS)
  common = random.standard_normal(shape)
  models = {}
  for model, samples, (a, b) in zip(
    ('weak', 'strong'), (WEAK_SAMPLES, STRONG_SAMPLES), CHANCES[name]
  ):
    z_YQ = math.sqrt(ranks) * common
    z_YQ += math.sqrt(1 - ranks) * random.standard_normal(shape)
    chance_YQ = special.betaincinv(a, b, special.ndtr(z_YQ))
    right_YQ = random.binomial(samples, chance_YQ)
    models[model] = samples, (a, b), chance_YQ, right_YQ
  ones = np.ones(shape)

  def at(model: str, k: int) -> tuple[Array, float]:
    samples, (a, b), _, right_YQ = models[model]
    missed = np.prod([(b + i) / (a + b + i) for i in range(k)])
    return coverage.coverage(samples, right_YQ, k), 1 - float(missed)

  for model, k in (('weak', 1), ('weak', 15), ('strong', 1), ('strong', 5)):
    values_YQ, truth = at(model, k)
    now = intervals.ratios(values_YQ, ones, shares_C=np.ones(studies, bool))
    found = candidates.of_means(values_YQ) | {'now (Wilson)': _ends(now)}
    yield f'coverage@{k}, {model}', truth, found
  for k in ((15, 5), (3, 1), (5, 5)):
    (weak_YQ, weak), (strong_YQ, strong) = at('weak', k[0]), at('strong', k[1])
    now = intervals.ratio_differences(weak_YQ, ones, strong_YQ, ones)
    found = candidates.of_means(weak_YQ - strong_YQ)
    found['now (Student)'] = _ends(now)
    yield f'gap, weak@{k[0]} less strong@{k[1]}', weak - strong, found
  for model, rate in itertools.product(models, FALSE_RATES):
    _, (a, b), chance_YQ, right_YQ = models[model]
    # Of half the right samples it is likelier where answers are wrong more
    # often: b / (a + b + 1) is the mean of 1 - chance over right samples.
    mean_YQ = rate * (0.5 + 0.5 * (1 - chance_YQ) * (a + b + 1) / b)
    false_YQ = random.beta(
      _FALSE_SAMPLES * mean_YQ, _FALSE_SAMPLES * (1 - mean_YQ)
    )
    wrong_YQ = random.binomial(right_YQ, false_YQ).astype(np.float64)
    counts_C = np.count_nonzero(right_YQ, axis=1)
    right_YQ = right_YQ.astype(np.float64)
    before = intervals.ratios(wrong_YQ, right_YQ, counts_C=counts_C)
    now = intervals.ratios(
      wrong_YQ, right_YQ, counts_C=counts_C, shares_C=np.ones(studies, bool)
    )
    found = {
      'percentile bootstrap': _ends(before),
      'now (Wilson)': _ends(now),
    }
    yield f'false positive rate {rate:g}, {model}', rate, found


def _ends(rows: Sequence[dict[str, Any]]) -> candidates.Bounds:
  low, high = np.array([(row['low'], row['high']) for row in rows]).T
  return low, high
