"""What is measured, as two numbers of each problem whose sums are divided.

Every measure is sum(top_Q) / sum(bottom_Q) over the problems that are in, so
one function gives its interval, one its paired difference between models, and a
mask its value by level or subject.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from wcse_jax.metrics import (
  coverage,
  diversity,
  entropy,
  intervals,
  majority,
)
from wcse_jax.metrics import table as tables


# Distinct right solutions: measure -> column of the table.
DISTINCT = {
  'diversity': 'text_M',
  'distinct_normalised': 'normal_M',
  'distinct_chains': 'chain_M',
}
# Measures with a value for each k.
CURVES = ('coverage', *DISTINCT, 'majority')
# Measures that are a part of a whole.
RATES = frozenset(
  (
    'coverage',
    'majority',
    'pass@1',
    'false_positive_rate',
    'vote_accuracy',
    'vote_sample_accuracy',
    'vote_kept',
    'vote_kept_accuracy',
  )
)
# Shares of a problem's samples that the majority answer may be asked to have.
SHARES = (0.25, 0.5, 0.75, 0.9)


@dataclasses.dataclass(frozen=True, eq=False)
class Quantity:
  """One measure.

  Attributes:
    name: `coverage` or another key of `measures.json`.
    at: its k, share or order; None where it has none.
    top_Q: numerator of each problem.
    bottom_Q: denominator of each problem.
    in_Q: which problems are in.
  """

  name: str
  at: float | None
  top_Q: npt.NDArray[np.float64]
  bottom_Q: npt.NDArray[np.float64]
  in_Q: npt.NDArray[np.bool_]


def of(table: tables.Table, ks: Sequence[int]) -> list[Quantity]:
  """Returns every measure of a table; `measure.measure` says what each is."""
  return [
    *curves(table, ks),
    *false_positives(table),
    *votes(table),
    *entropies(table),
  ]


def curves(table: tables.Table, ks: Sequence[int]) -> Iterator[Quantity]:
  """Yields the measures of `CURVES` and pass@1, k by k."""
  ks = sorted(set(ks))
  keys = {name: _keys(table, column) for name, column in DISTINCT.items()}
  chances_KQ = majority.Ballot.of(table).chances(ks)
  ones_Q = np.ones(len(table.ids))
  for k, majority_Q in zip(ks, chances_KQ):
    in_Q = table.n_Q >= k
    covered_Q = np.zeros(in_Q.size)
    covered_Q[in_Q] = coverage.coverage(table.n_Q[in_Q], table.right_Q[in_Q], k)
    yield Quantity('coverage', k, covered_Q, ones_Q, in_Q)
    yield Quantity('majority', k, majority_Q, ones_Q, in_Q)
    if not table.sampled:
      continue
    for name, (key_Q, count_Q) in keys.items():
      distinct_Q = diversity.distinct_by_problem(key_Q, count_Q, table.n_Q, k)
      bottom_Q = covered_Q if name == 'diversity' else ones_Q
      yield Quantity(name, k, distinct_Q, bottom_Q, in_Q)
  yield Quantity(
    'pass@1',
    None,
    table.right_Q / np.maximum(table.n_Q, 1),
    ones_Q,
    table.n_Q > 0,
  )


def false_positives(table: tables.Table) -> Iterator[Quantity]:
  """Yields the share of judged right samples whose reasoning is wrong."""
  yield Quantity(
    'false_positive_rate',
    None,
    table.unsound_Q.astype(np.float64),
    table.judged_Q.astype(np.float64),
    table.judged_Q > 0,
  )


def votes(table: tables.Table) -> Iterator[Quantity]:
  """Yields what the majority answer among all n is worth as a reference."""
  ballot = majority.Ballot.of(table)
  ones_Q = np.ones(len(table.ids))
  right_Q, votes_Q = ballot.right_Q(), ballot.votes_Q().astype(np.float64)
  graded_Q = table.n_Q > 0
  yield Quantity('vote_accuracy', None, right_Q * 1.0, ones_Q, votes_Q > 0)
  yield Quantity(
    'vote_sample_accuracy', None, votes_Q * right_Q, votes_Q, votes_Q > 0
  )
  for share in SHARES:
    # Exact for shares such as 3 of 4: both are whole numbers of samples.
    kept_Q = (ballot.share_Q() >= share) & (votes_Q > 0)
    yield Quantity('vote_kept', share, kept_Q * 1.0, ones_Q, graded_Q)
    yield Quantity('vote_kept_accuracy', share, right_Q * 1.0, ones_Q, kept_Q)


def entropies(table: tables.Table) -> Iterator[Quantity]:
  """Yields the entropy (bits) of right solutions' n-grams."""
  ones_Q = np.ones(len(table.ids))
  for order in entropy.ORDERS if table.sampled else ():
    bits_Q = entropy.by_problem(
      table.words, table.problem_M, len(table.ids), order
    )
    in_Q = np.isfinite(bits_Q)
    yield Quantity(
      'ngram_entropy', order, np.where(in_Q, bits_Q, 0.0), ones_Q, in_Q
    )


def estimates(
  quantities: Sequence[Quantity],
  mask_Q: npt.NDArray[np.bool_] | None = None,
  **options: int,
) -> list[dict[str, Any]]:
  """Returns the Estimate of each measure over the problems of a mask.

  All of them are resampled, those that are not in for a measure, too; so one
  set of resamples serves every measure.
  """
  if not quantities:
    return []
  in_CQ = _stacked(quantities, 'in_Q', mask_Q)
  return intervals.ratios(
    _stacked(quantities, 'top_Q', mask_Q) * in_CQ,
    _stacked(quantities, 'bottom_Q', mask_Q) * in_CQ,
    counts_C=in_CQ.sum(axis=1),
    shares_C=np.array([one.name in RATES for one in quantities]),
    **options,
  )


def differences(
  a: Sequence[Quantity],
  b: Sequence[Quantity],
  mask_Q: npt.NDArray[np.bool_] | None = None,
  **options: int,
) -> list[dict[str, Any]]:
  """Returns the Estimate of each measure of a less that of b.

  Paired: over the problems that are in for both, resampled together.

  Args:
    a: measures of one model.
    b: the same measures of another, on the same problems.
    mask_Q: the problems to take; None: all.
    **options: `draws` and `seed` of the resampling.

  Raises:
    ValueError: if the measures are not the same.
  """
  if [(x.name, x.at) for x in a] != [(x.name, x.at) for x in b]:
    raise ValueError('a and b must be the same measures; got others.')
  if not a:
    return []
  in_CQ = _stacked(a, 'in_Q', mask_Q) & _stacked(b, 'in_Q', mask_Q)
  return intervals.ratio_differences(
    *(
      _stacked(model, name, mask_Q) * in_CQ
      for model in (a, b)
      for name in ('top_Q', 'bottom_Q')
    ),
    counts_C=in_CQ.sum(axis=1),
    **options,
  )


def _stacked(quantities, name: str, mask_Q) -> npt.NDArray:
  whole = np.stack([getattr(one, name) for one in quantities])
  return whole if mask_Q is None else whole[:, mask_Q]


def _keys(
  table: tables.Table, column: str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
  """Returns (problem, number of samples) of each distinct key."""
  right_M = table.right_M
  key_M = getattr(table, column)[right_M].astype(np.int64)
  width = int(key_M.max(initial=0)) + 1
  flat, count = np.unique(
    table.problem_M[right_M] * width + key_M, return_counts=True
  )
  return flat // width, count
