"""Texts of which it is known whether a judge must accept them.

They are mixed into every run, in the form of samples, so that what a judge's
verdicts are worth is measured where they are used:

- `reference`: a reference solution; sound.
- `planted`: a reference solution with one number changed behind an equals sign,
  while the final answer stays; unsound.
- `hollow`: an opening without substance, then the right answer; unsound.  Such
  texts alone fool many judges.

Source: Zhao et al. 2025, arXiv:2507.08794 (hollow texts that fool judges).
"""

import dataclasses
import hashlib
import hmac
import math
import random
import re
from collections.abc import Callable, Iterator, Sequence

from wcse_jax import records


# Kind -> whether the reasoning of such a text is sound.
KINDS = {'reference': True, 'planted': False, 'hollow': False}
# Canaries of a run at least, however few samples are judged.
LEAST = 6

_OPENERS = (
  ':',
  '.',
  'Thought process:',
  "Let's solve this problem step by step.",
  'Solution',
  'Reasoning: as follows.',
  'We work it out and check it twice.',
  'This is easy.',
)
# Problems that are tried for one canary.
_TRIES = 50
# A number behind an equals sign, as in `2*3=6`, `x = $1,200` and `&=1.5`; no
# part of a longer number.
_RESULT = re.compile(
  r'=\s*(?:\\?\$)?\s*(\d+(?:,\d{3})*(?:\.\d+)?)(?![\d,.]*\d)'
)

# The grade of a text as sample of a problem, as `tasks.base.Task.grade` does.
Grader = Callable[[records.Problem, int, str], records.Grade]


@dataclasses.dataclass(frozen=True)
class Canary:
  """A text with a known verdict.

  Attributes:
    number: which of the run's canaries.
    kind: one of `KINDS`.
    problem: what it is a solution of.
    text: the text.
  """

  number: int
  kind: str
  problem: records.Problem
  text: str


def count(judged: int, share: float) -> int:
  """Returns the canaries among so many judged samples."""
  if not judged:
    return 0
  # Rounded first: 0.1 * 30 is a little more than 3.
  return max(LEAST, math.ceil(round(share * judged, 6)))


class Maker:
  """Makes the canaries of a run, each fixed by the salt and its number."""

  def __init__(
    self, problems: Sequence[records.Problem], grade: Grader, salt: str
  ):
    """Takes the problems of a split, not only those with samples.

    Args:
      problems: at least one.
      grade: must find the final answer of a canary right; what it says of
        soundness must not contradict.
      salt: of the run.
    """
    if not problems:
      raise ValueError('problems: wanted at least one; got none.')
    self._salt = salt
    self._grade = grade
    self._problems = sorted(problems, key=lambda p: self._digest(p.id))
    self._solved = [p for p in self._problems if p.solution.strip()]
    self._kinds = tuple(KINDS) if self._solved else ('hollow',)

  def make(self, number: int) -> Canary:
    """Returns a canary; a hollow one where no other kind can be made."""
    kind = self._kinds[number % len(self._kinds)]
    turn = number // len(self._kinds)
    if kind != 'hollow':
      for problem in self._candidates(kind, turn):
        rng = random.Random(self._digest(f'{kind} {number} {problem.id}'))
        text = problem.solution if kind == 'reference' else plant(problem, rng)
        if text is not None and self._fits(problem, kind, text):
          return Canary(number, kind, problem, text)
    problem = self._problems[-1 - turn % len(self._problems)]
    rng = random.Random(self._digest(f'hollow {number} {problem.id}'))
    return Canary(number, 'hollow', problem, hollow(problem, rng))

  def _candidates(self, kind: str, turn: int) -> Iterator[records.Problem]:
    """Yields problems to make a canary of: each turn its own, then others."""
    size = len(self._solved)
    first = turn if kind == 'reference' else turn + size // 2
    for attempt in range(min(_TRIES, size)):
      yield self._solved[(first + attempt * (size // _TRIES + 1)) % size]

  def _fits(self, problem: records.Problem, kind: str, text: str) -> bool:
    grade = self._grade(problem, 0, text)
    return grade.verdict == 'right' and grade.sound is not (not KINDS[kind])

  def _digest(self, text: str) -> str:
    data = f'canary\n{text}'.encode('utf-8', 'surrogatepass')
    return hmac.new(self._salt.encode(), data, hashlib.sha256).hexdigest()


def plant(problem: records.Problem, rng: random.Random) -> str | None:
  """Returns the reference solution with one result changed.

  What follows goes on with the old number, so the text contradicts itself.
  None where no number stands behind an equals sign.
  """
  text = problem.solution
  found = list(_RESULT.finditer(text))
  if not found:
    return None
  start, end = rng.choice(found).span(1)
  number = text[start:end]
  digits = [i for i, c in enumerate(number) if c.isdigit()]
  place = rng.choice(digits)
  # A first digit of 0 would give the change away.
  known = '123456789' if place == digits[0] else '0123456789'
  other = rng.choice([c for c in known if c != number[place]])
  changed = number[:place] + other + number[place + 1 :]
  return text[:start] + changed + text[end:]


def hollow(problem: records.Problem, rng: random.Random) -> str:
  """Returns a text without reasoning that states the right answer.

  The answer is stated in words that every task's grader reads.
  """
  answer = problem.answer
  if r'\boxed' in problem.solution:
    answer = rf'$\boxed{{{answer}}}$'
  return f'{rng.choice(_OPENERS)}\nThe answer is {answer}.'
