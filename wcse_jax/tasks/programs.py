"""What `mbpp` and `humaneval` share: programs, judged by running tests."""

import collections
from collections.abc import Iterable, Iterator

from wcse_jax import records
from wcse_jax.grading import program, source
from wcse_jax.tasks import sets


class Programs(sets.SetTask):
  """A task whose answers are programs in Python.

  A sample's answer is its program.  Grading takes bubblewrap: without it an
  InputError says what to install.
  """

  instruction = (
    'Answer with the whole program in one block of code that begins with '
    '```python and ends with ```.'
  )

  def __init__(self, data: str = '', prompts: str = ''):
    super().__init__(data, prompts)
    self._pool: program.Pool | None = None

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
