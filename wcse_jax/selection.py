"""Which graded samples become training data."""

import collections
import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from wcse_jax import errors, records


# In the order in which they are used.
RULES = ('right', 'sound', 'distinct', 'per_problem')
VERIFIERS = ('reference', 'majority')


class Row(NamedTuple):
  """A sample with its problem and its grade, and the model that drew it."""

  problem: records.Problem
  sample: records.Sample | records.Drawn
  grade: records.Grade
  source: str = ''


@dataclasses.dataclass(kw_only=True)
class Selection:
  """Rules, used in the order of the fields; each sees what the last one left.

  Attributes:
    right: only samples that the verifier takes for right.  Without it every
      verdict is kept, also timeout and error.
    verifier: `reference` goes by the verdict; `majority` knows no reference: it
      takes the samples that have the most frequent answer of their problem
      among the rows given (of equally frequent ones that of the lowest index).
    share: of a problem's rows that the most frequent answer must have at least,
      for the verifier `majority`.
    sound: only samples whose reasoning is sound.  Where that is not known
      (`sound` is None) `unjudged` decides.
    unjudged: whether the rule `sound` keeps samples whose reasoning was not
      judged.  By default they go: unknown is not sound.
    distinct: of the samples of a problem with one chain only the first.
    per_problem: at most so many samples of a problem; 1: one per problem, 0: no
      cap.
    seed: what comes first, for `distinct` and `per_problem`: None for the
      lowest sample index; a number for an order drawn by it, the same whatever
      other samples there are.
  """

  right: bool = True
  verifier: str = 'reference'
  share: float = 0.0
  sound: bool = False
  unjudged: bool = False
  distinct: bool = False
  per_problem: int = 0
  seed: int | None = None

  def validate(self) -> None:
    """Raises InputError for the first field that is out of range."""
    for name in ('right', 'sound', 'unjudged', 'distinct'):
      if not isinstance(getattr(self, name), bool):
        raise errors.InputError(
          f'{name}: wanted true or false; got {getattr(self, name)!r}.'
        )
    if self.verifier not in VERIFIERS:
      raise errors.InputError(
        f'verifier: wanted one of {", ".join(VERIFIERS)}; got '
        f'{self.verifier!r}.'
      )
    if not 0 <= self.share <= 1:
      raise errors.InputError(
        f'share: wanted a number from 0 to 1; got {self.share!r}.'
      )
    if type(self.per_problem) is not int or self.per_problem < 0:
      raise errors.InputError(
        f'per_problem: wanted a count >= 0; got {self.per_problem!r}.'
      )
    if self.seed is not None and type(self.seed) is not int:
      raise errors.InputError(
        f'seed: wanted an integer or None; got {self.seed!r}.'
      )


def select(
  rows: Iterable[Row],
  rules: Selection,
  chain: Callable[[str], str] | None = None,
  ballot: Callable[[str], str] | None = None,
) -> tuple[list[Row], dict[str, int]]:
  """Returns the chosen rows by problem, sample index and source, and counts.

  Args:
    rows: samples with their problems and grades, in any order: the choice does
      not depend on it.
    rules: which to take.
    chain: text -> what makes two solutions differ, as `tasks.base.Task.chain`;
      None: the text but for white space.
    ballot: answer -> what it is as a vote, as `tasks.base.Task.ballot`; None:
      itself.

  Returns:
    The rows, and what became of all: `rows` given, those dropped by each rule
    (`right`, `sound`, `distinct`, `per_problem`), and `chosen`; these add up.
    Beside them `unjudged`, how many rows without a judgement the rule `sound`
    met, `problems`, how many have a row, `problems_chosen`, and of the chosen
    rows `chosen_right`, those whose verdict is right, and `chosen_known`, those
    whose verdict says something: what the verifier is worth.

  Raises:
    InputError: if a rule is out of range, or a sample comes twice.
  """
  rules.validate()
  rows = sorted(rows, key=_key)
  for last, row in itertools.pairwise(rows):
    if _key(last) == _key(row):
      raise errors.InputError(
        f'rows: wanted each sample once; problem {row.sample.problem_id}, '
        f'index {row.sample.index} comes twice.'
      )
  counts = {'rows': len(rows)}
  left = rows
  counts['unjudged'] = 0
  if rules.right:
    if rules.verifier == 'majority':
      left = _agreeing(left, rules.share, ballot)
    else:
      left = [row for row in left if row.grade.verdict == 'right']
  counts['right'] = len(rows) - len(left)
  before = len(left)
  if rules.sound:
    counts['unjudged'] = sum(row.grade.sound is None for row in left)
    left = [
      row
      for row in left
      if row.grade.sound or (row.grade.sound is None and rules.unjudged)
    ]
  counts['sound'] = before - len(left)
  if rules.seed is not None:
    left = sorted(left, key=lambda row: _drawn(row, rules.seed))
  before = len(left)
  if rules.distinct:
    # Equal texts have equal chains, which are the dearer of the two.
    chains = {
      text: chain(text) if chain else ' '.join(text.split())
      for text in {row.sample.text for row in left}
    }
    first: dict[tuple[str, str], Row] = {}
    for row in left:
      key = row.sample.problem_id, chains[row.sample.text]
      first.setdefault(key, row)
    left = list(first.values())
  counts['distinct'] = before - len(left)
  before = len(left)
  if rules.per_problem:
    taken: collections.Counter[str] = collections.Counter()
    capped = []
    for row in left:
      taken[row.sample.problem_id] += 1
      if taken[row.sample.problem_id] <= rules.per_problem:
        capped.append(row)
    left = capped
  counts['per_problem'] = before - len(left)
  counts['chosen'] = len(left)
  counts['problems'] = len({row.sample.problem_id for row in rows})
  counts['problems_chosen'] = len({row.sample.problem_id for row in left})
  counts['chosen_right'] = sum(row.grade.verdict == 'right' for row in left)
  counts['chosen_known'] = sum(row.grade.correct is not None for row in left)
  return sorted(left, key=_key), counts


def _agreeing(
  rows: Sequence[Row], share: float, ballot: Callable[[str], str] | None
) -> list[Row]:
  """Returns the rows that have the majority answer of their problem."""
  votes: dict[str, collections.Counter[str]] = {}
  cast = []
  size: collections.Counter[str] = collections.Counter()
  for row in rows:
    problem_id, answer = row.sample.problem_id, row.grade.answer
    size[problem_id] += 1
    vote = ballot(answer) if ballot and answer is not None else answer
    cast.append(vote)
    if vote is not None:
      votes.setdefault(problem_id, collections.Counter())[vote] += 1
  # Of equal counts the vote that came first, which has the lowest index.
  winners = {
    problem_id: winner
    for problem_id, counted in votes.items()
    for winner, count in counted.most_common(1)
    if count >= share * size[problem_id]
  }
  return [
    row
    for row, vote in zip(rows, cast)
    if vote is not None and winners.get(row.sample.problem_id) == vote
  ]


def _key(row: Row) -> tuple[str, int, str]:
  return row.sample.problem_id, row.sample.index, row.source


def _drawn(row: Row, seed: int) -> bytes:
  """Returns where a row stands in the order that a seed draws."""
  text = f'{seed}\n{row.sample.index}\n{row.sample.problem_id}'
  if row.source:
    text = f'{text}\n{row.source}'
  return hashlib.sha256(text.encode('utf-8', 'surrogatepass')).digest()
