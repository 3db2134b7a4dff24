"""False positives by judges, corrected by a human audit."""

import collections
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from wcse_jax.metrics import intervals, measure, ppi
from wcse_jax.metrics import table as tables


# What the task's own check of the reasoning is called.
TASK = 'task'
# Labels of people that a stratum of its own takes.
_LABELS = 2
# (problem id, sample index).
Key = tuple[str, int]


def order(
  rows: Iterable[tuple[Key, str]], *, least: int = 0, seed: int = 0
) -> list[Key]:
  """Returns samples in the order in which they are judged or audited.

  Every beginning of the order is a random part of each level, and has the
  levels in proportion to their size, but that the first `least` samples of
  every level come before all others.  So who asks for more keeps what was
  asked, and what people audit first is among what a model judges first.

  Args:
    rows: ((problem id, sample index), level) of each sample, in any order.
    least: samples of each level at the beginning.
    seed: of the random order within a level.
  """
  levels: dict[str, list[tuple[bytes, Key]]] = {}
  for key, level in rows:
    text = f'{seed}\n{key[1]}\n{key[0]}'.encode('utf-8', 'surrogatepass')
    drawn = hashlib.sha256(text).digest()
    levels.setdefault(level, []).append((drawn, key))
  found = []
  for drawn_keys in levels.values():
    drawn_keys.sort()
    size = len(drawn_keys)
    found += [
      (rank >= least, (rank + 0.5) / size, drawn, key)
      for rank, (drawn, key) in enumerate(drawn_keys)
    ]
  return [key for *_, key in sorted(found)]


def rates(
  table: tables.Table,
  judgements: Mapping[str, Mapping[Key, bool | None]],
  audit: Mapping[Key, bool | None],
) -> list[dict[str, Any]]:
  """Returns the false-positive rate by each judge, ready for JSON.

  A row has, of the right samples of the table:

  - `judge`: its name; `task` for the task's own check, which looks at all.
  - `judged`: how many it looked at; `unknown`: of how many it does not say.
  - `rate`: the Estimate of the share that it calls unsound, of those of which
    it says something; the interval is over problems.
  - `corrected`: the Estimate (`ppi.rate`) of the share that people call
    unsound, from the judge and the audit together; n counts the audited
    samples.  It is of these samples: its interval has the draw of the audit in
    it, and takes samples for independent.  None without an audit.
  - `audit`: the same from the audit alone.
  - `agreement`: the share of the audited samples of which the judge says
    something on which it agrees with people, over problems.
  - `by_level`: `level`, `judged`, `rate` and `corrected` of each.

  Where a judge does not say, its own rate stands for its label; that costs
  width, and never shifts the corrected rate.

  Args:
    table: the graded samples.
    judgements: judge -> (problem id, index) -> whether the reasoning is sound,
      of a beginning of `order`.
    audit: (problem id, index) -> what people say, of a beginning of `order`;
      None for unsure, which is left out.
  """
  right = np.flatnonzero(table.right_M)
  keys = [
    (table.ids[problem], int(index))
    for problem, index in zip(table.problem_M[right], table.index_M[right])
  ]
  problems = table.problem_M[right]
  levels = [table.levels[problem] for problem in problems]
  everywhere = collections.Counter(levels)
  asked: dict[str, Sequence[bool | None]] = {}
  if table.judged_M.any():
    asked[TASK] = [
      None if not judged else not unsound
      for judged, unsound in zip(table.judged_M[right], table.unsound_M[right])
    ]
  found = []
  for name, sounds in asked.items():
    found.append(
      _described(name, keys, problems, levels, sounds, audit, everywhere)
    )
  for name, said in judgements.items():
    at = [i for i, key in enumerate(keys) if key in said]
    found.append(
      _described(
        name,
        [keys[i] for i in at],
        problems[at],
        [levels[i] for i in at],
        [said[keys[i]] for i in at],
        audit,
        everywhere,
      )
    )
  if audit and not found:
    # No judge: the audit alone, with a judge that never says anything.
    nothing = [None] * len(keys)
    found.append(
      _described('', keys, problems, levels, nothing, audit, everywhere)
    )
  return found


def _described(
  name: str,
  keys: Sequence[Key],
  problems: np.ndarray,
  levels: Sequence[str],
  sounds: Sequence[bool | None],
  audit: Mapping[Key, bool | None],
  everywhere: Mapping[str, int],
) -> dict[str, Any]:
  labels = [audit.get(key) for key in keys]
  known = np.array([sound is not None for sound in sounds], bool)
  unsound = np.array([sound is False for sound in sounds], np.float64)
  mean = float(unsound[known].mean()) if known.any() else 0.0
  judged = np.where(known, unsound, mean)
  human = [None if label is None else not label for label in labels]
  both = np.array(
    [a is not None and b is not None for a, b in zip(sounds, labels)], bool
  )
  agree = np.array([a == b for a, b in zip(sounds, labels)], np.float64)
  found: dict[str, Any] = {
    'judge': name,
    'judged': len(keys),
    'unknown': int((~known).sum()),
    'rate': _by_problem(problems, unsound * known, known * 1.0),
    'corrected': None,
    'audit': None,
    'agreement': _by_problem(problems, agree * both, both * 1.0),
    'by_level': [],
  }
  audited = any(label is not None for label in human)
  if audited:
    strata, shares = _strata(levels, human, everywhere)
    found['corrected'] = ppi.rate(judged, human, strata, shares=shares)
    found['audit'] = ppi.rate(judged, human, strata, shares=shares, trust=0)
  level_of = np.array(levels, dtype=object)
  for level, _ in measure.strata(sorted(set(levels))):
    at = np.flatnonzero(level_of == level)
    part = [human[i] for i in at]
    found['by_level'].append(
      {
        'level': level,
        'judged': at.size,
        'rate': _by_problem(
          problems[at], (unsound * known)[at], known[at] * 1.0
        ),
        'corrected': ppi.rate(judged[at], part) if audited else None,
      }
    )
  return found


def _strata(
  levels: Sequence[str],
  human: Sequence[bool | None],
  everywhere: Mapping[str, int],
) -> tuple[list[str], dict[str, float]]:
  """Returns the stratum of each sample, and the share of each stratum.

  Levels with too few labels are one stratum; if that has too few itself, all
  levels are.
  """
  labels = collections.Counter(
    level for level, label in zip(levels, human) if label is not None
  )
  own = {level for level in set(levels) if labels[level] >= _LABELS}
  rest = sum(count for level, count in labels.items() if level not in own)
  if set(levels) - own and rest < _LABELS:
    return [''] * len(levels), {'': 1.0}
  strata = [f'level {level}' if level in own else '' for level in levels]
  shares: collections.Counter[str] = collections.Counter()
  for level in set(levels):
    shares[f'level {level}' if level in own else ''] += everywhere[level]
  whole = shares.total()
  return strata, {name: count / whole for name, count in shares.items()}


def _by_problem(
  problems: np.ndarray, top: np.ndarray, bottom: np.ndarray
) -> dict[str, Any]:
  """Returns the Estimate of a share, sum(top) / sum(bottom), over problems."""
  ids, at = np.unique(problems, return_inverse=True)
  bottom_Q = np.bincount(at, weights=bottom, minlength=ids.size)
  top_Q = np.bincount(at, weights=top, minlength=ids.size)
  held_Q = bottom_Q > 0
  return intervals.ratio(top_Q[held_Q], bottom_Q[held_Q], share=True)
