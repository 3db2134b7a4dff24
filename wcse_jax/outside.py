"""Samples from anywhere: a JSONL file that another engine wrote.

Bad rows are found before anything is graded.  The good ones are graded in
shards of consecutive rows of the file, so that a stop loses one shard at most;
no pass over the file holds more of it than that.
"""

import dataclasses
import json
from collections.abc import Collection, Iterator
from typing import Any

from absl import logging

from wcse_jax import errors, records, shardfiles, storage
from wcse_jax.metrics import measure
from wcse_jax.tasks import rows as reading


# Rows of the file that are one shard.
SHARD = 4096
# Indices under it are read.
MOST_INDEX = 2**31
# Bad rows that an error lists by number.
_LISTED = 8


@dataclasses.dataclass
class _Block:
  """The good rows of one shard: how many, and their highest index."""

  rows: int = 0
  most_index: int = 0


class Source:
  """The rows of a samples file, looked at once when it is opened.

  Attributes:
    name: the stem of the file, under which its grades are kept.
    sha256: of the file.
    read: rows, blank lines not counted.
    good: those that are samples.
    bad: row number -> what is wrong with it, of the others.
  """

  def __init__(self, path: str, ids: Collection[str], *, skip: bool = False):
    """Reads the file once.

    Args:
      path: rows of `{"problem_id", "index", "text"}`; other fields are ignored.
      ids: the problems that may be asked.
      skip: whether to go on without bad rows.

    Raises:
      InputError: if there is no such file, or no good row in it, or a bad one
        that is not to be skipped.
    """
    self._path = path
    self._where = {name: at for at, name in enumerate(ids)}
    self.name = path.rpartition('/')[2].rpartition('.')[0]
    self.good = 0
    self.bad: dict[int, str] = {}
    self._blocks: dict[int, _Block] = {}
    seen: set[int] = set()
    for number, row, why in reading.lines(path):
      why = why or self._fault(row, seen)
      if why:
        self.bad[number] = why
        continue
      self.good += 1
      block = self._blocks.setdefault((number - 1) // SHARD, _Block())
      block.rows += 1
      block.most_index = max(block.most_index, row['index'])
    self.read = self.good + len(self.bad)
    if not self.read:
      raise errors.InputError(f'{path}: wanted rows of samples; it is empty.')
    if self.bad and not (skip and self.good):
      raise errors.InputError(self.fault())
    if self.bad:
      logging.warning('%s', self.fault())
    self.sha256 = storage.sha256(path)

  def fault(self) -> str:
    """Returns one line: the first fault, and which rows of how many are bad."""
    number, why = next(iter(self.bad.items()))
    listed = ', '.join(str(number) for number in list(self.bad)[:_LISTED])
    more = ', ...' if len(self.bad) > _LISTED else ''
    return (
      f'{self._path}: row {number}: {why} Bad: {len(self.bad)} of {self.read} '
      f'rows ({listed}{more}).'
    )

  def counts(self) -> dict[str, int]:
    """Returns what became of the rows, ready for JSON."""
    return {'read': self.read, 'graded': self.good, 'bad': len(self.bad)}

  def quarantine(self, workdir: str) -> None:
    """Lists the bad rows in `workdir/quarantine/<name>.jsonl`, if there are."""
    if self.bad:
      storage.publish(
        storage.join(workdir, 'quarantine', f'{self.name}.jsonl'),
        ''.join(
          json.dumps({'row': number, 'why': why}, ensure_ascii=False) + '\n'
          for number, why in self.bad.items()
        ),
      )

  def shards(
    self, have: Collection[shardfiles.Shard] = ()
  ) -> Iterator[tuple[shardfiles.Shard, list[tuple[str, int, str]]]]:
    """Yields shards with the (problem_id, index, text) of their rows.

    Args:
      have: shards that are not wanted.
    """
    names = {
      at: shardfiles.Shard(
        at * SHARD, at * SHARD + SHARD - 1, 0, block.most_index
      )
      for at, block in self._blocks.items()
    }
    held: list[tuple[str, int, str]] = []
    for number, row in self._rows():
      at = (number - 1) // SHARD
      if names[at] in have:
        continue
      held.append((row['problem_id'], row['index'], row['text']))
      if len(held) == self._blocks[at].rows:
        yield names[at], held
        held = []

  def texts(self) -> Iterator[measure.Text]:
    """Yields the samples, of which the text alone is known."""
    for _, row in self._rows():
      yield measure.Text(row['problem_id'], row['index'], row['text'])

  def _rows(self) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, row, _ in reading.lines(self._path):
      if number not in self.bad:
        yield number, row

  def _fault(self, row: dict[str, Any], seen: set[int]) -> str:
    """Returns what is wrong with a row; empty if nothing is."""
    for field, kind, wanted in (
      ('problem_id', str, 'a text'),
      ('index', int, f'an integer from 0 to {MOST_INDEX - 1}'),
      ('text', str, 'a text'),
    ):
      value = row.get(field)
      good = type(value) is kind
      if field == 'index':
        good = good and 0 <= value < MOST_INDEX
      if not good:
        return (
          f'wanted {wanted} in field "{field}"; got '
          f'{records.shorten(value) if field in row else "nothing"}.'
        )
    at = self._where.get(row['problem_id'])
    named = records.shorten(row['problem_id'])
    if at is None:
      return (
        f'wanted a problem of the split; got {named} (is --config.split the '
        'one that was sampled?).'
      )
    key = at * MOST_INDEX + row['index']
    if key in seen:
      return (
        f'wanted each sample once; problem {named}, index {row["index"]} comes '
        'twice.'
      )
    seen.add(key)
    return ''
