r"""MATH: competition problems with an answer in LaTeX."""

import collections
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from absl import logging

from wcse_jax import errors, records, storage
from wcse_jax.grading import latex, spelling, workers
from wcse_jax.tasks import base


# Both shown in public evaluation code, as that of lm-evaluation-harness (name)
# and of many experiment records (name and revision).
HUB = 'EleutherAI/hendrycks_math'
REVISION = '21a5633873b6a120296cce3e2df9d5550074f4a3'
_SUBJECTS = (
  'algebra',
  'counting_and_probability',
  'geometry',
  'intermediate_algebra',
  'number_theory',
  'prealgebra',
  'precalculus',
)
HUB_500 = 'HuggingFaceH4/MATH-500'
# Shown at huggingface.co/datasets/HuggingFaceH4/MATH-500/tree/<this>.
REVISION_500 = 'ff5b20257d8185524591543f8ff5993951537bb8'
_LEVEL = re.compile(r'(?:Level\s*)?([1-9]\d?)')
_ASY = re.compile(r'\[asy\].*?\[/asy\]', re.DOTALL)


class Math(base.Task):
  r"""The task `math`.

  `data` is a folder with `train.jsonl` and `test.jsonl`, a file that serves
  whichever split is asked for, or empty: then the set comes from the Hugging
  Face hub, by way of the package `datasets`, at `revision` (empty: newest).

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
  revision = REVISION
  # Whether decimals may be rounded ones.
  rounded = False

  def __init__(self, data: str = '', prompts: str = ''):
    super().__init__(data, prompts)
    self._pool: workers.Pool | None = None
    # By split: the ids of the rows that were left out.
    self.without_answer: dict[str, list[str]] = {}

  def problems(self, split: str) -> list[records.Problem]:
    if split not in self.splits:
      raise errors.InputError(
        f'split: wanted one of {", ".join(self.splits)} for task {self.name}; '
        f'got {split!r}.'
      )
    found: dict[str, records.Problem] = {}
    empty = []
    for position, (where, row) in enumerate(self._rows(split)):
      problem = self._problem(row, f'{self.name}/{split}/{position}', where)
      if problem.id in found:
        raise errors.InputError(
          f'{where}: wanted each id once; {problem.id!r} comes twice.'
        )
      if not problem.answer:
        empty.append(problem.id)
        continue
      found[problem.id] = problem
    self.without_answer[split] = empty
    if empty:
      logging.warning(
        '%s: left out %d of %d problems, which have no answer: %s',
        self.name,
        len(empty),
        len(empty) + len(found),
        ', '.join(empty[:5]) + (', ...' if len(empty) > 5 else ''),
      )
    return list(found.values())

  def answer(self, text: str) -> str | None:
    return latex.extract(text)

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
      self._workers().one(self._line('', reference, answer))
    )
    return verdict, answer, why

  def _rows(self, split: str) -> list[tuple[str, Any]]:
    """Returns (what an error calls the row, row) of a split."""
    if not self.data:
      return self._hub_rows(split)
    path = self.data
    if storage.is_folder(path):
      path = storage.join(path, self._file(split))
    found = []
    # Not splitlines(): U+2028 is no line end in JSON.
    for number, line in enumerate(storage.read_text(path).split('\n'), 1):
      if line.strip():
        where = f'{path}: row {number}'
        found.append((where, records.parse_object(line, where)))
    if not found:
      raise errors.InputError(
        f'{path}: wanted rows of {self.name}; it is empty.'
      )
    return found

  def _file(self, split: str) -> str:
    """Returns the name of the file of a split, in a folder."""
    return f'{split}.jsonl'

  def _hub_rows(self, split: str) -> list[tuple[str, Any]]:
    return [
      (f'{HUB}: {subject} row {number}', row)
      for subject in _SUBJECTS
      for number, row in enumerate(self._hub(HUB, subject, split), 1)
    ]

  def _hub(self, name: str, config: str | None, split: str) -> Iterable[Any]:
    try:
      import datasets
    except ImportError:
      raise errors.InputError(
        f'data: wanted a folder or file of {self.name}; it is empty, and the '
        'package `datasets` that would fetch the set from the hub is not '
        'installed.'
      ) from None
    return datasets.load_dataset(
      name, config, split=split, revision=self.revision or None
    )

  def _problem(
    self, row: dict[str, Any], default_id: str, where: str
  ) -> records.Problem:
    """Returns the problem of a row; its answer is empty if it has none."""
    if not isinstance(row, dict):
      raise errors.InputError(
        f'{where}: wanted an object; got {type(row).__name__}.'
      )
    question = row.get('problem', row.get('question'))
    solution = row.get('solution') or ''
    answer = row.get('answer')
    identity = row.get('id', default_id)
    for field, value in (
      ('problem', question),
      ('id', identity),
    ):
      if not isinstance(value, str) or not value.strip():
        raise errors.InputError(
          f'{where}: wanted a text in field "{field}"; got '
          f'{records.shorten(value)}.'
        )
    if not isinstance(solution, str):
      raise errors.InputError(
        f'{where}: wanted a text in field "solution"; got '
        f'{records.shorten(solution)}.'
      )
    if answer is None and 'boxed' in solution:
      answer = latex.extract(solution) if _filled(solution) else ''
    if not isinstance(answer, str):
      raise errors.InputError(
        f'{where}: wanted a text in field "answer", or a \\boxed in field '
        f'"solution"; got {records.shorten(answer)}.'
      )
    level = _LEVEL.fullmatch(str(row.get('level') or ''))
    subject = row.get('subject', row.get('type'))
    return records.Problem(
      id=identity,
      task=self.name,
      question=question.strip(),
      answer=answer.strip(),
      solution=solution.strip(),
      level=level[1] if level else '',
      subject=subject if isinstance(subject, str) else '',
    )


class Math500(Math):
  """The task `math500`: 500 of the test problems of MATH.

  `data` is a folder with `math500.jsonl` or `test.jsonl`, a file, or empty for
  the hub.

  Source: Lightman et al. 2023, arXiv:2305.20050, appendix C.
  """

  name = 'math500'
  splits = ('test',)
  revision = REVISION_500

  def _file(self, split: str) -> str:
    path = storage.join(self.data, 'math500.jsonl')
    return 'math500.jsonl' if storage.exists(path) else f'{split}.jsonl'

  def _hub_rows(self, split: str) -> list[tuple[str, Any]]:
    return [
      (f'{HUB_500}: row {number}', row)
      for number, row in enumerate(self._hub(HUB_500, None, split), 1)
    ]


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
