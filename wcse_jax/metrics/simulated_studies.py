"""How often intervals hold the truth, in studies of which the truth is known.

  python -m wcse_jax.metrics.simulated_studies --part=students --studies=500

Prints rows of JSON: one a cell, and at the end means over cells.

- `students`: the difference between two arms, by every interval of
  `metrics.candidates`.  Cells: `quickstart` (3 replicates, 256 problems),
  `grid` (every combination of what is named below), `limits` (what the interval
  does not know of).
- `data`: what is said of two models' samples (`metrics.simulated_data`).

The cells of one grid that differ in replicates alone are of the same studies.
"""

import argparse
import collections
import concurrent.futures
import dataclasses
import functools
import itertools
import json
import math
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from wcse_jax.metrics import candidates, populations, replicated, simulated_data


Row = dict[str, Any]

EFFECTS = (0.0, 0.03, 0.1)
RUN_DEVIATIONS = (0.0, 0.005, 0.01, 0.02, 0.04)
ACCURACIES = (0.05, 0.25, 0.6, 0.95)
PROBLEMS = (64, 256, 1319)
REPLICATES = (2, 3, 5, 10)
ARMS = 4
# What decides whether a problem is solved, beside the run: the problem for all
# arms, the problem for the arm, and the rest, which is noise.
KINDS = {
  'alike': (0.85, 0.05),
  'usual': (0.5, 0.15),
  'unlike': (0.2, 0.2),
}
# Coverage that is called right.
RIGHT = (0.93, 0.97)

# Studies looked at together, which bounds the memory.
_BLOCK = 50


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setup:
  """Students of one truth, and the names of what is varied."""

  names: Row
  students: populations.Students
  replicates: tuple[int, ...]

  @property
  def effect(self) -> float:
    first, second = self.students.accuracies[:2]
    return first - second


def setup(
  *,
  accuracy: float,
  effect: float = 0.0,
  run_deviation: float = 0.0,
  kind: str = 'usual',
  problems: int = 256,
  replicates: Sequence[int] = (3,),
  first_deviation: float | None = None,
  **options: Any,
) -> Setup:
  """Returns a setup of four arms, of which the first is off by the effect.

  Args:
    accuracy: of the others.
    effect: of the first, up where the others solve less than half.
    run_deviation: of accuracy between runs.
    kind: of `KINDS`.
    problems: Q.
    replicates: numbers of replicates that the same studies are looked at with.
    first_deviation: of the first arm; None: as the others.
    **options: of `populations.Students`.
  """
  ahead = accuracy + math.copysign(effect, 0.5 - accuracy)
  accuracies = (ahead, *[accuracy] * (ARMS - 1))
  first = run_deviation if first_deviation is None else first_deviation
  deviations = (first, *[run_deviation] * (ARMS - 1))
  left = 1 - max(
    populations.correlation(mean, mean, mean**2 + deviation**2)
    for mean, deviation in zip(accuracies, deviations)
  )
  problem, own = KINDS[kind]
  names = {
    'accuracy': accuracy,
    'effect': effect,
    'run_deviation': run_deviation,
    'kind': kind,
    'problems': problems,
    **({} if first_deviation is None else {'first_deviation': first}),
    **options,
  }
  return Setup(
    names=names,
    students=populations.Students(
      accuracies=accuracies,
      deviations=deviations,
      same=(problem + own) * left,
      across=problem * left,
      problems=problems,
      replicates=(max(replicates),) * ARMS,
      **options,
    ),
    replicates=tuple(replicates),
  )


def setups(cells: str) -> list[Setup]:
  """Returns the setups of `quickstart`, `grid` or `limits`."""
  if cells == 'quickstart':
    return [
      setup(accuracy=accuracy, run_deviation=deviation, effect=effect)
      for accuracy in (0.25, 0.48, 0.54)
      for deviation in RUN_DEVIATIONS
      for effect in (0.0, 0.03)
    ]
  if cells == 'grid':
    return [
      setup(
        accuracy=accuracy,
        effect=effect,
        run_deviation=deviation,
        kind=kind,
        problems=problems,
        replicates=REPLICATES,
      )
      for accuracy, effect, deviation, kind, problems in itertools.product(
        ACCURACIES, EFFECTS, RUN_DEVIATIONS, KINDS, PROBLEMS
      )
    ]
  of = functools.partial(
    setup, accuracy=0.48, run_deviation=0.02, replicates=(1, 2, 3, 10)
  )
  return [
    of(),
    of(samples=8),
    of(run_deviation=0.005, first_deviation=0.04),
    of(run_deviation=0.04, first_deviation=0.005),
    of(tied=0.5),
    of(fixed=0.5),
  ]


def students(
  one: Setup, studies: int, resampled: int = 0, seed: int = 0
) -> list[Row]:
  """Returns a row for each number of replicates.

  Beside the intervals of a difference it has that of the first arm's accuracy,
  the runs of all arms pooled (`accuracy_of_arm`).

  Args:
    one: the truth.
    studies: how many are made up.
    resampled: of so many of them, the intervals that resample too.
    seed: of what is made up.
  """
  random = np.random.default_rng(seed)
  ends = {count: collections.defaultdict(list) for count in one.replicates}
  own: dict[int, list] = {count: [] for count in one.replicates}
  done = 0
  while done < studies:
    more = resampled - done
    many = min(studies - done, _BLOCK, one.students.block)
    if more > 0:
      many = min(many, more)
    arms = one.students.draw(many, random)
    for count in one.replicates:
      some = [values_YRQ[:, :count] for values_YRQ in arms]
      found = candidates.of_students(some, resample=more > 0)
      for name, bounds in found.items():
        ends[count][name].append(bounds)
      whole = [replicated.moments(values_YRQ) for values_YRQ in some]
      mean = replicated.mean_of(whole[0], replicated.runs(whole))
      own[count].append((mean.low, mean.high))
    done += many
  return [
    {
      'part': 'students',
      **one.names,
      'replicates': count,
      'intervals': {
        name: candidates.scored(np.concatenate(parts, axis=1), one.effect)
        for name, parts in ends[count].items()
      },
      'accuracy_of_arm': candidates.scored(
        np.concatenate(own[count], axis=1), one.students.accuracies[0]
      ),
    }
    for count in one.replicates
  ]


def summary(rows: Sequence[Row]) -> list[Row]:
  """Returns means over cells, by interval and by what is varied.

  `inside` is the share of cells whose coverage lies within `RIGHT`; `false
  alarms` are of the cells without an effect.
  """
  fields = (
    None,
    'accuracy',
    'effect',
    'run_deviation',
    'kind',
    'problems',
    'replicates',
    'quantity',
  )
  groups = collections.defaultdict(list)
  for row, field in itertools.product(rows, fields):
    if field is not None and field not in row:
      continue
    own = row.get('accuracy_of_arm')
    added = {} if own is None else {'accuracy of an arm': own}
    for method, one in (row['intervals'] | added).items():
      groups[field, row.get(field), method].append((row, one))
  found = []
  for (field, value, method), cells in groups.items():
    held = np.array([one['coverage'] for _, one in cells])
    alarms = [
      one['apart']
      for row, one in cells
      if row.get('effect') == 0 and method in row['intervals']
    ]
    found.append(
      {
        'over': field or 'all',
        'value': value,
        'interval': method,
        'cells': len(cells),
        'studies': cells[0][1]['studies'],
        'coverage': float(held.mean()),
        'lowest': float(held.min()),
        'highest': float(held.max()),
        'inside': float(np.mean((held >= RIGHT[0]) & (held <= RIGHT[1]))),
        'width': float(np.mean([one['width'] for _, one in cells])),
        'false_alarms': float(np.mean(alarms)) if alarms else None,
      }
    )
  return found


def run(
  part: str, studies: int, cells: str, resampled: int, workers: int
) -> Iterator[Row]:
  """Yields the rows of a part, cell by cell.

  Args:
    part: `students` or `data`.
    studies: of each cell.
    cells: of the students.
    resampled: of so many studies, the intervals that resample too.
    workers: processes; the rows are the same, however many.
  """
  if part == 'students':
    calls = [
      functools.partial(students, one, studies, resampled, seed)
      for seed, one in enumerate(setups(cells))
    ]
  else:
    cases = itertools.product(simulated_data.CHANCES, simulated_data.RANKS)
    calls = [
      functools.partial(simulated_data.rows, name, ranks, studies, seed)
      for seed, (name, ranks) in enumerate(cases)
    ]
  if workers == 1:
    for call in calls:
      yield from call()
    return
  with concurrent.futures.ProcessPoolExecutor(workers) as pool:
    for rows in pool.map(_called, calls):
      yield from rows


def _called(call) -> list[Row]:
  return call()


def main(arguments: Sequence[str] | None = None) -> int:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--part', choices=('students', 'data'), required=True)
  parser.add_argument('--studies', type=int, default=500, help='of each cell')
  parser.add_argument(
    '--cells', choices=('quickstart', 'grid', 'limits'), default='quickstart'
  )
  parser.add_argument(
    '--resampled',
    type=int,
    default=0,
    help='of so many studies a cell, the intervals that resample too (slow)',
  )
  parser.add_argument('--workers', type=int, default=1)
  flags = parser.parse_args(arguments)
  if flags.studies < 1 or flags.workers < 1:
    parser.error('--studies and --workers must be at least 1')
  rows = []
  for row in run(
    flags.part, flags.studies, flags.cells, flags.resampled, flags.workers
  ):
    rows.append(row)
    print(json.dumps(row), flush=True)
  for row in summary(rows):
    print(json.dumps(row))
  return 0


if __name__ == '__main__':
  sys.exit(main())
