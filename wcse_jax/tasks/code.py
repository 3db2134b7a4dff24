"""`mbpp` and `humaneval`: programs in Python, judged by running their tests."""

import collections
import json
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from wcse_jax import errors, records, storage
from wcse_jax.grading import program, source
from wcse_jax.tasks import base


_INSTRUCTION = (
  'Answer with the whole program in one block of code that begins with '
  '```python and ends with ```.'
)


class Programs(base.Task):
  """What tasks whose answers are programs share.

  A sample's answer is its program.  Grading takes bubblewrap: without it an
  InputError says what to install.
  """

  instruction = _INSTRUCTION
  hub: tuple[str, str] = ('', '')
  file = ''

  def __init__(self, data: str = '', prompts: str = ''):
    super().__init__(data, prompts)
    self._pool: program.Pool | None = None

  def problems(self, split: str) -> list[records.Problem]:
    if split not in self.splits:
      raise errors.InputError(
        f'split: wanted one of {", ".join(self.splits)} for task {self.name}; '
        f'got {split!r}.'
      )
    found: dict[str, records.Problem] = {}
    for where, row in self._rows(split):
      if not isinstance(row, dict):
        raise errors.InputError(
          f'{where}: wanted an object; got {type(row).__name__}.'
        )
      problem = self._problem(row, split, where)
      if problem is None:
        continue
      if problem.id in found:
        raise errors.InputError(
          f'{where}: wanted each id once; {problem.id!r} comes twice.'
        )
      found[problem.id] = problem
    if not found:
      raise errors.InputError(
        f'{self.data or self.hub[0]}: wanted rows of {self.name}, split '
        f'{split}; there are none.'
      )
    return list(found.values())

  def answer(self, text: str) -> str | None:
    return source.extract(text).strip('\n') or None

  def equal(self, answer: str, reference: str) -> bool:
    """Returns whether two programs are one but for names and layout."""
    return self.chain(answer) == self.chain(reference)

  def program(self, problem: records.Problem, text: str) -> str:
    """Returns the whole program that a text states; empty if it has none."""
    raise NotImplementedError

  def grade(self, problem, index, text):
    return next(iter(self.grade_many([(problem, index, text)])))

  def grade_many(
    self, rows: Iterable[tuple[records.Problem, int, str]]
  ) -> Iterator[records.Grade]:
    """Yields the grades of (problem, index, text), in order; on all cores."""
    if self._pool is None:
      self._pool = program.Pool()
    asked: collections.deque[tuple[records.Problem, int, str]] = (
      collections.deque()
    )

    def pairs():
      for problem, index, text in rows:
        written = self.program(problem, text)
        asked.append((problem, index, written))
        yield (
          written,
          program.Tests(
            tests=problem.meta['tests'],
            names=tuple(problem.meta['names']),
            preamble=problem.meta['preamble'],
          ),
        )

    for verdict in self._pool.judge_many(pairs()):
      problem, index, written = asked.popleft()
      yield records.Grade(
        problem_id=problem.id,
        index=index,
        answer=written or None,
        correct=records.VERDICTS[verdict.verdict],
        verdict=verdict.verdict,
        sound=None,
        why=verdict.why,
      )

  def close(self) -> None:
    if self._pool is not None:
      self._pool.close()
      self._pool = None

  def chain(self, text: str) -> str:
    """Returns the program without comments, docstrings, layout and own names.

    What a program binds (arguments, variables, functions, classes) is numbered
    in the order of appearance.  A text that is no program is its own chain, but
    for white space.
    """
    written = source.cut(source.extract(text), self.stop)
    found = source.chain(written)
    if found is not None:
      return found
    return super().chain(text)

  def _problem(
    self, row: dict[str, Any], split: str, where: str
  ) -> records.Problem | None:
    """Returns the problem of a row; None if it is of another split."""
    raise NotImplementedError

  def _rows(self, split: str) -> Iterator[tuple[str, Any]]:
    """Yields (what an error calls the row, row)."""
    if not self.data:
      yield from _hub_rows(*self.hub, split, self.name)
      return
    path = self.data
    if storage.is_folder(path):
      path = storage.join(path, self.file)
    # Not splitlines(): U+2028 is no line end in JSON.
    for number, line in enumerate(storage.read_text(path).split('\n'), 1):
      if not line.strip():
        continue
      where = f'{path}: row {number}'
      try:
        row = json.loads(line)
      except (ValueError, RecursionError) as error:
        raise errors.InputError(f'{where}: wanted JSON; got {error}.') from None
      yield where, row


class Mbpp(Programs):
  """The task `mbpp`: short functions, described in a sentence and three tests.

  `data` is a folder with `mbpp.jsonl`, a file (the sanitized set has the same
  form), or empty for the Hugging Face hub.  Splits are by `task_id`, as
  published: prompt 1 to 10, test 11 to 510, validation 511 to 600, train 601 to
  974.  Rows are `{"task_id", "text" or "prompt", "code", "test_list"}`, and may
  have `id`, `test_setup_code` and `test_imports`.

  Source: Austin et al. 2021, arXiv:2108.07732; its prompt, section 3.
  """

  name = 'mbpp'
  splits = ('train', 'test', 'validation', 'prompt')
  stop = ('[DONE]',)
  hub = ('google-research-datasets/mbpp', 'full')
  file = 'mbpp.jsonl'
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
      rows = [
        self._shot(json.loads(line), f'{path}: row {number}')
        for number, line in enumerate(storage.read_text(path).split('\n'), 1)
        if line.strip()
      ]
    else:
      found = {p.id: p for p in self.problems('prompt')}
      order = [i for i in self._SHOWN if i in found]
      order += [i for i in found if i not in order]
      rows = [base.Shot(found[i].question, found[i].solution) for i in order]
    if len(rows) < count:
      raise errors.InputError(
        f'shots: wanted {count}, but {path or "the split prompt"} has '
        f'{len(rows)}.'
      )
    return rows[:count]

  def prompt(self, question: str, shots: Sequence[base.Shot] = ()) -> str:
    blocks = [
      f'{_task(shot.question)}{shot.target.strip()}\n[DONE]' for shot in shots
    ]
    return '\n\n'.join([*blocks, _task(question)])

  def completion(self, text: str) -> str:
    # The prompt ends with a line end: a blank would be an indent.
    return text.strip() + '\n'

  def _shot(self, row: Any, where: str) -> base.Shot:
    problem = self._problem(row, '', where)
    return base.Shot(problem.question, problem.solution)

  def _problem(self, row, split, where):
    task_id = row.get('task_id')
    if type(task_id) is not int:
      raise errors.InputError(
        f'{where}: wanted an integer in field "task_id"; '
        f'got {records.shorten(task_id)}.'
      )
    own = next((n for n, a, b in self._RANGES if a <= task_id <= b), '')
    if not own:
      raise errors.InputError(
        f'{where}: wanted a "task_id" from 1 to 974; got {task_id}.'
      )
    if split and split != own:
      return None
    row = {'id': f'mbpp/{task_id}', **row}
    told = 'text' if 'text' in row else 'prompt'
    texts = {key: _text(row, key, where) for key in ('id', told, 'code')}
    code = texts['code'].replace('\r\n', '\n').rstrip()
    shown = _texts(row, 'test_list', where)
    if not shown:
      raise errors.InputError(f'{where}: wanted tests in field "test_list".')
    setup = row.get('test_setup_code', '')
    if not isinstance(setup, str):
      raise errors.InputError(
        f'{where}: wanted a text in field "test_setup_code"; '
        f'got {records.shorten(setup)}.'
      )
    setup = setup.replace('\r\n', '\n').rstrip()
    shown = [test.replace('\r\n', '\n').strip() for test in shown]
    tests = '\n'.join([setup, *shown] if setup else shown)
    imports = '\n'.join(_texts(row, 'test_imports', where))
    try:
      names, needed = source.asked(code, imports, tests)
    except source.UNPARSABLE as error:
      raise errors.InputError(
        f'{where}: wanted Python in the fields "code", "test_imports" and '
        f'"test_list"; got {error}.'
      ) from None
    if not names:
      raise errors.InputError(
        f'{where}: wanted tests that call the program; field "test_list" '
        'names nothing of it.'
      )
    text = texts[told].replace('\r\n', '\n').strip()
    return records.Problem(
      id=texts['id'],
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


class HumanEval(Programs):
  """The task `humaneval`: functions to complete from signature and docstring.

  `data` is a folder with `HumanEval.jsonl`, a file, or empty for the Hugging
  Face hub.  Rows are `{"task_id", "prompt", "entry_point",
  "canonical_solution", "test"}`.

  Source: Chen et al. 2021, arXiv:2107.03374; its stop strings, section 2.1.
  """

  name = 'humaneval'
  splits = ('test',)
  # They end a completion; in what a chat model says they would cut the program,
  # so that a chat needs `chat_stop`.
  stop = ('\nclass', '\ndef', '\n#', '\nif', '\nprint')
  chat_stop: tuple[str, ...] = ()
  hub = ('openai/openai_humaneval', 'openai_humaneval')
  file = 'HumanEval.jsonl'

  def program(self, problem: records.Problem, text: str) -> str:
    prompt = problem.meta['preamble']
    name = problem.meta['entry_point']
    written = source.extract(text, (name,))
    if not written.strip():
      return ''
    if source.defines(written, name):
      # Behind the prompt, for its imports and helpers.
      return f'{prompt}\n{written}'
    if written != text and not written[:1].isspace():
      return f'{prompt}\n{written}'
    written = source.cut(written, self.stop)
    # Some engines strip the indent of the first line.
    indent = '' if written[:1].isspace() else '    '
    return f'{prompt}{indent}{written}' if written.strip() else ''

  def shots(self, count: int) -> list[base.Shot]:
    if count and not self.prompts:
      raise errors.InputError(
        f'shots: wanted 0, as {self.name} has no worked examples of its own; '
        f'got {count}.'
      )
    return super().shots(count)

  def prompt(self, question: str, shots: Sequence[base.Shot] = ()) -> str:
    blocks = [f'{shot.question}{shot.target.rstrip()}\n\n\n' for shot in shots]
    return ''.join([*blocks, question])

  def ask(self, question: str, shots: Sequence[base.Shot] = ()) -> str:
    if shots:
      return self.prompt(question, shots)
    return (
      f'Complete this Python function.\n\n```python\n{question.rstrip()}\n```'
      f'\n\n{self.instruction}'
    )

  def completion(self, text: str) -> str:
    return text.strip('\n').rstrip() + '\n'

  def _problem(self, row, split, where):
    keys = ('task_id', 'prompt', 'entry_point', 'canonical_solution', 'test')
    texts = {key: _text(row, key, where) for key in keys}
    name = texts['entry_point']
    if not name.isidentifier() or not source.defines(texts['prompt'], name):
      raise errors.InputError(
        f'{where}: wanted the name of a function of the prompt in field '
        f'"entry_point"; got {name[:80]!r}.'
      )
    # Both are trusted and run: what does not compile is found here.
    for key in ('prompt', 'test'):
      try:
        source.parse(texts[key])
      except source.UNPARSABLE as error:
        raise errors.InputError(
          f'{where}: wanted Python in field "{key}"; got {error}.'
        ) from None
    return records.Problem(
      id=texts['task_id'],
      task=self.name,
      question=texts['prompt'],
      answer=texts['canonical_solution'].rstrip(),
      solution=texts['canonical_solution'].rstrip(),
      meta={
        'tests': f'{texts["test"]}\n\ncheck({name})\n',
        'names': [name],
        # A prompt ends in a docstring, so it is a program: its imports and
        # helpers are the tests' own, whatever the program makes of them.
        'preamble': texts['prompt'],
        'entry_point': name,
      },
    )


def _own_rows(path: str) -> bool:
  """Returns whether a file of shots has rows of MBPP's own fields."""
  first = storage.read_text(path).lstrip().partition('\n')[0]
  try:
    row = json.loads(first)
  except (ValueError, RecursionError):
    return False
  return isinstance(row, dict) and 'test_list' in row


def _task(question: str) -> str:
  return (
    'You are an expert Python programmer, and here is your task: '
    f'{question}\n[BEGIN]\n'
  )


def _text(row: dict[str, Any], key: str, where: str) -> str:
  value = row.get(key)
  if not isinstance(value, str) or not value.strip():
    raise errors.InputError(
      f'{where}: wanted a text in field "{key}"; got {records.shorten(value)}.'
    )
  return value


def _texts(row: dict[str, Any], key: str, where: str) -> list[str]:
  value = row.get(key, [])
  if not isinstance(value, list) or any(type(v) is not str for v in value):
    raise errors.InputError(
      f'{where}: wanted a list of texts in field "{key}"; '
      f'got {records.shorten(value)}.'
    )
  return value


def _hub_rows(
  name: str, config: str, split: str, task: str
) -> Iterator[tuple[str, Any]]:
  try:
    import datasets
  except ImportError:
    raise errors.InputError(
      f'data: wanted a folder or file of {task}; it is empty, and the package '
      '`datasets` that would fetch the set from the hub is not installed.'
    ) from None
  rows = datasets.load_dataset(name, config, split=split)
  for number, row in enumerate(rows, 1):
    yield f'{name}: row {number}', row
