"""The rows of a data set: columns, Parquet files, JSON lines."""

import collections
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
from pyarrow import parquet

from wcse_jax import errors, records, selection
from wcse_jax.sft import data


# Name, type, and what the card says of it.
COLUMNS = (
  ('problem_id', pa.string(), 'the problem, unique in its set'),
  ('question', pa.string(), 'as the set has it'),
  ('answer', pa.string(), 'the reference answer'),
  ('prompt', pa.string(), 'what a student is asked'),
  ('completion', pa.string(), 'what it learns to answer'),
  (
    'model',
    pa.string(),
    "who wrote the solution; null for the set's own",
  ),
  (
    'sample_index',
    pa.int32(),
    "number of the sample among the problem's; null likewise",
  ),
  ('level', pa.string(), 'difficulty as the set writes it; may be empty'),
  ('subject', pa.string(), 'topic; may be empty'),
  (
    'verdict',
    pa.string(),
    f'{", ".join(records.VERDICTS)}; null for what was not graded',
  ),
  (
    'sound',
    pa.bool_(),
    "whether the reasoning holds, by the task's own check; null where that "
    'is not known',
  ),
  (
    'chain',
    pa.string(),
    'digest of the reasoning: equal where two solutions of a problem reason '
    'alike',
  ),
)
SCHEMA = pa.schema([(name, kind) for name, kind, _ in COLUMNS])
# Long texts have no useful bounds.
_BOUNDED = ['problem_id', 'model', 'sample_index', 'level', 'subject']
_LONG = ('question', 'answer', 'prompt', 'completion')

# A row group has at most so many rows, and is closed once its texts have so
# many characters; so is a file.
GROUP_ROWS = 10_000
GROUP_CHARACTERS = 1 << 25
PART_CHARACTERS = 1 << 29


class Item(NamedTuple):
  """A row, before it has columns."""

  row: selection.Row
  example: data.Example
  model: str | None


class Tally:
  """What was counted of the rows as they passed.

  Attributes:
    rows: how many there are.
    models: model -> how many of them are its; None for the set's own solutions.
    verdicts: (model, verdict) -> how many.
    sound: (model, sound) -> how many.
  """

  def __init__(self):
    self.rows = 0
    self.models: collections.Counter[str | None] = collections.Counter()
    self.verdicts: collections.Counter[Any] = collections.Counter()
    self.sound: collections.Counter[Any] = collections.Counter()
    self._problems: set[str] = set()

  @property
  def problems(self) -> int:
    return len(self._problems)

  def add(self, columns: dict[str, list[Any]]) -> None:
    self.rows += len(columns['model'])
    self.models.update(columns['model'])
    self.verdicts.update(zip(columns['model'], columns['verdict']))
    self.sound.update(zip(columns['model'], columns['sound']))
    self._problems.update(columns['problem_id'])


def parts(rows: Iterable[selection.Row]) -> list[int]:
  """Returns how many rows each file has."""
  found, characters = [0], 0
  for row in rows:
    problem, sample = row.problem, row.sample
    # The question stands in the prompt, too.
    size = 2 * len(problem.question) + len(problem.answer)
    size += len(problem.solution if sample is None else sample.text)
    if found[-1] and characters + size > PART_CHARACTERS:
      found.append(0)
      characters = 0
    found[-1] += 1
    characters += size
  return found


def groups(
  items: Iterable[Item], chain: Callable[[str], str] | None
) -> Iterator[dict[str, list[Any]]]:
  """Yields the columns of one row group after another.

  Args:
    items: the rows of a file.
    chain: text -> what makes two solutions differ; None: the text but for white
      space.
  """
  columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
  rows = characters = 0
  for item in items:
    values = _values(item, chain)
    for name, value in zip(SCHEMA.names, values, strict=True):
      columns[name].append(value)
    rows += 1
    characters += sum(len(columns[name][-1]) for name in _LONG)
    if rows == GROUP_ROWS or characters >= GROUP_CHARACTERS:
      yield columns
      columns = {name: [] for name in SCHEMA.names}
      rows = characters = 0
  if rows:
    yield columns


def _values(item: Item, chain: Callable[[str], str] | None) -> Sequence[Any]:
  (problem, sample, grade, _), example, model = item
  text = problem.solution if sample is None else sample.text
  reduced = chain(text) if chain else ' '.join(text.split())
  return (
    problem.id,
    problem.question,
    problem.answer,
    example.prompt,
    example.completion,
    model,
    None if sample is None else sample.index,
    problem.level,
    problem.subject,
    None if grade is None else grade.verdict,
    None if grade is None else grade.sound,
    hashlib.sha256(reduced.encode('utf-8', 'surrogatepass')).hexdigest()[:16],
  )


def writer(file: Any) -> parquet.ParquetWriter:
  """Returns what writes a Parquet file; the same rows give the same bytes."""
  return parquet.ParquetWriter(
    file,
    SCHEMA,
    version='2.6',
    compression='zstd',
    write_statistics=_BOUNDED,
  )


def batch(columns: dict[str, list[Any]]) -> pa.RecordBatch:
  """Returns the columns of a row group as Arrow holds them.

  Raises:
    InputError: if a text is none, as it holds half of a surrogate pair.
  """
  try:
    return pa.record_batch(
      [pa.array(columns[field.name], field.type) for field in SCHEMA],
      schema=SCHEMA,
    )
  except UnicodeEncodeError as error:
    raise errors.InputError(
      'rows: wanted texts that UTF-8 can write; got '
      f'{records.shorten(error.object)}.'
    ) from None


def lines(columns: dict[str, list[Any]]) -> bytes:
  """Returns the columns of a row group as JSON lines."""
  rows = zip(*columns.values(), strict=True)
  return ''.join(
    json.dumps(dict(zip(columns, row)), ensure_ascii=False) + '\n'
    for row in rows
  ).encode('utf-8')
