"""`mbpp`: short functions, described in a sentence and three tests."""

import textwrap
from collections.abc import Sequence
from typing import Any

from wcse_jax import errors, records
from wcse_jax.grading import source
from wcse_jax.tasks import base, programs, remote, rows


# Source of the revision: the id's public pinned uses, in code that fetches
# .../datasets/google-research-datasets/mbpp/resolve/<this>/full/....
HUB = remote.Hub(
  'google-research-datasets/mbpp',
  ('full',),
  '4bb6404fdc6cacfda99d4ac4205087b89d32030c',
  license='cc-by-4.0',
)


class Mbpp(programs.Programs):
  """The task `mbpp`: short functions, described in a sentence and three tests.

  In a folder its file is `mbpp.jsonl`; a file of the sanitized set has the same
  form.  Splits are by `task_id`, as published: prompt 1 to 10, test 11 to 510,
  validation 511 to 600, train 601 to 974.  Rows are `{"task_id", "text" or
  "prompt", "code", "test_list"}`, and may have `id`, `test_setup_code` and
  `test_imports`.

  Source: Austin et al. 2021, arXiv:2108.07732; its prompt, section 3.
  """

  name = 'mbpp'
  splits = ('train', 'test', 'validation', 'prompt')
  stop = ('[DONE]',)
  hub = HUB
  shots_file = 'mbpp_3shot.jsonl'

  _RANGES = (
    ('prompt', 1, 10),
    ('test', 11, 510),
    ('validation', 511, 600),
    ('train', 601, 974),
  )
  # The shots of the paper, by task_id.
  _SHOWN = ('mbpp/2', 'mbpp/3', 'mbpp/4')

  def program(self, problem: records.Problem, text: str) -> str:
    written = source.cut(source.extract(text, problem.meta['names']), self.stop)
    # A model may begin its first line with a blank, as if it were prose.
    written = textwrap.dedent(written).strip('\n')
    first = written.partition('\n')[0]
    return written.lstrip() if first[:1].isspace() else written

  def shots(self, count: int) -> list[base.Shot]:
    path = self.prompts or self.default_prompts()
    if not count or (path and not _own_rows(path)):
      return super().shots(count)
    if path:
      report = rows.gather(
        path,
        rows.lines(path),
        lambda row, default_id: self.problem(row, default_id, ''),
        lambda number, _: f'row {number}',
      )
      report.check()
      shown = report.problems
    else:
      found = {p.id: p for p in self.problems('prompt')}
      order = [i for i in self._SHOWN if i in found]
      order += [i for i in found if i not in order]
      shown = [found[i] for i in order]
    if len(shown) < count:
      raise errors.InputError(
        f'shots: wanted {count}, but {path or "the split prompt"} has '
        f'{len(shown)}.'
      )
    return [base.Shot(p.question, p.solution) for p in shown[:count]]

  def prompt(self, question: str, shots: Sequence[base.Shot] = ()) -> str:
    blocks = [
      f'{_task(shot.question)}{shot.target.strip()}\n[DONE]' for shot in shots
    ]
    return '\n\n'.join([*blocks, _task(question)])

  def completion(self, text: str) -> str:
    # The prompt ends with a line end: a blank would be an indent.
    return text.strip() + '\n'

  def files(self, split: str) -> tuple[str, ...]:
    return ('mbpp.jsonl',)

  def problem(
    self, row: dict[str, Any], default_id: str, split: str
  ) -> records.Problem | None:
    """Returns the problem of a row, whose id is by its `task_id`.

    None if it is of another split; an empty `split` stands for any.
    """
    task_id = row.get('task_id')
    if type(task_id) is not int:
      raise errors.InputError(
        f'wanted an integer in field "task_id"; got {records.shorten(task_id)}.'
      )
    own = next((n for n, a, b in self._RANGES if a <= task_id <= b), '')
    if not own:
      raise errors.InputError(
        f'wanted a "task_id" from 1 to 974; got {records.shorten(task_id)}.'
      )
    if split not in ('', own):
      return None
    row = {'id': f'mbpp/{task_id}', **row}
    told = 'text' if 'text' in row else 'prompt'
    identity, text, code = (rows.text(row, key) for key in ('id', told, 'code'))
    code = code.replace('\r\n', '\n').rstrip()
    shown = rows.texts(row, 'test_list')
    if not shown:
      raise errors.InputError('wanted tests in field "test_list".')
    setup = rows.optional(row, 'test_setup_code')
    setup = setup.replace('\r\n', '\n').rstrip()
    shown = [test.replace('\r\n', '\n').strip() for test in shown]
    tests = '\n'.join([setup, *shown] if setup else shown)
    imports = '\n'.join(rows.texts(row, 'test_imports'))
    try:
      names, needed = source.asked(code, imports, tests)
    except source.UNPARSABLE as error:
      raise errors.InputError(
        'wanted Python in the fields "code", "test_imports" and "test_list"; '
        f'got {str(error) or type(error).__name__}.'
      ) from None
    if not names:
      raise errors.InputError(
        'wanted tests that call the program; field "test_list" names nothing '
        'of it.'
      )
    text = text.replace('\r\n', '\n').strip()
    return records.Problem(
      id=identity,
      task=self.name,
      question=(
        f'{text} Your code should pass these tests:\n\n' + '\n'.join(shown)
      ),
      answer=code,
      solution=code,
      meta={
        'tests': tests,
        'names': names,
        'preamble': '\n'.join(
          [imports, *(f'import {module}' for module in needed)]
        ).strip(),
      },
    )


def _own_rows(path: str) -> bool:
  """Returns whether a file of shots has rows of MBPP's own fields."""
  first = next((row for _, row, _ in rows.lines(path)), None)
  return first is not None and 'test_list' in first


def _task(question: str) -> str:
  return (
    'You are an expert Python programmer, and here is your task: '
    f'{question}\n[BEGIN]\n'
  )
