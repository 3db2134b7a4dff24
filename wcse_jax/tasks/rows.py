"""Reads the rows of a set from a folder, a file or the Hugging Face hub.

What is bad is reported by row number, all of it at once: the first fault in
words, and how many rows of how many are bad.  A file is read line by line, and
a line that is too long is passed over, so memory is bounded by the rows that
are kept.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any

from wcse_jax import errors, records, storage


# Bytes of one line; the longest row of the sets read here has under 64 KiB.
MOST_LINE = 4 << 20
# Bad rows that an error lists by number.
_LISTED = 8
_MISSING = (
  'data: wanted a folder or file of {name}; {came}, and the package `datasets` '
  'that would fetch the set from the hub is not installed.'
)


@dataclasses.dataclass(frozen=True)
class Hub:
  """Where a set lies on the Hugging Face hub.

  Attributes:
    path: its id, as `openai/gsm8k`.
    config: the configuration; empty for its only one.
    revision: a commit or tag; empty for the newest.
  """

  path: str
  config: str = ''
  revision: str = ''

  @classmethod
  def parse(cls, data: str, default: 'Hub') -> 'Hub | None':
    """Returns what `data` names: empty, `hub:ORG/NAME`, with `@REVISION`.

    None where it is a path.  The configuration is the default's.
    """
    if not data:
      return default
    if not data.startswith('hub:'):
      return None
    path, at, revision = data.removeprefix('hub:').rpartition('@')
    path, revision = (path, revision) if at else (revision, '')
    if not path or (at and not revision):
      raise errors.InputError(
        f'data: wanted hub:ORG/NAME or hub:ORG/NAME@REVISION; got {data!r}.'
      )
    return cls(path, default.config, revision)

  def __str__(self) -> str:
    return f'{self.path}@{self.revision}' if self.revision else self.path


@dataclasses.dataclass
class Report:
  """The rows of a set, good and bad.

  Attributes:
    where: what an error calls the source.
    good: (row number, row) of what could be read.
    bad: (row number, what is wrong with it) of the rest.
  """

  where: str
  good: list[tuple[int, Any]] = dataclasses.field(default_factory=list)
  bad: list[tuple[int, str]] = dataclasses.field(default_factory=list)

  def check(self) -> None:
    """Raises an InputError if a row is bad: the first fault, and the counts."""
    if not self.bad:
      return
    self.bad.sort(key=lambda fault: fault[0])
    number, why = self.bad[0]
    listed = ', '.join(str(number) for number, _ in self.bad[:_LISTED])
    more = ', ...' if len(self.bad) > _LISTED else ''
    total = len(self.good) + len(self.bad)
    raise errors.InputError(
      f'{self.where}: row {number}: {why} Bad: {len(self.bad)} of {total} rows '
      f'({listed}{more}).'
    )


def problems(
  data: str,
  split: str,
  *,
  name: str,
  hub: Hub,
  make: Callable[[dict[str, Any], str], records.Problem],
) -> list[records.Problem]:
  """Returns the problems of a split, in the order of the rows.

  Args:
    data: a folder with `<split>.jsonl`, a file that serves any split, or
      what `Hub.parse` takes.
    split: the split.
    name: the task's name.
    hub: where the set lies by default.
    make: (row, id where the row has none) -> problem; raises InputError
      without the row's number.

  Raises:
    InputError: if the source is missing or empty, or a row is bad.
  """
  report = read(data, split, name=name, hub=hub)
  found = Report(report.where, bad=list(report.bad))
  # Counted over all rows, so that a bad one does not rename those behind it.
  numbers = sorted([n for n, _ in report.good] + [n for n, _ in report.bad])
  position = {number: at for at, number in enumerate(numbers)}
  seen: set[str] = set()
  for number, row in report.good:
    try:
      problem = make(row, f'{name}/{split}/{position[number]}')
      if problem.id in seen:
        raise errors.InputError(
          f'wanted each id once; {problem.id!r} comes twice.'
        )
    except errors.InputError as error:
      found.bad.append((number, str(error)))
      continue
    seen.add(problem.id)
    found.good.append((number, problem))
  found.check()
  return [problem for _, problem in found.good]


def read(data: str, split: str, *, name: str, hub: Hub) -> Report:
  """Returns the rows of a split, good and bad; arguments as for `problems`.

  Raises:
    InputError: if the source is missing or empty.
  """
  source = Hub.parse(data, hub)
  if source is not None:
    rows = _hub(source, split, name, 'it is empty' if not data else 'got a hub')
    report = Report(str(source))
    lines: Iterator[tuple[int, Any, str]] = (
      (number, *_strict(row)) for number, row in enumerate(rows, 1)
    )
  else:
    path = data
    if storage.is_folder(path):
      path = storage.join(path, f'{split}.jsonl')
    report = Report(path)
    lines = _lines(path)
  for number, row, why in lines:
    if why:
      report.bad.append((number, why))
    else:
      report.good.append((number, row))
  if not report.good and not report.bad:
    raise errors.InputError(
      f'{report.where}: wanted rows of {name}; it is empty.'
    )
  return report


def text(row: dict[str, Any], field: str) -> str:
  """Returns a row's text of a field, which must not be blank."""
  value = row.get(field)
  if not isinstance(value, str) or not value.strip():
    raise errors.InputError(
      f'wanted a text in field "{field}"; got {str(value)[:80]!r}.'
    )
  return value


def _lines(path: str) -> Iterator[tuple[int, Any, str]]:
  """Yields (number, row, what is wrong with it) of the lines of a file."""
  try:
    with storage.local(path) as copy, open(copy, 'rb') as file:
      number = 0
      while line := file.readline(MOST_LINE + 1):
        number += 1
        length = len(line)
        if length > MOST_LINE and not line.endswith(b'\n'):
          while line and not line.endswith(b'\n'):
            line = file.readline(MOST_LINE)
            length += len(line)
          yield (
            number,
            None,
            f'wanted at most {MOST_LINE} bytes; got {length}.',
          )
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


def _parsed(line: bytes) -> tuple[Any, str]:
  """Returns (row, what is wrong with it) of a line."""
  try:
    decoded = line.decode('utf-8')
  except UnicodeDecodeError as error:
    return None, (
      f'wanted UTF-8 text; got byte 0x{line[error.start]:02x} at offset '
      f'{error.start}.'
    )
  try:
    row = json.loads(decoded)
  except (ValueError, RecursionError) as error:
    return None, f'wanted JSON; got {error}.'
  if not isinstance(row, dict):
    return None, f'wanted an object; got {type(row).__name__}.'
  try:
    # Again, and strictly: no NaN, no infinity, no field twice.
    row = records.parse_object(decoded, '')
  except errors.InputError as error:
    return None, str(error).removeprefix(': ')
  return _strict(row)


def _strict(row: dict[str, Any]) -> tuple[Any, str]:
  for field, value in row.items():
    if isinstance(value, str) and '\0' in value:
      return None, f'wanted text without NUL in field "{field[:40]}".'
    if isinstance(value, float) and value - value != 0:
      return None, f'wanted a number in field "{field[:40]}"; got {value}.'
  return row, ''


def _hub(source: Hub, split: str, name: str, came: str) -> Any:
  try:
    import datasets
  except ImportError:
    raise errors.InputError(_MISSING.format(name=name, came=came)) from None
  try:
    return datasets.load_dataset(
      source.path,
      source.config or None,
      split=split,
      revision=source.revision or None,
    )
  # Unknown sets, revisions, configurations and splits, and a missing network.
  except (OSError, ValueError) as error:
    said = (str(error).splitlines() or [''])[0]
    raise errors.InputError(
      f'data: wanted split {split} of {source} from the hub; got '
      f'{type(error).__name__}: {said[:200]}'
    ) from None
