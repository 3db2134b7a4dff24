"""GSM8K: grade-school word problems with a number as answer."""

import json
import re
from typing import Any

from wcse_jax import errors, records, storage
from wcse_jax.grading import numeric
from wcse_jax.tasks import base


HUB = 'openai/gsm8k'
_SHOTS = 'gsm8k_cot_8shot.jsonl'
_ANNOTATION = re.compile(r'<<[^<>\n]*+>>')
_NUMBER = re.compile(r'\d++(?:,\d{3}(?!\d))*+(?:\.\d++)?+')
# Equations of one line: what they are made of, and one side of them.  All are
# possessive or bounded: linear time on whatever a model writes.
_RUN = re.compile(r'[-+*/()=.,\d \t]++')
_SIDE = re.compile(
  rf'[-( ]{{0,8}}+{_NUMBER.pattern}'
  rf'(?:[ )]{{0,8}}+[-+*/][-( ]{{0,8}}+{_NUMBER.pattern})*+\){{0,8}}+'
)
_OPERATORS = str.maketrans({'×': '*', '÷': '/'} | dict.fromkeys('$€£%'))
_TIMES = re.compile(r'(?<=[\d) ])[xX](?=[\d( ])')


class Gsm8k(base.Task):
  """The task `gsm8k`.

  `data` is a folder with `train.jsonl` and `test.jsonl`, a file that serves
  whichever split is asked for, or empty: then the set comes from the Hugging
  Face hub, by way of the package `datasets`.

  Rows are `{"question", "answer"}`, the answer being worked lines and a last
  line `#### 18`; `id` (else `gsm8k/<split>/<position>`) and `final` (the
  number alone) may be given.  A problem's level is the number of worked lines
  of its reference.

  Source: Cobbe et al. 2021, arXiv:2110.14168.
  """

  name = 'gsm8k'
  splits = ('train', 'test')
  stop = ('\nQ:',)

  def problems(self, split: str) -> list[records.Problem]:
    if split not in self.splits:
      raise errors.InputError(
        f'split: wanted one of {", ".join(self.splits)} for task {self.name}; '
        f'got {split!r}.'
      )
    found = [
      self._problem(row, f'{self.name}/{split}/{position}', where)
      for position, (where, row) in enumerate(self._rows(split))
    ]
    seen: set[str] = set()
    for problem in found:
      if problem.id in seen:
        raise errors.InputError(
          f'{self.data or HUB}: wanted each id once; {problem.id!r} comes '
          'twice.'
        )
      seen.add(problem.id)
    return found

  def answer(self, text: str) -> str | None:
    return numeric.extract(text)

  def equal(self, answer: str, reference: str) -> bool:
    return numeric.equal(answer, reference)

  def chain(self, text: str) -> str:
    """Returns the equations of a text, in order, each in one spelling.

    So two texts that calculate the same in other words are one chain.  A text
    without equations is its own chain, but for white space.
    """
    text = _TIMES.sub('*', _ANNOTATION.sub('', text).translate(_OPERATORS))
    found = [
      equation for run in _RUN.findall(text) for equation in _equations(run)
    ]
    return ';'.join(found) or super().chain(text)

  def default_prompts(self) -> str:
    if not self.data:
      return ''
    folder = self.data.rstrip('/')
    if not storage.is_folder(folder):
      folder = folder.rpartition('/')[0]
    # `..` means nothing in the name of an object of a bucket.
    above = (
      folder.rpartition('/')[0]
      if '://' in folder
      else storage.join(folder or '.', '..')
    )
    path = storage.join(above, 'prompts', _SHOTS)
    return path if storage.exists(path) else ''

  def _rows(self, split: str) -> list[tuple[str, Any]]:
    """Returns (what an error calls the row, row) of a split."""
    if not self.data:
      return _hub_rows(split)
    path = self.data
    if storage.is_folder(path):
      path = storage.join(path, f'{split}.jsonl')
    found = []
    # Not splitlines(): U+2028 is no line end in JSON.
    for number, line in enumerate(storage.read_text(path).split('\n'), 1):
      if not line.strip():
        continue
      where = f'{path}: row {number}'
      try:
        found.append((where, json.loads(line)))
      except (ValueError, RecursionError) as error:
        raise errors.InputError(f'{where}: wanted JSON; got {error}.') from None
    if not found:
      raise errors.InputError(
        f'{path}: wanted rows of {self.name}; it is empty.'
      )
    return found

  def _problem(self, row: Any, default_id: str, where: str) -> records.Problem:
    if not isinstance(row, dict):
      raise errors.InputError(
        f'{where}: wanted an object; got {type(row).__name__}.'
      )
    row = {'id': default_id, **row}
    for field in ('id', 'question', 'answer'):
      if not isinstance(row.get(field), str) or not row[field].strip():
        raise errors.InputError(
          f'{where}: wanted a text in field "{field}"; '
          f'got {str(row.get(field))[:80]!r}.'
        )
    worked, mark, stated = row['answer'].rpartition('####')
    if not mark:
      worked, stated = row['answer'], row.get('final')
    final = row.get('final', stated)
    value = numeric.parse(final) if isinstance(final, str) else None
    if value is None:
      raise errors.InputError(
        f'{where}: wanted a number after #### in field "answer", or in field '
        f'"final"; got {str(final)[:80]!r}.'
      )
    if numeric.parse(stated) != value:
      raise errors.InputError(
        f'{where}: wanted the same number after #### and in field "final"; got '
        f'{stated.strip()[:80]!r} and {final[:80]!r}.'
      )
    final = final.strip().replace(',', '')
    lines = [
      line.strip()
      for line in _ANNOTATION.sub('', worked).splitlines()
      if line.strip()
    ]
    return records.Problem(
      id=row['id'],
      task=self.name,
      question=row['question'].strip(),
      answer=final,
      solution='\n'.join([*lines, f'The answer is {final}.']),
      level=str(len(lines)),
    )


def _hub_rows(split: str) -> list[tuple[str, Any]]:
  try:
    import datasets
  except ImportError:
    raise errors.InputError(
      'data: wanted a folder or file of gsm8k; it is empty, and the package '
      '`datasets` that would fetch the set from the hub is not installed.'
    ) from None
  rows = datasets.load_dataset(HUB, 'main', split=split)
  return [(f'{HUB}: row {number}', row) for number, row in enumerate(rows, 1)]


def _equations(run: str) -> list[str]:
  """Returns the equations of a stretch of numbers and operators.

  Between two equals signs may stand the result of one equation and, after a
  blank, the start of the next.
  """
  found: list[list[str]] = []
  sides: list[str] = []
  for part in run.split('='):
    expressions = _SIDE.findall(part)
    if sides and expressions:
      sides.append(expressions[0])
    if len(expressions) != 1 or not sides:
      sides = expressions[-1:]
      found.append(sides)
  return [
    '='.join(_NUMBER.sub(_plain, side).replace(' ', '') for side in equation)
    for equation in found
    if len(equation) > 1
  ]


def _plain(number: re.Match[str]) -> str:
  """Returns a number without commas and needless zeros."""
  whole, _, decimals = number[0].replace(',', '').partition('.')
  whole, decimals = whole.lstrip('0') or '0', decimals.rstrip('0')
  return f'{whole}.{decimals}' if decimals else whole
