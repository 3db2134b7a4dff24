"""`humaneval`: functions to complete from signature and docstring."""

from collections.abc import Sequence
from typing import Any

from wcse_jax import errors, records
from wcse_jax.grading import source
from wcse_jax.tasks import base, programs, remote, rows


# Source of the revision: the id's public pinned uses, as
# huggingface.co/datasets/openai/openai_humaneval/tree/<this>.
HUB = remote.Hub(
  'openai/openai_humaneval',
  ('openai_humaneval',),
  '7dce6050a7d6d172f3cc5c32aa97f52fa1a2e544',
  license='mit',
)


class HumanEval(programs.Programs):
  """The task `humaneval`: functions to complete from signature and docstring.

  In a folder its file is `HumanEval.jsonl`.  Rows are `{"task_id", "prompt",
  "entry_point", "canonical_solution", "test"}`.

  Source: Chen et al. 2021, arXiv:2107.03374; its stop strings, section 2.1.
  """

  name = 'humaneval'
  splits = ('test',)
  # They end a completion; in what a chat model says they would cut the program,
  # so that a chat needs `chat_stop`.
  stop = ('\nclass', '\ndef', '\n#', '\nif', '\nprint')
  chat_stop: tuple[str, ...] = ()
  hub = HUB

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

  def files(self, split: str) -> tuple[str, ...]:
    return ('HumanEval.jsonl',)

  def problem(
    self, row: dict[str, Any], default_id: str, split: str
  ) -> records.Problem:
    keys = ('task_id', 'prompt', 'entry_point', 'canonical_solution', 'test')
    texts = {key: rows.text(row, key) for key in keys}
    name = texts['entry_point']
    if not name.isidentifier() or not source.defines(texts['prompt'], name):
      raise errors.InputError(
        'wanted the name of a function of the prompt in field "entry_point"; '
        f'got {records.shorten(name)}.'
      )
    # Both are trusted and run: what does not compile is found here.
    for key in ('prompt', 'test'):
      try:
        source.parse(texts[key])
      except source.UNPARSABLE as error:
        raise errors.InputError(
          f'wanted Python in field "{key}"; got '
          f'{str(error) or type(error).__name__}.'
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
