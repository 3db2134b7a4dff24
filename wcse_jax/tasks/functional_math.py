"""Functional MATH: problems of MATH with other numbers in them."""

from typing import Any

from wcse_jax import errors, records
from wcse_jax.tasks import math


SNAPSHOTS = ('Oct-2023', 'Nov-2023', 'Dec-2023')


class FunctionalMath(math.Math):
  """The task `functional_math`.

  Its splits are the snapshots, each of which writes other numbers into the same
  problems; `test` is the newest.  `data` is a folder with `snapshots.jsonl`, or
  a file; the set is not on the hub.  Rows are those of `math`, with a field
  `snapshot`; rows without one are of every split.

  The references were computed by programs, so that decimals are rounded here
  and there: numbers are equal that agree as far as both are written out (see
  `spelling.rounded`).

  Source: Srivastava et al. 2024, arXiv:2402.19450.
  """

  name = 'functional_math'
  splits = ('test', *SNAPSHOTS)
  rounded = True

  def _file(self, split: str) -> str:
    return 'snapshots.jsonl'

  def _rows(self, split: str) -> list[tuple[str, Any]]:
    wanted = SNAPSHOTS[-1] if split == 'test' else split
    return [
      (where, row)
      for where, row in super()._rows(split)
      if row.get('snapshot', wanted) == wanted
    ]

  def _hub_rows(self, split: str) -> list[tuple[str, Any]]:
    raise errors.InputError(
      f'data: wanted a folder or file of {self.name}, which is not on the hub; '
      'it is empty.'
    )

  def _problem(
    self, row: dict[str, Any], default_id: str, where: str
  ) -> records.Problem:
    """Returns the problem of a row.

    Some references are a base alone, as `_7`: the numbers drawn left nothing
    before it, and there is no answer to compare with.
    """
    found = super()._problem(row, default_id, where)
    if found.answer.startswith('_'):
      row = {**row, 'answer': ''}
      return super()._problem(row, default_id, where)
    return found
