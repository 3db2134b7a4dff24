"""GSM8K: grade-school word problems with a number as answer."""

import re
from typing import Any

from wcse_jax import errors, records
from wcse_jax.grading import equations, numeric
from wcse_jax.tasks import remote, rows, sets


# Source of the revision: the id's public pinned uses; main since 2024.
HUB = remote.Hub(
  'openai/gsm8k',
  ('main',),
  '740312add88f781978c0658806c59bc2815b9866',
  license='mit',
)
_ANNOTATION = re.compile(r'<<[^<>\n]*+>>')


class WordProblems(sets.SetTask):
  """Word problems with a number as answer, from rows of one set."""

  stop = ('\nQ:',)
  shots_file = 'gsm8k_cot_8shot.jsonl'

  def answer(self, text: str) -> str | None:
    return numeric.extract(text)

  def equal(self, answer: str, reference: str) -> bool:
    return numeric.equal(answer, reference)

  def sound(
    self, problem: records.Problem, text: str
  ) -> tuple[bool | None, str]:
    """Returns whether all equations hold and give the answer of the text."""
    sound, why, _ = equations.check(text, problem.answer)
    return sound, why

  def chain(self, text: str) -> str:
    """Returns the equations of a text, in order, each in one spelling.

    So two texts that calculate the same in other words are one chain.  A text
    without equations is its own chain, but for white space.
    """
    return equations.chain(text) or super().chain(text)


class Gsm8k(WordProblems):
  """The task `gsm8k`.

  Rows are `{"question", "answer"}`, the answer being worked lines and a last
  line `#### 18`; `id` (else `gsm8k/<split>/<position>`) and `final` (the
  number alone) may be given.  A problem's level is the number of worked lines
  of its reference.

  Source: Cobbe et al. 2021, arXiv:2110.14168.
  """

  name = 'gsm8k'
  splits = ('train', 'test')
  hub = HUB

  def problem(
    self, row: dict[str, Any], default_id: str, split: str
  ) -> records.Problem:
    row = {'id': default_id, **row}
    for field in ('id', 'question', 'answer'):
      rows.text(row, field)
    worked, mark, stated = row['answer'].rpartition('####')
    if not mark:
      worked, stated = row['answer'], row.get('final')
    final = row.get('final', stated)
    value = numeric.parse(final) if isinstance(final, str) else None
    if value is None:
      raise errors.InputError(
        f'wanted a number after #### in field "answer", or in field '
        f'"final"; got {str(final)[:80]!r}.'
      )
    if numeric.parse(stated) != value:
      raise errors.InputError(
        f'wanted the same number after #### and in field "final"; got '
        f'{stated.strip()[:80]!r} and {final[:80]!r}.'
      )
    final = final.strip().replace(',', '')
    lines = worked_lines(worked)
    return records.Problem(
      id=row['id'],
      task=self.name,
      question=row['question'].strip(),
      answer=final,
      solution='\n'.join([*lines, f'The answer is {final}.']),
      level=str(len(lines)),
    )


def worked_lines(solution: str) -> list[str]:
  """Returns the lines of a solution, without what a calculator was told."""
  plain = _ANNOTATION.sub('', solution)
  return [line.strip() for line in plain.splitlines() if line.strip()]
