"""The files of a human audit: what people fill in, and what they said.

    DIR/audit/<model>.csv    right samples, with a verdict to be filled in
    DIR/audit/<model>.html   the same as a page that gives such a CSV
    DIR/audit/auditors/<model>/<auditor>.jsonl  what each auditor said
    DIR/audit/<model>.jsonl  what they all said, rows of `records.Judgement`
    DIR/audit/<model>.json   the samples it is of, and the figures

A CSV goes through spreadsheets, which rewrite it: other delimiters and line
ends, no byte order mark, other quotes, empty rows and columns, numbers and
dates in another form.  A row is therefore known by its digest, and texts are
compared without regard to white space.
"""

import collections
import csv
import dataclasses
import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from wcse_jax import errors, records, shardfiles, storage


# (problem id, sample index).
Key = tuple[str, int]

COLUMNS = (
  'problem_id',
  'index',
  'level',
  'question',
  'reference',
  'answer',
  'text',
  'verdict',
  'note',
  'digest',
)
# What a verdict says of the reasoning.
VERDICTS = {'sound': True, 'unsound': False, 'unsure': None}
BOM = '\ufeff'

# Excel holds 32,767 UTF-16 units in a cell, and spills the rest.
_CELL_UNITS = 32_000
# Columns that must be there, in any order.
_NEEDED = ('problem_id', 'index', 'text', 'verdict', 'note', 'digest')
_DELIMITERS = ',;\t'
# Control characters that CSV or XML of a spreadsheet cannot hold.
_PICTURES = {c: 0x2400 + c for c in range(32) if chr(c) not in '\t\r\n'}
_PICTURES[0x7F] = 0x2421


def _any_case(word: str) -> str:
  return ''.join(f'[{one.upper()}{one.lower()}]' for one in word)


_END = r'(?![\s\S])'
_MONTHS = 'jan feb mar apr may jun jul aug sep oct nov dec'
_MONTH = '|'.join(map(_any_case, _MONTHS.split()))
# Cells that a spreadsheet would take for a formula, or write in another form
# (dates, fractions, leading zeros): they get an apostrophe before them.  The
# source is one that Python and JavaScript read alike, as the page uses it too.
# Source: OWASP, "CSV Injection" (the characters that begin a formula).
RISKY = (
  r"^'*(?:[ \t\r\n\u00a0]*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]"
  rf'|(?!0{_END}|[1-9][0-9]{{0,14}}{_END})[0-9.,:$%(\u00a3\u20ac\u00a5]'
  rf'[ 0-9A-Za-z.,:/%()+-]{{0,31}}{_END}'
  rf'|(?:{_MONTH})[A-Za-z]{{0,6}}[ ./-]{{0,2}}[0-9]{{1,4}}{_END}'
  rf'|(?:{_any_case("true")}|{_any_case("false")}){_END})'
)
_RISKY = re.compile(RISKY)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Item:
  """A right sample to be audited.

  Attributes:
    digest: of the model's name, the problem id, the index and the text.
    problem_id: the problem that was asked.
    index: number of the sample among those of its problem.
    level: of the problem; empty where it has none.
    question: the text that was asked.
    reference: the reference answer.
    answer: the answer that was found in the text.
    text: the model's solution.
    solution: the worked solution of the reference; may be empty.
    judged: (judge, its verdict) of each judge that is to be shown.
  """

  digest: str
  problem_id: str
  index: int
  level: str
  question: str
  reference: str
  answer: str
  text: str
  solution: str = ''
  judged: tuple[tuple[str, str], ...] = ()

  @property
  def key(self) -> Key:
    return self.problem_id, self.index


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
  """A row of a CSV that was read; `number` is a spreadsheet's number of it."""

  number: int
  digest: str
  problem_id: str
  index: str
  text: str
  verdict: str
  note: str


def digest(model: str, problem_id: str, index: int, text: str) -> str:
  """Returns what a row is known by; no spreadsheet takes it for a number."""
  whole = json.dumps([model, problem_id, index, text])
  return f'sha-{hashlib.sha256(whole.encode("ascii")).hexdigest()[:16]}'


def encode(text: str) -> str:
  """Returns a text as a cell that a spreadsheet leaves as it is."""
  return f"'{text}" if _RISKY.match(text) else text


def decode(cell: str) -> str:
  """Returns the text of a cell: `decode(encode(text)) == text`."""
  return cell[1:] if cell[:1] == "'" and _RISKY.match(cell[1:]) else cell


def cells(item: Item) -> list[str]:
  """Returns the cells of an item before its verdict.

  Control characters become their pictures, and what is longer than a
  spreadsheet's cell is cut, and says so.
  """
  return [encode(_shown(str(getattr(item, name)))) for name in COLUMNS[:7]]


def line(values: Iterable[str]) -> str:
  """Returns cells as one line of CSV; all are quoted."""
  out = io.StringIO(newline='')
  csv.writer(out, quoting=csv.QUOTE_ALL).writerow(values)
  return out.getvalue()


def table(items: Iterable[Item], given: Mapping[str, tuple[str, str]]) -> str:
  """Returns the CSV of items; `given` is digest -> (verdict, note)."""
  lines = [BOM + line(COLUMNS)]
  for item in items:
    verdict, note = given.get(item.digest, ('', ''))
    lines.append(line([*cells(item), verdict, encode(note), item.digest]))
  return ''.join(lines)


def parse(data: bytes, path: str) -> list[Row]:
  """Returns the rows of a CSV that a spreadsheet or the page wrote.

  Args:
    data: the file; UTF-8, or UTF-16 with its byte order mark.
    path: its name in errors.

  Raises:
    InputError: if it is not a table with the columns of an audit.
  """
  text = _decoded(data, path)
  # Excel itself writes and reads a first line `sep=;`.
  skipped = re.match(r'"?sep=[,;\t]"?\r?\n', text)
  text = text[skipped.end() :] if skipped else text
  # No name of a column holds one.
  first = re.match(r'[^\r\n]*', text)[0]
  lines = _records(text, max(_DELIMITERS, key=first.count), path)
  heads = [head.strip().lower() for head in next(lines, [])]
  for name in _NEEDED:
    if heads.count(name) != 1:
      raise errors.InputError(
        f'{path}: row 1: wanted one column {name!r} of an audit; got '
        f'{records.shorten(heads)}.'
      )
  at = {name: heads.index(name) for name in _NEEDED}
  rows = []
  for number, found in enumerate(lines, 3 if skipped else 2):
    if not any(cell.strip() for cell in found):
      continue
    found += [''] * (len(heads) - len(found))
    cell = {name: found[column] for name, column in at.items()}
    rows.append(
      Row(
        number=number,
        digest=cell['digest'].strip().lower(),
        problem_id=cell['problem_id'],
        index=cell['index'],
        text=cell['text'],
        verdict=cell['verdict'].strip().lower(),
        note=decode(cell['note']),
      )
    )
  return rows


def check(rows: Sequence[Row], items: Mapping[str, Item], path: str) -> None:
  """Verifies that every row is of a known item, unchanged, once.

  Args:
    rows: of one file.
    items: digest -> item of all that rows may be of.
    path: name of the file in the error.

  Raises:
    InputError: one line with the first bad row, and how many there are.
  """
  faults: list[tuple[str, str]] = []
  seen: dict[str, int] = {}
  for row in rows:
    fault = _fault(row, items.get(row.digest), seen)
    if fault:
      faults.append((fault[0], f'row {row.number}: {fault[1]}'))
    seen.setdefault(row.digest, row.number)
  if faults:
    counts = collections.Counter(kind for kind, _ in faults)
    bad = ', '.join(f'{count} {kind}' for kind, count in counts.items())
    raise errors.InputError(
      f'{path}: {faults[0][1]} ({len(faults)} of {len(rows)} rows are bad: '
      f'{bad}).'
    )


def path_of(workdir: str, model: str, ending: str) -> str:
  """Returns the path of one of a model's files."""
  return storage.join(workdir, 'audit', f'{model}.{ending}')


def auditors_folder(workdir: str, model: str) -> str:
  """Returns the folder with a file of each auditor.

  Apart from the other files, as names of models may have dots.
  """
  return storage.join(workdir, 'audit', 'auditors', model)


def read(workdir: str, model: str) -> dict[Key, bool | None]:
  """Returns whether each audited sample is sound; None where unsure.

  Empty where nothing was audited.

  Raises:
    InputError: if the file is not one of judgements, or is of other samples
      than those in the run folder.
  """
  path = path_of(workdir, model, 'jsonl')
  if not storage.exists(path):
    return {}
  check_source(workdir, model)
  return {key: row.sound for key, row in read_judgements(path).items()}


def read_judgements(path: str) -> dict[Key, records.Judgement]:
  """Returns the judgements of a JSONL file.

  Raises:
    InputError: if a row is no judgement, or a sample is there twice.
  """
  found: dict[Key, records.Judgement] = {}
  for row in records.read_rows(path, records.Judgement):
    key = (row.problem_id, row.index)
    if key in found:
      raise errors.InputError(
        f'{path}: wanted each sample once; got problem '
        f'{records.shorten(key[0])}, index {key[1]} twice.'
      )
    found[key] = row
  return found


def source(workdir: str, model: str) -> dict[str, Any] | None:
  """Returns the fingerprint of a model's samples; None if there are none."""
  folder = storage.join(workdir, 'samples', model)
  if not storage.exists(storage.join(folder, shardfiles.MANIFEST)):
    return None
  return shardfiles.ShardFolder(folder).fingerprint


def check_source(workdir: str, model: str) -> None:
  """Verifies that what was audited is what the run folder holds.

  Raises:
    InputError: if the samples were made anew since.
  """
  path = path_of(workdir, model, 'json')
  have = source(workdir, model)
  if have is None or not storage.exists(path):
    return
  about = storage.read_json(path)
  if not isinstance(about, dict) or not isinstance(about.get('samples'), dict):
    raise errors.InputError(
      f'{path}: wanted an object with the object "samples"; got '
      f'{records.shorten(about)}.'
    )
  differences = shardfiles.fingerprint_difference(have, about['samples'])
  if differences:
    raise errors.InputError(
      f'{path}: wanted an audit of the samples in {workdir}; got one of '
      f'others: {"; ".join(differences)}. Move the folder aside.'
    )


def _shown(value: str) -> str:
  value = value.translate(_PICTURES)
  units = value.encode('utf-16-le', 'surrogatepass')
  left = len(units) // 2 - _CELL_UNITS
  if left > 0:
    value = units[: 2 * _CELL_UNITS].decode('utf-16-le', 'ignore')
    return f'{value}\n[cut: {left} more characters are on the page]'
  return units.decode('utf-16-le', 'replace')


def _loose(cell: str) -> str:
  """Returns what spreadsheets keep of a cell's text."""
  return ' '.join(cell.lstrip("' \t\r\n").split())


def _decoded(data: bytes, path: str) -> str:
  wide = data.startswith((b'\xff\xfe', b'\xfe\xff'))
  try:
    text = data.decode('utf-16' if wide else 'utf-8-sig')
  except UnicodeDecodeError:
    raise errors.InputError(
      f'{path}: wanted a table in UTF-8; got other bytes. Save it as "CSV '
      'UTF-8".'
    ) from None
  if '\0' in text:
    row = text.count('\n', 0, text.index('\0')) + 1
    raise errors.InputError(
      f'{path}: wanted text; got a NUL character in line {row}.'
    )
  return text


def _records(text: str, delimiter: str, path: str) -> Iterator[list[str]]:
  reader = csv.reader(
    io.StringIO(text, newline=''), delimiter=delimiter, strict=True
  )
  number = 1
  while True:
    try:
      found = next(reader)
    except StopIteration:
      return
    except csv.Error as error:
      raise errors.InputError(
        f'{path}: row {number}: wanted CSV; got {error}.'
      ) from None
    yield found
    number += 1


def _fault(
  row: Row, item: Item | None, seen: Mapping[str, int]
) -> tuple[str, str] | None:
  """Returns (kind, what is wrong) of a row; None if it is good."""
  if item is None:
    return (
      'of no sample',
      'wanted the digest of a right sample of this run; got '
      f'{records.shorten(row.digest)}: the row was changed, or is of another '
      'run',
    )
  if row.digest in seen:
    return 'doubled', f'wanted each sample once; it is row {seen[row.digest]}'
  wanted = cells(item)
  for name, cell, want in (
    ('problem_id', row.problem_id, wanted[0]),
    # A spreadsheet may write 3 as 3.0.
    ('index', re.sub(r'[.,]0+$', '', row.index.strip()), wanted[1]),
    ('text', row.text, wanted[6]),
  ):
    if _loose(cell) != _loose(want):
      return (
        'altered',
        f'{name}: wanted what the run has, {records.shorten(_loose(want))}; '
        f'got {records.shorten(_loose(cell))}',
      )
  if row.verdict and row.verdict not in VERDICTS:
    return (
      'with an unknown verdict',
      f'verdict: wanted {", ".join(VERDICTS)} or nothing; got '
      f'{records.shorten(row.verdict)}',
    )
  return None
