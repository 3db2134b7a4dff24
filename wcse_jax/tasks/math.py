r"""MATH: competition problems with an answer in LaTeX."""

import collections
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from wcse_jax import errors, records
from wcse_jax.grading import latex, spelling, workers
from wcse_jax.tasks import base, remote, rows, sets


# Both shown in public evaluation code, as that of lm-evaluation-harness (name)
# and of many experiment records (name and revision).
HUB = remote.Hub(
  'EleutherAI/hendrycks_math',
  (
    'algebra',
    'counting_and_probability',
    'geometry',
    'intermediate_algebra',
    'number_theory',
    'prealgebra',
    'precalculus',
  ),
  '21a5633873b6a120296cce3e2df9d5550074f4a3',
  license='mit',
)
# Shown at huggingface.co/datasets/HuggingFaceH4/MATH-500/tree/<this>.
HUB_500 = remote.Hub(
  'HuggingFaceH4/MATH-500',
  revision='ff5b20257d8185524591543f8ff5993951537bb8',
)
_LEVEL = re.compile(r'(?:Level\s*)?([1-9]\d?)')
# Characters of an answer whose spelling is still looked at.
_LONG = 300
_ASY = re.compile(r'\[asy\].*?\[/asy\]', re.DOTALL)


class Math(sets.SetTask):
  r"""The task `math`.

  Rows are `{"problem", "answer", "solution", "level", "subject"}`; `question`
  and `type` do for `problem` and `subject`, a solution with a `\boxed` for the
  answer, and an id (else `<task>/<split>/<position>`) may be given.  A row
  whose answer is empty, as two training rows have it, is left out and counted.

  Source: Hendrycks et al. 2021, arXiv:2103.03874.
  """

  name = 'math'
  splits = ('train', 'test')
  stop = ('\nProblem:', 'I hope it is correct')
  shots_file = 'minerva_math_4shot.jsonl'
  instruction = (
    r'Solve it step by step. Put your final answer in \boxed{} at the end.'
  )
  hub = HUB
  needs_answer = True
  # Whether decimals may be rounded ones.
  rounded = False

  def __init__(self, data: str = '', prompts: str = ''):
    super().__init__(data, prompts)
    self._pool: workers.Pool | None = None

  def problem(
    self, row: dict[str, Any], default_id: str, split: str
  ) -> records.Problem | None:
    """Returns the problem of a row; its answer is empty if it has none."""
    asked = 'problem' if 'problem' in row else 'question'
    row = {'id': default_id, 'problem': row.get(asked), **row}
    question, identity = rows.text(row, 'problem'), rows.text(row, 'id')
    solution = rows.optional(row, 'solution')
    answer = row.get('answer')
    if answer is None and 'boxed' in solution:
      answer = latex.extract(solution) if _filled(solution) else ''
    if not isinstance(answer, str):
      raise errors.InputError(
        'wanted a text in field "answer", or a \\boxed in field "solution"; '
        f'got {records.shorten(answer)}.'
      )
    stated = row.get('level', '')
    if not isinstance(stated, str | int | None) or isinstance(stated, bool):
      raise errors.InputError(
        'wanted a text or an integer in field "level"; got '
        f'{records.shorten(stated)}.'
      )
    level = _LEVEL.fullmatch(str(stated))
    return records.Problem(
      id=identity,
      task=self.name,
      question=question.strip(),
      answer=answer.strip(),
      solution=solution.strip(),
      level=level[1] if level else '',
      subject=rows.optional(row, 'subject' if 'subject' in row else 'type'),
    )

  def answer(self, text: str) -> str | None:
    return latex.extract(text)

  def ballot(self, answer: str) -> str:
    if len(answer) > _LONG:
      return answer
    plain = spelling.clean(answer)
    value = spelling.number(plain)
    return str(value) if value is not None else ''.join(plain.split())

  def equal(self, answer: str, reference: str) -> bool:
    """Returns whether two answers are equal; false where that is unknown."""
    return self._verdict('', reference, answer)[0] == 'right'

  def grade(
    self, problem: records.Problem, index: int, text: str
  ) -> records.Grade:
    answer = self.answer(text)
    return _grade(problem, index, *self._verdict(text, problem.answer, answer))

  def grade_many(
    self, rows: Iterable[tuple[records.Problem, int, str]]
  ) -> Iterator[records.Grade]:
    """Yields the grade of each (problem, index, text), in order.

    All is done by the workers, the search for the answer too.
    """
    waiting: collections.deque[tuple[records.Problem, int]] = (
      collections.deque()
    )

    def lines() -> Iterator[str]:
      for problem, index, text in rows:
        waiting.append((problem, index))
        yield self._line(text, problem.answer, None)

    for reply in self._workers().map(lines()):
      yield _grade(*waiting.popleft(), *_read(reply))

  def close(self) -> None:
    if self._pool is not None:
      self._pool.close()
      self._pool = None

  def chain(self, text: str) -> str:
    """Returns the text without the differences that are mere layout."""
    text = spelling.layout(_ASY.sub(' ', text))
    return ' '.join(text.lower().split())

  def prompt(self, question: str, shots: Sequence[base.Shot] = ()) -> str:
    """Returns the prompt text of one question behind the shots.

    Source: the layout of Minerva, Lewkowycz et al. 2022, arXiv:2206.14858,
    appendix D.
    """
    blocks = [
      f'Problem:\n{shot.question}\n\nSolution: {shot.target.strip()}'
      for shot in shots
    ]
    return '\n\n'.join([*blocks, f'Problem:\n{question}\n\nSolution:'])

  def _workers(self) -> workers.Pool:
    if self._pool is None:
      self._pool = workers.Pool(latex.WORKER)
    return self._pool

  def _line(self, text: str, reference: str, answer: str | None) -> str:
    return json.dumps([text, reference, answer, self.rounded])

  def _verdict(
    self, text: str, reference: str, answer: str | None
  ) -> tuple[str, str | None, str]:
    """Returns (verdict, answer, why), without a worker where that is safe."""
    if answer is None:
      return 'unparsed', None, 'no final answer found'
    near = spelling.rounded if self.rounded else None
    quick = latex.verdict(
      text, reference, answer, lambda a, b: latex.quick(a, b, near)
    )
    if quick[0] is not None:
      return quick
    verdict, _, why = _read(
      self._workers().one(self._line(text, reference, answer))
    )
    return verdict, answer, why


class Math500(Math):
  """The task `math500`: 500 of the test problems of MATH.

  In a folder its file is `math500.jsonl` or `test.jsonl`.

  Source: Lightman et al. 2023, arXiv:2305.20050, appendix C.
  """

  name = 'math500'
  splits = ('test',)
  hub = HUB_500

  def files(self, split: str) -> tuple[str, ...]:
    return ('math500.jsonl', f'{split}.jsonl')


def _filled(solution: str) -> bool:
  return not re.search(r'\\boxed\s*\{\s*\}', solution)


def _read(reply: workers.Reply) -> tuple[str, str | None, str]:
  if reply.status != 'done':
    return reply.status, None, reply.text
  verdict, answer, why = json.loads(reply.text)
  return verdict, answer, why


def _grade(
  problem: records.Problem,
  index: int,
  verdict: str,
  answer: str | None,
  why: str,
) -> records.Grade:
  return records.Grade(
    problem_id=problem.id,
    index=index,
    answer=answer,
    correct=records.VERDICTS[verdict],
    verdict=verdict,
    sound=None,
    why=why,
  )
