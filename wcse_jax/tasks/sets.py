"""A task whose problems are the rows of a set."""

import functools
from typing import Any

from absl import logging

from wcse_jax import errors, records
from wcse_jax.tasks import base, remote, rows


class SetTask(base.Task):
  """What tasks share whose problems are rows of JSON.

  `data` is a folder with a file of the split, a file that serves whichever
  split is asked for, `hub:ORG/NAME@REVISION` (without a revision: the newest),
  or empty: then the set comes from its own place on the Hugging Face hub, by
  way of the package `datasets`.

  Attributes:
    hub: where the set lies on the hub.
    needs_answer: whether problems without an answer are left out and counted.
    without_answer: by split: the ids of these.
  """

  hub = remote.Hub('')
  needs_answer: bool = False

  def __init__(self, data: str = '', prompts: str = ''):
    super().__init__(data, prompts)
    self.without_answer: dict[str, list[str]] = {}

  def origin(self) -> base.Origin:
    own = base.Origin('', '', str(self.hub), self.hub.license)
    found = self.hub.named(self.data)
    if found is None:
      return own
    return own._replace(source=str(found), license=found.license)

  def problem(
    self, row: dict[str, Any], default_id: str, split: str
  ) -> records.Problem | None:
    """Returns the problem of a row; None if it is of another split.

    Args:
      row: the row.
      default_id: the id to give where the row has none.
      split: the split that is read.

    Raises:
      InputError: if the row is bad; without its number.
    """
    raise NotImplementedError

  def files(self, split: str) -> tuple[str, ...]:
    """Returns the names that the split's file may have in a folder."""
    return (f'{split}.jsonl',)

  def read(self, split: str) -> rows.Report:
    """Returns what became of each row of a split, whatever `bad_rows` is.

    Raises:
      InputError: if there is no such split, or the source is missing or empty.
    """
    if split not in self.splits:
      raise errors.InputError(
        f'split: wanted one of {", ".join(self.splits)} for task {self.name}; '
        f'got {split!r}.'
      )
    return rows.read(
      self.data,
      split,
      name=self.name,
      hub=self.hub,
      make=lambda row, default_id: self.problem(row, default_id, split),
      files=self.files(split),
      needs_answer=self.needs_answer,
    )

  def problems(self, split: str) -> list[records.Problem]:
    """Returns the whole split, in its fixed order.

    Raises:
      InputError: as `read`, or if rows are bad: with `bad_rows` at `skip`, if
        no other is left.
    """
    report = self.read(split)
    if self.bad_rows == 'refuse' or not report.good:
      report.check()
    ids = [problem.id for _, problem in report.without_answer]
    if report.bad:
      _tell(self.data, f'{report.fault()} Left out.')
    if ids:
      listed = ', '.join(ids[:5]) + (', ...' if len(ids) > 5 else '')
      _tell(
        self.data,
        f'{self.name}: left out {len(ids)} of {len(ids) + len(report.good)} '
        f'problems, which have no answer: {listed}',
      )
    self.bad[split] = report.bad
    self.without_answer[split] = ids
    return report.problems


@functools.cache
def _tell(source: str, words: str) -> None:
  """Warns of what a source lacks, once: a split is read again and again."""
  del source
  logging.warning('%s', words)
