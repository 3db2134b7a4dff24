"""Reads the rows of a set from a folder, a file or the Hugging Face hub.

No row is lost: each is good, bad, without an answer, or of another split, and a
`Report` has all of them by number.  A file is read line by line, and a line
that is too long is passed over, so memory is bounded by the rows that are kept.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from wcse_jax import errors, records, storage
from wcse_jax.tasks import remote


# Bytes of one line; the longest row of the sets read here has under 64 KiB.
MOST_LINE = 4 << 20
# Levels of lists and objects in a row.  Python's own limit depends on who asks,
# so that what was parsed might not be written again.
MOST_DEPTH = 100
# Bytes that are read at once of a line that is too long.
_BLOCK = 1 << 16
# Bad rows that an error lists by number.
_LISTED = 8

# (number of the row, from 1; the row, or None where it is bad; why it is)
Line = tuple[int, dict[str, Any] | None, str]


@dataclasses.dataclass
class Report:
  """What became of the rows of a split.

  Each row is counted in `rows` and in one of the others.

  Attributes:
    where: what an error calls the source.
    rows: how many there are.
    good: (row number, problem) of what could be read.
    bad: (row number, what is wrong with it).
    without_answer: (row number, problem) of those left out for want of one.
    passed_over: how many are of another split.
  """

  where: str
  rows: int = 0
  good: list[tuple[int, records.Problem]] = dataclasses.field(
    default_factory=list
  )
  bad: list[tuple[int, str]] = dataclasses.field(default_factory=list)
  without_answer: list[tuple[int, records.Problem]] = dataclasses.field(
    default_factory=list
  )
  passed_over: int = 0

  @property
  def problems(self) -> list[records.Problem]:
    """The problems of the good rows, in order."""
    return [problem for _, problem in self.good]

  def fault(self) -> str:
    """Returns one line: the first fault, and which rows of how many are bad."""
    if not self.bad:
      return ''
    number, why = self.bad[0]
    listed = ', '.join(str(number) for number, _ in self.bad[:_LISTED])
    more = ', ...' if len(self.bad) > _LISTED else ''
    return (
      f'{self.where}: row {number}: {why} Bad: {len(self.bad)} of {self.rows} '
      f'rows ({listed}{more}).'
    )

  def check(self) -> None:
    """Raises an InputError if a row is bad."""
    if self.bad:
      raise errors.InputError(self.fault())


def read(
  data: str,
  split: str,
  *,
  name: str,
  hub: remote.Hub,
  make: Callable[[dict[str, Any], str], records.Problem | None],
  files: Sequence[str] = (),
  needs_answer: bool = False,
) -> Report:
  """Returns what became of the rows of a split.

  Args:
    data: a folder with a file of the split, a file that serves any split, or
      what `Hub.named` takes.
    split: the split.
    name: the task's name.
    hub: where the set lies by default.
    make: (row, id where the row has none) -> problem; None if the row is of
      another split; raises InputError without the row's number.
    files: names of the split's file in a folder, the first that exists being
      read; none for `<split>.jsonl`.
    needs_answer: whether to leave out problems without an answer.

  Raises:
    InputError: if the source is missing, or no row is of the split.
  """
  source = hub.named(data)
  if source is not None:
    where, found = str(source), _checked(source.fetch(split))
  else:
    where = _file(data, files or (f'{split}.jsonl',))
    found = lines(where)
  report = gather(
    where,
    found,
    make,
    lambda _, position: f'{name}/{split}/{position}',
    needs_answer,
  )
  if not report.rows:
    raise errors.InputError(f'{where}: wanted rows of {name}; it is empty.')
  if not report.good and not report.bad:
    raise errors.InputError(
      f'{where}: wanted rows of {name}, split {split}, with an answer; there '
      f'are none among {report.rows} rows.'
    )
  return report


def gather(
  where: str,
  found: Iterable[Line],
  make: Callable[[dict[str, Any], str], records.Problem | None],
  identity: Callable[[int, int], str],
  needs_answer: bool = False,
) -> Report:
  """Returns what became of rows.

  Args:
    where: what an error is to call the source.
    found: the rows.
    make: as for `read`.
    identity: (row number, position) -> the id of a row without one; positions
      count all rows, good and bad, but those of another split.
    needs_answer: whether to leave out problems without an answer.
  """
  report = Report(where)
  seen: set[str] = set()
  for number, row, why in found:
    position = report.rows - report.passed_over
    report.rows += 1
    if row is None:
      report.bad.append((number, why))
      continue
    try:
      problem = make(row, identity(number, position))
      if problem is not None and problem.id in seen:
        raise errors.InputError(
          f'wanted each id once; {records.shorten(problem.id)} comes twice.'
        )
    except errors.InputError as error:
      report.bad.append((number, ' '.join(str(error).split())))
      continue
    if problem is None:
      report.passed_over += 1
      continue
    seen.add(problem.id)
    if needs_answer and not problem.answer:
      report.without_answer.append((number, problem))
    else:
      report.good.append((number, problem))
  return report


def lines(path: str) -> Iterator[Line]:
  """Yields the rows of a JSONL file, good and bad, in bounded memory.

  A row is a strict JSON object: UTF-8, no field twice, no NaN or infinity, no
  NUL, at most `MOST_LINE` bytes and `MOST_DEPTH` levels.  Blank lines are
  counted and not yielded.

  Raises:
    InputError: if there is no such file, or it may not be read.
  """
  try:
    with storage.local(path) as copy, open(copy, 'rb') as file:
      number = 0
      while line := file.readline(MOST_LINE + 1):
        number += 1
        if len(line) > MOST_LINE and not line.endswith(b'\n'):
          length = len(line)
          # Small blocks, and not beside the beginning, which is large.
          line = b''
          while not line.endswith(b'\n') and (line := file.readline(_BLOCK)):
            length += len(line)
          why = f'wanted at most {MOST_LINE} bytes; got {length}.'
          yield number, None, why
        elif line.strip():
          yield number, *_parsed(line)
  except FileNotFoundError:
    raise errors.InputError(
      f'{path}: wanted a file; there is no such file.'
    ) from None
  except (PermissionError, NotADirectoryError, IsADirectoryError) as error:
    raise errors.InputError(
      f'{path}: wanted a file to read; got {error.strerror or error}.'
    ) from None


def text(row: dict[str, Any], field: str) -> str:
  """Returns a row's text of a field, which must not be blank."""
  value = row.get(field)
  if not isinstance(value, str) or not value.strip():
    raise errors.InputError(
      f'wanted a text in field "{field}"; got {records.shorten(value)}.'
    )
  return value


def optional(row: dict[str, Any], field: str) -> str:
  """Returns a row's text of a field; empty where it is missing or null."""
  value = row.get(field)
  if value is None:
    return ''
  if not isinstance(value, str):
    raise errors.InputError(
      f'wanted a text in field "{field}"; got {records.shorten(value)}.'
    )
  return value


def texts(row: dict[str, Any], field: str) -> list[str]:
  """Returns a row's list of texts; empty where it is missing or null."""
  value = row.get(field)
  if value is None:
    return []
  if not isinstance(value, list) or any(type(v) is not str for v in value):
    raise errors.InputError(
      f'wanted a list of texts in field "{field}"; '
      f'got {records.shorten(value)}.'
    )
  return value


def _file(data: str, names: Sequence[str]) -> str:
  """Returns the path of a split's file; `data` is a folder or the file."""
  if not storage.is_folder(data):
    return data
  paths = [storage.join(data, name) for name in names]
  found = next((path for path in paths if storage.exists(path)), '')
  if not found:
    raise errors.InputError(
      f'data: wanted {" or ".join(paths)}; there is no such file.'
    )
  return found


def _parsed(line: bytes) -> tuple[dict[str, Any] | None, str]:
  """Returns (row, what is wrong with it) of a line."""
  try:
    decoded = line.decode('utf-8')
  except UnicodeDecodeError as error:
    return None, (
      f'wanted UTF-8 text; got byte 0x{line[error.start]:02x} at offset '
      f'{error.start}.'
    )
  try:
    row = records.parse_object(decoded, '')
  except errors.InputError as error:
    return None, str(error).removeprefix(': ')
  # What `parse_object` lets pass is rare, and so is what might be it.
  deep = decoded.count('[') + decoded.count('{') > MOST_DEPTH
  why = _fault(row) if deep or '\\u0000' in decoded else ''
  return (None, why) if why else (row, '')


def _fault(row: dict[str, Any]) -> str:
  """Returns what is wrong with the values of a row; empty if nothing is."""
  # No recursion, as a row may be as deep as Python lets it.
  waiting = [(field, value, 2) for field, value in row.items()]
  if any('\0' in field for field in row):
    return 'wanted names of fields without NUL.'
  while waiting:
    field, value, depth = waiting.pop()
    if isinstance(value, str) and '\0' in value:
      return f'wanted text without NUL in field {json.dumps(field[:40])}.'
    if isinstance(value, float) and not math.isfinite(value):
      return f'wanted a number in field {json.dumps(field[:40])}; got {value}.'
    if isinstance(value, dict | list):
      if depth > MOST_DEPTH:
        return (
          f'wanted at most {MOST_DEPTH} levels; field '
          f'{json.dumps(field[:40])} has more.'
        )
      inner = value
      if isinstance(value, dict):
        inner = [*value, *value.values()]
      waiting += [(field, each, depth + 1) for each in inner]
  return ''


def _checked(found: Iterable[Any]) -> Iterator[Line]:
  """Yields rows that were no text, numbered."""
  for number, row in enumerate(found, 1):
    if not isinstance(row, dict):
      yield number, None, f'wanted an object; got {type(row).__name__}.'
      continue
    why = _fault(row)
    yield number, None if why else row, why
