"""Problems, samples and grades: rows of one line of JSON each."""

import dataclasses
import functools
import hashlib
import json
import math
import types
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import msgspec

from wcse_jax import errors, storage


FINISH_REASONS = ('stop', 'length')


# What `correct` must be for each verdict: unknown is never folded into wrong.
VERDICTS = types.MappingProxyType(
  {
    'right': True,
    'wrong': False,
    'unparsed': False,
    'timeout': None,
    'error': None,
  }
)


class _Row:
  """A record that is one line of JSON."""

  def to_json(self) -> str:
    """Returns one line of JSON, the fields in the order of their definition.

    Raises:
      ValueError: if a value is NaN or an infinity.
    """
    row = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
    return json.dumps(
      row, ensure_ascii=False, allow_nan=False, separators=(',', ':')
    )

  @classmethod
  def from_json(cls, line: str, where: str = 'row'):
    """Returns the record of a line.

    Args:
      line: what `to_json` returns; fields may be in any order.
      where: what an error is to call the row, as `samples.jsonl: row 3`.

    Raises:
      InputError: if a field is missing, unknown or of a wrong type or value.
    """
    row = parse_object(line, where)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for name in row:
      if name not in fields:
        raise errors.InputError(
          f'{where}: unknown field {shorten(name)}; known: {", ".join(fields)}.'
        )
    values = {}
    for name, field in fields.items():
      if name in row:
        values[name] = check_value(field.type, row[name], name, where)
      elif not _has_default(field):
        raise errors.InputError(f'{where}: missing field "{name}".')
    try:
      return cls(**values)
    except ValueError as error:
      raise errors.InputError(f'{where}: {error}') from None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem(_Row):
  """A question with a reference answer.

  Attributes:
    id: unique in its task.
    task: name of the task.
    question: the text that is asked.
    answer: the reference answer.
    solution: a worked solution; empty where there is none.
    level: difficulty as its set writes it, as `3`; empty where there is none.
    subject: topic; empty where there is none.
    meta: what the task's own grader needs besides, as plain JSON values.
  """

  id: str
  task: str
  question: str
  answer: str
  solution: str = ''
  level: str = ''
  subject: str = ''
  meta: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample(_Row):
  """One text drawn from a model.

  Attributes:
    problem_id: the problem that was asked.
    index: number of the sample among those of its problem, from 0.
    text: the text, which ends before the stop string.
    tokens: all drawn ids, with the ending; empty where a server drew them,
      which tells their number alone.
    finish_reason: `stop`, or `length` where the limit cut the text.
    prompt_tokens: length of the prompt, the shared prefix included.
    shared_prompt_tokens: length of the prefix that all prompts share.
    output_tokens: number of drawn tokens.
    logprob: sum of the log-probabilities of the drawn tokens (nats); None where
      it is not known.
  """

  problem_id: str
  index: int
  text: str
  tokens: tuple[int, ...]
  finish_reason: str
  prompt_tokens: int
  shared_prompt_tokens: int
  output_tokens: int
  logprob: float | None

  def __post_init__(self):
    if self.finish_reason not in FINISH_REASONS:
      raise ValueError(
        f'field "finish_reason": wanted one of {", ".join(FINISH_REASONS)}; '
        f'got {shorten(self.finish_reason)}.'
      )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Drawn:
  """What a sample says, without the ids of its tokens; see `Sample`."""

  problem_id: str
  index: int
  text: str
  finish_reason: str
  output_tokens: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grade(_Row):
  """The verdict on one sample.

  Attributes:
    problem_id: the problem that was asked.
    index: number of the sample among those of its problem, from 0.
    answer: the answer found in the text; None if there is none.
    correct: whether it equals the reference; None for timeout and error.
    verdict: one of `VERDICTS`.
    sound: whether the reasoning holds; None where that is not known.
    why: the reason of the verdict; may be empty.
  """

  problem_id: str
  index: int
  answer: str | None
  correct: bool | None
  verdict: str
  sound: bool | None
  why: str

  def __post_init__(self):
    if self.verdict not in VERDICTS:
      raise ValueError(
        f'field "verdict": wanted one of {", ".join(VERDICTS)}; '
        f'got {shorten(self.verdict)}.'
      )
    if self.correct is not VERDICTS[self.verdict]:
      raise ValueError(
        f'field "correct": wanted {shorten(VERDICTS[self.verdict])} with '
        f'verdict "{self.verdict}"; got {shorten(self.correct)}.'
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judgement(_Row):
  """What a judge, a model or a person, says of a right sample's reasoning.

  Attributes:
    problem_id: the problem that was asked.
    index: number of the sample among those of its problem, from 0.
    sound: whether the reasoning holds; None where the judge did not say.
    why: its reason, or why there is no verdict; may be empty.
  """

  problem_id: str
  index: int
  sound: bool | None
  why: str = ''


RowT = TypeVar('RowT', bound=_Row)


def read_rows(path: str, cls: type[RowT]) -> list[RowT]:
  """Returns the rows of any JSONL file; blank lines are allowed, and counted.

  Raises:
    InputError: if there is no such file, or a row is not a `cls`.
  """
  return parse_rows(storage.read_text(path), cls, path)


def parse_rows(text: str, cls: type[RowT], path: str) -> list[RowT]:
  """Returns the rows of JSONL text; `path` is its name in errors."""
  # Not splitlines: texts may hold U+2028 and its like unescaped.
  return [
    cls.from_json(line, f'{path}: row {number}')
    for number, line in enumerate(text.split('\n'), 1)
    if line.strip()
  ]


def own_rows(
  data: bytes, cls: type[RowT] | type[Drawn], path: str
) -> list[Any]:
  """Returns the rows of a file that this project wrote, unchanged since.

  Types are checked, at a tenth of the time that `parse_rows` takes; what is
  wrong is told by that.

  Args:
    data: the file.
    cls: of the rows; `Drawn` for a part of what samples are.
    path: its name in errors.
  """
  try:
    return _decoder(cls).decode_lines(data)
  except (msgspec.MsgspecError, ValueError):
    whole = Sample if cls is Drawn else cls
    rows = parse_rows(data.decode('utf-8', 'replace'), whole, path)
  if cls is not Drawn:
    return rows
  names = [field.name for field in dataclasses.fields(Drawn)]
  return [Drawn(**{n: getattr(row, n) for n in names}) for row in rows]


@functools.cache
def _decoder(cls: type) -> msgspec.json.Decoder:
  return msgspec.json.Decoder(cls)


def digest(rows: Iterable[_Row]) -> str:
  """Returns the sha256 of rows, in hexadecimal."""
  found = hashlib.sha256()
  for row in rows:
    found.update(row.to_json().encode('utf-8') + b'\n')
  return found.hexdigest()


def shorten(value: Any) -> str:
  """Returns a value as one short line; a long one with its digest."""
  text = json.dumps(value, sort_keys=True, default=repr)
  if len(text) <= 60:
    return text
  digest = hashlib.sha256(text.encode('utf-8')).hexdigest()[:8]
  return f'{text[:32]}... ({len(text)} characters, sha256 {digest})'


def _refuse_constant(name: str) -> None:
  raise ValueError(f'{name}, which is not JSON')


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  row = dict(pairs)
  if len(row) != len(pairs):
    names = [name for name, _ in pairs]
    twice = next(name for name in names if names.count(name) > 1)
    raise ValueError(f'field {shorten(twice)} twice')
  return row


def parse_object(text: str, where: str) -> dict[str, Any]:
  """Returns the object that a strict JSON text holds."""
  try:
    row = json.loads(
      text, parse_constant=_refuse_constant, object_pairs_hook=_unique
    )
    # Infinities (1e999) and lone surrogates could not be written back.
    json.dumps(row, ensure_ascii=False, allow_nan=False).encode('utf-8')
  except (ValueError, RecursionError) as error:
    raise errors.InputError(f'{where}: wanted JSON; got {error}.') from None
  if not isinstance(row, dict):
    raise errors.InputError(
      f'{where}: wanted a JSON object; got {shorten(row)}.'
    )
  return row


def _is_count(value: Any) -> bool:
  return type(value) is int and value >= 0


def _is_number(value: Any) -> bool:
  if type(value) not in (int, float):
    return False
  try:
    return math.isfinite(float(value))
  except OverflowError:
    return False


# Type of a field -> what an error calls it, the check, the conversion.
_KINDS: dict[Any, tuple[str, Any, Any]] = {
  str: ('a string', lambda v: type(v) is str, str),
  str | None: (
    'a string or null',
    lambda v: v is None or type(v) is str,
    lambda v: v,
  ),
  bool | None: (
    'true, false or null',
    lambda v: v is None or type(v) is bool,
    lambda v: v,
  ),
  int: ('an integer >= 0', _is_count, int),
  float: ('a finite number', _is_number, float),
  float | None: (
    'a finite number or null',
    lambda v: v is None or _is_number(v),
    lambda v: None if v is None else float(v),
  ),
  tuple[int, ...]: (
    'a list of integers >= 0',
    lambda v: type(v) is list and all(map(_is_count, v)),
    tuple,
  ),
  Mapping[str, Any]: ('an object', lambda v: type(v) is dict, dict),
}


def _has_default(field: dataclasses.Field) -> bool:
  missing = dataclasses.MISSING
  return field.default is not missing or field.default_factory is not missing


def check_value(kind: Any, value: Any, name: str, where: str) -> Any:
  wanted, check, convert = _KINDS[kind]
  if not check(value):
    raise errors.InputError(
      f'{where}: field "{name}": wanted {wanted}; got {shorten(value)}.'
    )
  return convert(value)
