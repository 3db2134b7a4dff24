"""Graded samples as columns, made from rows that pass once.

No text is kept: texts, chains and answers become 64-bit hashes as they pass,
then numbers.  A million rows take about 60 bytes each.
"""

import array
import bisect
import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from wcse_jax import errors, records
from wcse_jax.metrics import diversity, entropy


VERDICTS = tuple(records.VERDICTS)
FINISHES = records.FINISH_REASONS
# Verdicts that say something about the sample; the others are counted, and left
# out of rates.
_KNOWN = np.array(
  [records.VERDICTS[verdict] is not None for verdict in VERDICTS]
)
_RIGHT = VERDICTS.index('right')
_NONE = -1
# A sample's key: its problem's position above its index.
_INDEX_BITS = 31
_MASK = 2**63 - 1
# Texts whose chain is remembered; model output repeats itself.
_REMEMBERED = 2**14


@dataclasses.dataclass(frozen=True, slots=True)
class Text:
  """A sample of which only the text is known.

  Attributes:
    problem_id: the problem that was asked.
    index: number of the sample among those of its problem, from 0.
    text: the text.
    finish_reason: not known.
    output_tokens: not known.
  """

  problem_id: str
  index: int
  text: str
  finish_reason: None = None
  output_tokens: None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
  """Graded samples as columns, one entry a grade row (letter M).

  Rows are in the order of problems, then of sample indices.

  Attributes:
    ids: the problems, in order.
    levels: the level of each problem.
    subjects: the subject of each problem.
    problem_M: position in `ids`.
    index_M: the sample's index within its problem.
    verdict_M: position in `records.VERDICTS`.
    judged_M: right, and the reasoning was judged.
    unsound_M: right and judged, but the reasoning is wrong.
    answer_M: number of the extracted answer, as a vote; -1 where there is none.
    text_M: number of the exact text, for right samples; -1 elsewhere.
    normal_M: number of the normalised text (`diversity.normalise`), for right
      samples; -1 elsewhere.
    chain_M: number of the chain, for right samples; -1 elsewhere.
    finish_M: position in `records.FINISH_REASONS`; -1 where it is not known.
    tokens_M: output tokens; -1 where they are not known.
    words: the words of right samples, for `entropy`.
    sampled: whether the samples are at hand, not the grades alone.
  """

  ids: tuple[str, ...]
  levels: tuple[str, ...]
  subjects: tuple[str, ...]
  problem_M: npt.NDArray[np.integer]
  index_M: npt.NDArray[np.integer]
  verdict_M: npt.NDArray[np.integer]
  judged_M: npt.NDArray[np.bool_]
  unsound_M: npt.NDArray[np.bool_]
  answer_M: npt.NDArray[np.integer]
  text_M: npt.NDArray[np.integer]
  normal_M: npt.NDArray[np.integer]
  chain_M: npt.NDArray[np.integer]
  finish_M: npt.NDArray[np.integer]
  tokens_M: npt.NDArray[np.integer]
  words: entropy.Words
  sampled: bool

  @classmethod
  def from_rows(
    cls,
    problems: Sequence[records.Problem],
    samples: Iterable[records.Sample | Text] | None,
    grades: Iterable[records.Grade],
    chain: Callable[[str], str] | None = None,
    ballot: Callable[[str], str] | None = None,
  ) -> 'Table':
    """Returns the table of the graded samples of `problems`.

    Rows of other problems are not taken, so that a table can be made of part
    of a folder.  Both iterables are read once, the grades first, in any order;
    no row is kept, so they may come from the shards of a folder one by one.

    Args:
      problems: what is measured; a problem without rows stays in.
      samples: the samples that were graded; None where only the grades are at
        hand, and then nothing that needs texts or lengths is measured.
      grades: one row a sample.
      chain: text -> what makes two right solutions differ; None: the text.
      ballot: answer -> what it is as a vote; None: itself.

    Raises:
      InputError: if a problem, sample or grade comes twice, or if a sample or
        a grade lacks the other.
    """
    where = {problem.id: at for at, problem in enumerate(problems)}
    if len(where) != len(problems):
      raise errors.InputError('problems: wanted different ids; some are equal.')
    graded = _Grades(where, grades, ballot or str)
    drawn = _Samples(where, samples or (), graded, chain)
    if samples is not None:
      drawn.check(problems)
    return cls(
      tuple(problem.id for problem in problems),
      tuple(problem.level for problem in problems),
      tuple(problem.subject for problem in problems),
      *graded.columns(),
      *drawn.columns(),
      sampled=samples is not None,
    )

  def restrict(self, first_index: int, count: int) -> 'Table':
    """Returns the table of sample indices first_index to first_index+count-1.

    So the samples of one folder serve several budgets.
    """
    kept_M = (self.index_M >= first_index) & (
      self.index_M < first_index + count
    )
    return self._of_rows(kept_M)

  def of_problems(self, kept_Q: npt.NDArray[np.bool_]) -> 'Table':
    """Returns the table of some of the problems, with all their rows."""
    found = self._of_rows(kept_Q[self.problem_M])
    position_Q = (np.cumsum(kept_Q) - 1).astype(self.problem_M.dtype)
    return dataclasses.replace(
      found,
      problem_M=position_Q[found.problem_M],
      **{
        name: tuple(
          value for value, kept in zip(getattr(self, name), kept_Q) if kept
        )
        for name in ('ids', 'levels', 'subjects')
      },
    )

  def _of_rows(self, kept_M: npt.NDArray[np.bool_]) -> 'Table':
    return dataclasses.replace(
      self,
      words=self.words.take(kept_M),
      **{
        field.name: getattr(self, field.name)[kept_M]
        for field in dataclasses.fields(self)
        if field.name.endswith('_M')
      },
    )

  @functools.cached_property
  def rows_Q(self) -> npt.NDArray[np.int64]:
    """Rows of each problem, whatever their verdict."""
    return np.bincount(self.problem_M, minlength=len(self.ids))

  @functools.cached_property
  def graded_M(self) -> npt.NDArray[np.bool_]:
    """True where the verdict says something about the sample."""
    return _KNOWN[self.verdict_M]

  @functools.cached_property
  def right_M(self) -> npt.NDArray[np.bool_]:
    """True where the final answer is right."""
    return self.verdict_M == _RIGHT

  @functools.cached_property
  def n_Q(self) -> npt.NDArray[np.int64]:
    """Graded samples of each problem."""
    return self.count(self.graded_M)

  @functools.cached_property
  def right_Q(self) -> npt.NDArray[np.int64]:
    """Right samples of each problem."""
    return self.count(self.right_M)

  @functools.cached_property
  def judged_Q(self) -> npt.NDArray[np.int64]:
    """Right samples of each problem whose reasoning was judged."""
    return self.count(self.judged_M)

  @functools.cached_property
  def unsound_Q(self) -> npt.NDArray[np.int64]:
    """Right samples of each problem whose reasoning was found wrong."""
    return self.count(self.unsound_M)

  def count(self, mask_M: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Returns how many rows of each problem are true."""
    return np.bincount(self.problem_M[mask_M], minlength=len(self.ids))


class _Grades:
  """The grade rows as sorted columns."""

  def __init__(
    self,
    where: dict[str, int],
    rows: Iterable[records.Grade],
    ballot: Callable[[str], str],
  ):
    # Answers repeat themselves.
    vote = functools.lru_cache(_REMEMBERED)(lambda one: hashed(ballot(one)))
    keys, answers = array.array('q'), array.array('q')
    verdicts, sounds = array.array('b'), array.array('b')
    for row in rows:
      if row.problem_id in where:
        keys.append(_key(where, row, 'grades'))
        verdicts.append(VERDICTS.index(row.verdict))
        # None, False, True as -1, 0, 1.
        sounds.append(_NONE if row.sound is None else row.sound)
        answers.append(_NONE if row.answer is None else vote(row.answer))
    order = np.argsort(np.frombuffer(keys, np.int64), kind='stable')
    self.keys = np.frombuffer(keys, np.int64)[order]
    self.verdict = np.frombuffer(verdicts, np.int8)[order]
    self._sound = np.frombuffer(sounds, np.int8)[order]
    self._answer = np.frombuffer(answers, np.int64)[order]
    twice = np.flatnonzero(self.keys[1:] == self.keys[:-1])
    if twice.size:
      ids = list(where)
      key = int(self.keys[twice[0]])
      raise _double('grades', ids[key >> _INDEX_BITS], _index(key))

  def columns(self) -> Iterator[npt.NDArray]:
    """Yields problem_M to answer_M."""
    right = self.verdict == _RIGHT
    yield (self.keys >> _INDEX_BITS).astype(np.int32)
    yield _index(self.keys).astype(np.int32)
    yield self.verdict
    yield right & (self._sound != _NONE)
    yield right & (self._sound == 0)
    yield _numbered(self._answer)


class _Samples:
  """What is kept of the samples, in the order of the grades."""

  def __init__(
    self,
    where: dict[str, int],
    rows: Iterable[records.Sample | Text],
    grades: _Grades,
    chain: Callable[[str], str] | None,
  ):
    self._grades = grades
    size = grades.keys.size
    self._finish = np.full(size, _NONE, np.int8)
    self._tokens = np.full(size, _NONE, np.int64)
    self._drawn = np.zeros(size, bool)
    self._hashes = {
      name: np.full(size, _NONE, np.int64)
      for name in ('text', 'normal', 'chain')
    }
    self._words = entropy.Collector()
    self._ungraded = array.array('q')
    # An array, not a numpy one: bisect takes its items ten times as fast.
    keys = array.array('q', grades.keys.tobytes())
    chains: dict[int, tuple[int, int]] = {}
    for row in rows:
      if row.problem_id not in where:
        continue
      key = _key(where, row, 'samples')
      at = bisect.bisect_left(keys, key)
      if at == size or keys[at] != key:
        self._ungraded.append(key)
        continue
      if self._drawn[at]:
        raise _double('samples', row.problem_id, row.index)
      self._drawn[at] = True
      if row.finish_reason is not None:
        self._finish[at] = FINISHES.index(row.finish_reason)
        self._tokens[at] = row.output_tokens
      if grades.verdict[at] != _RIGHT:
        continue
      text = hashed(row.text)
      if text not in chains:
        if len(chains) == _REMEMBERED:
          chains.clear()
        # Equal texts have equal chains, which are dear.
        chains[text] = (
          hashed(diversity.normalise(row.text)),
          hashed(chain(row.text)) if chain else text,
        )
      self._hashes['text'][at] = text
      self._hashes['normal'][at], self._hashes['chain'][at] = chains[text]
      self._words.add(at, key, row.text)

  def check(self, problems: Sequence[records.Problem]) -> None:
    """Raises InputError if a sample or a grade lacks the other."""
    undrawn = self._grades.keys[~self._drawn]
    for name, missing in (('grades', self._ungraded), ('samples', undrawn)):
      if len(missing):
        key = int(min(missing))
        raise errors.InputError(
          f'{name}: wanted a row for each sample; {len(missing)} are missing, '
          f'the first of problem {problems[key >> _INDEX_BITS].id}, index '
          f'{_index(key)}.'
        )

  def columns(self) -> Iterator[npt.NDArray | entropy.Words]:
    """Yields text_M to words."""
    for name in ('text', 'normal', 'chain'):
      yield _numbered(self._hashes.pop(name))
    yield self._finish
    yield self._tokens
    yield self._words.words(self._grades.keys.size)


def hashed(text: str) -> int:
  """Returns 63 bits of a text's hash, which tell a million apart.

  Two of a million different texts are equal in one run of 2e7.
  """
  data = hashlib.blake2b(text.encode('utf-8', 'surrogatepass'), digest_size=8)
  return int.from_bytes(data.digest(), 'little') & _MASK


def _key(where: dict[str, int], row, name: str) -> int:
  if row.index >> _INDEX_BITS:
    raise errors.InputError(
      f'{name}: wanted indices under 2**{_INDEX_BITS}; problem '
      f'{row.problem_id} has {records.shorten(row.index)}.'
    )
  return where[row.problem_id] << _INDEX_BITS | row.index


def _index(key):
  return key & (2**_INDEX_BITS - 1)


def _numbered(hash_M: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
  """Returns small numbers for the different hashes; -1 stays."""
  number_M = np.full(hash_M.size, _NONE, np.int32)
  held_M = hash_M != _NONE
  number_M[held_M] = np.unique(hash_M[held_M], return_inverse=True)[1]
  return number_M


def _double(name: str, problem_id: str, index: int) -> errors.InputError:
  return errors.InputError(
    f'{name}: wanted one row a sample; problem {problem_id}, index {index} has '
    'two.'
  )
