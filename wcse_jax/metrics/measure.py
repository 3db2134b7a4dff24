"""All measures of one model's samples on one task, from graded rows."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from wcse_jax import errors, records
from wcse_jax.metrics import coverage, diversity, intervals


_VERDICTS = tuple(records.VERDICTS)
# Verdicts that say something about the sample; the others are counted, and left
# out of rates.
_KNOWN = [records.VERDICTS[verdict] is not None for verdict in _VERDICTS]
_FINISHES = records.FINISH_REASONS
_NONE = -1


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
  """Graded samples as columns, one entry a grade row (letter M).

  Attributes:
    ids: the problems, in order.
    levels: the level of each problem.
    problem_M: position in `ids`.
    index_M: the sample's index within its problem.
    verdict_M: position in `records.VERDICTS`.
    judged_M: right, and the reasoning was judged.
    unsound_M: right and judged, but the reasoning is wrong.
    text_M: number of the exact text, for right samples; -1 elsewhere.
    chain_M: number of the chain, for right samples; -1 elsewhere.
    finish_M: position in `records.FINISH_REASONS`; -1 where the sample is not
      at hand.
    tokens_M: output tokens; -1 where the sample is not at hand.
    sampled: whether the samples are at hand, not the grades alone.
  """

  ids: tuple[str, ...]
  levels: tuple[str, ...]
  problem_M: npt.NDArray[np.int64]
  index_M: npt.NDArray[np.int64]
  verdict_M: npt.NDArray[np.int64]
  judged_M: npt.NDArray[np.bool_]
  unsound_M: npt.NDArray[np.bool_]
  text_M: npt.NDArray[np.int64]
  chain_M: npt.NDArray[np.int64]
  finish_M: npt.NDArray[np.int64]
  tokens_M: npt.NDArray[np.int64]
  sampled: bool

  @classmethod
  def from_rows(
    cls,
    problems: Sequence[records.Problem],
    samples: Iterable[records.Sample] | None,
    grades: Iterable[records.Grade],
    chain: Callable[[str], str] | None = None,
  ) -> 'Table':
    """Returns the table of the graded samples of `problems`.

    Rows of other problems are not taken, so that a table can be made of part
    of a folder.

    Args:
      problems: what is measured; a problem without rows stays in.
      samples: the samples that were graded; None where only the grades are at
        hand, and then nothing that needs texts or lengths is measured.
      grades: one row a sample.
      chain: text -> what makes two right solutions differ; None: the text.

    Raises:
      InputError: if a problem, sample or grade comes twice, or if a sample or
        a grade lacks the other.
    """
    where = {problem.id: at for at, problem in enumerate(problems)}
    if len(where) != len(problems):
      raise errors.InputError('problems: wanted different ids; some are equal.')
    drawn = None if samples is None else _by_key(samples, where, 'samples')
    graded = _by_key(grades, where, 'grades')
    if drawn is not None:
      for name, missing in (
        ('grades', drawn.keys() - graded.keys()),
        ('samples', graded.keys() - drawn.keys()),
      ):
        if missing:
          problem_id, index = min(missing)
          raise errors.InputError(
            f'{name}: wanted a row for each sample; {len(missing)} are '
            f'missing, the first of problem {problem_id}, index {index}.'
          )
    texts: dict[str, int] = {}
    chains: dict[str, int] = {}
    # Equal texts have equal chains, which are the dearer of the two.
    chain_of_text: list[int] = []
    columns = []
    for key in sorted(graded, key=lambda key: (where[key[0]], key[1])):
      grade = graded[key]
      right = grade.verdict == 'right'
      text = link = finish = tokens = _NONE
      if drawn is not None:
        sample = drawn[key]
        finish = _FINISHES.index(sample.finish_reason)
        tokens = sample.output_tokens
        if right:
          text = texts.setdefault(sample.text, len(texts))
          if text == len(chain_of_text):
            name = chain(sample.text) if chain else sample.text
            chain_of_text.append(chains.setdefault(name, len(chains)))
          link = chain_of_text[text]
      columns.append(
        (
          where[key[0]],
          key[1],
          _VERDICTS.index(grade.verdict),
          right and grade.sound is not None,
          right and grade.sound is False,
          text,
          link,
          finish,
          tokens,
        )
      )
    matrix = np.array(columns, np.int64).reshape(-1, 9).T
    return cls(
      tuple(problem.id for problem in problems),
      tuple(problem.level for problem in problems),
      *matrix[:3],
      matrix[3] > 0,
      matrix[4] > 0,
      *matrix[5:],
      sampled=drawn is not None,
    )

  def restrict(self, first_index: int, count: int) -> 'Table':
    """Returns the table of sample indices first_index to first_index+count-1.

    So the samples of one folder serve several budgets.
    """
    kept = (self.index_M >= first_index) & (self.index_M < first_index + count)
    return dataclasses.replace(
      self,
      **{
        field.name: getattr(self, field.name)[kept]
        for field in dataclasses.fields(self)
        if field.name.endswith('_M')
      },
    )

  @functools.cached_property
  def graded_M(self) -> npt.NDArray[np.bool_]:
    """True where the verdict says something about the sample."""
    return np.array(_KNOWN)[self.verdict_M]

  @functools.cached_property
  def right_M(self) -> npt.NDArray[np.bool_]:
    """True where the final answer is right."""
    return self.verdict_M == _VERDICTS.index('right')

  @functools.cached_property
  def n_Q(self) -> npt.NDArray[np.int64]:
    """Graded samples of each problem."""
    return self._count(self.graded_M)

  @functools.cached_property
  def right_Q(self) -> npt.NDArray[np.int64]:
    """Right samples of each problem."""
    return self._count(self.right_M)

  @functools.cached_property
  def judged_Q(self) -> npt.NDArray[np.int64]:
    """Right samples of each problem whose reasoning was judged."""
    return self._count(self.judged_M)

  @functools.cached_property
  def unsound_Q(self) -> npt.NDArray[np.int64]:
    """Right samples of each problem whose reasoning was found wrong."""
    return self._count(self.unsound_M)

  def _count(self, mask_M: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    return np.bincount(self.problem_M[mask_M], minlength=len(self.ids))


def measure(
  table: Table,
  ks: Sequence[int],
  *,
  draws: int = intervals.DRAWS,
  seed: int = 0,
) -> dict[str, Any]:
  """Returns every measure of a table, ready for JSON.

  Denominators, all over problems, with n the number of problems that are in:

  - `coverage`: mean over the problems with at least k graded samples.
  - `diversity`: distinct exact texts of right samples, per *solved* problem
    (sum over problems over sum of coverage), as the paper has it.
  - `distinct_chains`: distinct chains of right samples, mean over *all* the
    problems with at least k graded samples.
  - `false_positive_rate`: of the right samples that were judged (`samples` of
    them), the share whose reasoning is wrong; n counts the problems they are
    of.

  `diversity` and `distinct_chains` are empty, and `mean_output_tokens` is None,
  where the table was made of grades alone.

  Args:
    table: the graded samples.
    ks: the numbers of samples drawn; a k that no problem has enough samples
      for gets n = 0.
    draws: number of bootstrap resamples.
    seed: of the resampling.
  """
  options = {'draws': draws, 'seed': seed}
  verdicts = np.bincount(table.verdict_M, minlength=len(_VERDICTS))
  finish = np.bincount(
    table.finish_M[table.finish_M >= 0], minlength=len(_FINISHES)
  )
  samples = table.verdict_M.size
  return {
    'problems': len(table.ids),
    'samples': samples,
    'graded': int(table.n_Q.sum()),
    'right': int(table.right_Q.sum()),
    'verdicts': dict(zip(_VERDICTS, verdicts.tolist())),
    'finish': dict(zip(_FINISHES, finish.tolist())),
    'mean_output_tokens': (
      float(table.tokens_M.mean()) if table.sampled and samples else None
    ),
    **_curves(table, ks, options),
    'false_positive_rate': _false_positives(
      table, np.ones(len(table.ids), bool), options
    ),
    'by_level': [
      {
        'level': level,
        'problems': int(mask_Q.sum()),
        'coverage': _coverage(table, ks, mask_Q, options),
        'false_positive_rate': _false_positives(table, mask_Q, options),
      }
      for level, mask_Q in _levels(table)
    ],
  }


def _by_key(
  rows: Iterable[Any], where: dict[str, int], name: str
) -> dict[tuple[str, int], Any]:
  found: dict[tuple[str, int], Any] = {}
  for row in rows:
    if row.problem_id not in where:
      continue
    key = (row.problem_id, row.index)
    if key in found:
      raise errors.InputError(
        f'{name}: wanted one row a sample; problem {row.problem_id}, index '
        f'{row.index} has two.'
      )
    found[key] = row
  return found


def _curves(
  table: Table, ks: Sequence[int], options: dict[str, int]
) -> dict[str, list[dict[str, Any]]]:
  """Returns the three curves over k, each k on the problems that have k."""
  curves: dict[str, list[dict[str, Any]]] = {
    'coverage': [],
    'diversity': [],
    'distinct_chains': [],
  }
  keys = {name: _keys(table, name) for name in ('text_M', 'chain_M')}
  for group, mask_Q in _groups(ks, table.n_Q):
    n_Q, right_Q = table.n_Q[mask_Q], table.right_Q[mask_Q]
    ones_Q = np.ones(n_Q.size)
    tops, bottoms, rows = [], [], []
    for k in group:
      covered_Q = coverage.coverage(n_Q, right_Q, k)
      tops.append(covered_Q)
      bottoms.append(ones_Q)
      rows.append(('coverage', k))
      if not table.sampled:
        continue
      for name, key, bottom_Q in (
        ('diversity', 'text_M', covered_Q),
        ('distinct_chains', 'chain_M', ones_Q),
      ):
        distinct_Q = diversity.distinct_by_problem(*keys[key], table.n_Q, k)
        tops.append(distinct_Q[mask_Q])
        bottoms.append(bottom_Q)
        rows.append((name, k))
    estimates = intervals.ratios(np.array(tops), np.array(bottoms), **options)
    for (name, k), estimate in zip(rows, estimates):
      curves[name].append({'k': k, **estimate})
  return curves


def _coverage(
  table: Table,
  ks: Sequence[int],
  mask_Q: npt.NDArray[np.bool_],
  options: dict[str, int],
) -> list[dict[str, Any]]:
  found = []
  n_Q, right_Q = table.n_Q[mask_Q], table.right_Q[mask_Q]
  for group, enough_Q in _groups(ks, n_Q):
    covered = np.array(
      [coverage.coverage(n_Q[enough_Q], right_Q[enough_Q], k) for k in group]
    )
    estimates = intervals.ratios(covered, np.ones_like(covered), **options)
    found += [{'k': k, **estimate} for k, estimate in zip(group, estimates)]
  return found


def _groups(
  ks: Sequence[int], n_Q: npt.NDArray[np.int64]
) -> list[tuple[list[int], npt.NDArray[np.bool_]]]:
  """Returns rising ks with the problems that have k samples.

  Those with the same problems come together: they share their resamples.
  """
  groups: list[tuple[list[int], npt.NDArray[np.bool_]]] = []
  for k in sorted(set(ks)):
    mask_Q = n_Q >= k
    if groups and np.array_equal(groups[-1][1], mask_Q):
      groups[-1][0].append(k)
    else:
      groups.append(([k], mask_Q))
  return groups


def _keys(
  table: Table, column: str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
  """Returns (problem, number of samples) of each distinct key."""
  right_M = table.right_M
  key_M = getattr(table, column)[right_M]
  width = int(key_M.max(initial=0)) + 1
  flat, count = np.unique(
    table.problem_M[right_M] * width + key_M, return_counts=True
  )
  return flat // width, count


def _false_positives(
  table: Table, mask_Q: npt.NDArray[np.bool_], options: dict[str, int]
) -> dict[str, Any]:
  mask_Q = mask_Q & (table.judged_Q > 0)
  judged_Q = table.judged_Q[mask_Q]
  estimate = intervals.ratio(table.unsound_Q[mask_Q], judged_Q, **options)
  return {**estimate, 'samples': int(judged_Q.sum())}


def _levels(
  table: Table,
) -> list[tuple[str, npt.NDArray[np.bool_]]]:
  """Returns the levels, numbers in order of size, with their problems."""
  levels_Q = np.array(table.levels, dtype=object)
  order = sorted(
    set(table.levels),
    key=lambda level: (
      (0, int(level), '') if level.isdecimal() else (1, 0, level)
    ),
  )
  return [(level, levels_Q == level) for level in order]
