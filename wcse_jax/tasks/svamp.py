"""SVAMP: word problems of one or two operations, varied to catch shortcuts."""

import re
from typing import Any

from wcse_jax import errors, records
from wcse_jax.grading import numeric
from wcse_jax.tasks import gsm8k, remote, rows


_OPERATOR = re.compile(r'(?<=\s)[-+*/](?=\s)')


class Svamp(gsm8k.WordProblems):
  """The task `svamp`.

  Rows are `{"question", "answer"}`, or `{"Body", "Question", "Answer"}` as on
  the hub; `id`, `equation` and `type` may be given, the last being a problem's
  subject.  Its level is the number of operators of the equation.  The hub has
  the set's 1,000 problems in two splits, 700 and 300; there is no worked
  solution.

  Source: Patel et al. 2021, arXiv:2103.07191.
  """

  name = 'svamp'
  splits = ('train', 'test')
  hub = remote.Hub(
    'ChilleD/SVAMP',
    revision='5e0bf1e5e7c0e9c4bc39180d224f41f3f801b7ef',
    license='mit',
  )

  def problem(
    self, row: dict[str, Any], default_id: str, split: str
  ) -> records.Problem:
    if 'Body' in row and 'question' not in row:
      body, asked = rows.text(row, 'Body').strip(), rows.text(row, 'Question')
      mark = '' if body.endswith(('.', '?', '!', ',')) else '.'
      row = {
        'id': row.get('ID', default_id),
        'question': f'{body}{mark} {asked}',
        'answer': row.get('Answer'),
        'equation': row.get('Equation'),
        'type': row.get('Type'),
      }
    row = {'id': default_id, **row}
    for field in ('id', 'question'):
      rows.text(row, field)
    equation = rows.optional(row, 'equation')
    answer = row.get('answer')
    stated = '' if isinstance(answer, bool) else str(answer).strip()
    value = numeric.parse(stated)
    if value is None:
      raise errors.InputError(
        f'wanted a number in field "answer"; got {str(answer)[:80]!r}.'
      )
    count = len(_OPERATOR.findall(equation))
    return records.Problem(
      id=row['id'],
      task=self.name,
      question=row['question'].strip(),
      answer=str(value) if value.denominator == 1 else stated.replace(',', ''),
      level=str(count) if count else '',
      subject=rows.optional(row, 'type'),
      meta={'equation': equation} if equation else {},
    )
