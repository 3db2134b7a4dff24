"""The pages of a block of problems, written here or by a worker process."""

import functools
import json
from collections.abc import Callable, Sequence
from typing import Any

from wcse_jax import records, shardfiles, storage, tasks
from wcse_jax.report.browser import data, index, page


Places = Sequence[tuple[data.Blocks, data.Blocks]]


def places(sources: Sequence[data.Source]) -> Places:
  """Returns where the samples and grades of each source lie."""
  return [
    (data.Blocks(source.samples), data.Blocks(source.grades))
    for source in sources
  ]


def write(
  block: int,
  members: Sequence[tuple[int, records.Problem]],
  sources: Sequence[data.Source],
  places: Places,
  folder: str,
  check: Callable[[records.Problem, str], str],
) -> tuple[list[Any], int]:
  """Writes the pages; returns their rows of the list, and how many samples.

  Arguments are those of `browser.write`, of one block.
  """
  rows, total = [], 0
  found = [data.read(*pair, block) for pair in places]
  for position, problem in members:
    own = [one.get(problem.id, []) for one in found]
    name = f'{position:06d}.html'
    storage.publish(
      storage.join(folder, 'pages', name),
      page.render(problem, sources, own, functools.partial(check, problem)),
    )
    rows.append(
      [
        name,
        problem.id,
        problem.level,
        index.short(problem.question),
        problem.answer,
        [
          [counts[kind] for kind in data.KINDS]
          for counts in map(data.counts, own)
        ],
      ]
    )
    total += sum(map(len, own))
  return rows, total


def line(
  block: int,
  members: Sequence[tuple[int, records.Problem]],
  sources: Sequence[data.Source],
  folder: str,
  task: tuple[str, str],
) -> str:
  """Returns what `write_line` takes."""
  return json.dumps(
    [
      block,
      [[position, problem.to_json()] for position, problem in members],
      [
        [s.role, s.name, s.label, s.samples.path, s.grades.path]
        for s in sources
      ],
      folder,
      task,
    ]
  )


def write_line(line: str) -> str:
  """Does as `write`; both are JSON.  Runs in a worker."""
  block, members, names, folder, task = json.loads(line)
  sources = _sources(tuple(map(tuple, names)))
  members = [
    (position, records.Problem.from_json(row)) for position, row in members
  ]
  check = functools.partial(_wrong, tuple(task))
  return json.dumps(
    write(block, members, sources, places(sources), folder, check)
  )


def read(reply: str) -> tuple[list[Any], int]:
  """Returns what `write` did, from the reply of `write_line`."""
  rows, total = json.loads(reply)
  return rows, total


@functools.cache
def _sources(names) -> list[data.Source]:
  return [
    data.Source(role, name, *map(shardfiles.ShardFolder, paths), label)
    for role, name, label, *paths in names
  ]


@functools.cache
def _task(name: str, where: str):
  return tasks.load(name, where)


def _wrong(task: tuple[str, str], problem: records.Problem, text: str) -> str:
  return _task(*task).sound(problem, text)[1]
