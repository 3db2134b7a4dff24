"""Functional MATH: problems of MATH with other numbers in them."""

import dataclasses
from typing import Any

from wcse_jax import errors, records
from wcse_jax.tasks import math, remote


SNAPSHOTS = ('Oct-2023', 'Nov-2023', 'Dec-2023')


class FunctionalMath(math.Math):
  """The task `functional_math`.

  Its splits are the snapshots, each of which writes other numbers into the same
  problems; `test` is the newest.  In a folder its file is `snapshots.jsonl`.
  The set is not on the hub: `data` must be given, and of a copy there the split
  `test` is read.  Rows are those of `math`, with a field `snapshot`; rows
  without one are of every split.

  The references were computed by programs, so that decimals are rounded here
  and there: numbers are equal that agree as far as both are written out (see
  `spelling.rounded`).

  Source: Srivastava et al. 2024, arXiv:2402.19450.
  """

  name = 'functional_math'
  splits = ('test', *SNAPSHOTS)
  hub = remote.Hub('', split='test')
  rounded = True

  def files(self, split: str) -> tuple[str, ...]:
    return ('snapshots.jsonl',)

  def problem(
    self, row: dict[str, Any], default_id: str, split: str
  ) -> records.Problem | None:
    """Returns the problem of a row; None if it is of another snapshot.

    Some references are a base alone, as `_7`: the numbers drawn left nothing
    before it, and there is no answer to compare with.
    """
    snapshot = row.get('snapshot')
    if snapshot not in (None, *SNAPSHOTS):
      raise errors.InputError(
        f'wanted one of {", ".join(SNAPSHOTS)} in field "snapshot"; got '
        f'{records.shorten(snapshot)}.'
      )
    wanted = SNAPSHOTS[-1] if split == 'test' else split
    if snapshot not in (None, wanted):
      return None
    found = super().problem(row, default_id, split)
    if found is not None and found.answer.startswith('_'):
      return dataclasses.replace(found, answer='')
    return found
