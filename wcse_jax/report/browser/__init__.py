"""The sample browser: every sample of every model, problem by problem.

`index.html` lists the problems; its one script filters them.  What the models
wrote is on pages of its own, one a problem, without any script: the list shows
them in a frame.  So no more than one problem's samples are loaded at a time,
and no text of the study ever passes through a script that makes markup.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from wcse_jax import records, shardfiles, storage
from wcse_jax.grading import workers
from wcse_jax.report.browser import blocks, data, index
from wcse_jax.report.browser.data import sources


__all__ = ['sources', 'write']

# Starting workers takes a second; as many samples are written here meanwhile.
_FEW = 20_000
# A block of problems takes a second or two.
_DEADLINE_S = 600.0


def write(
  problems: Sequence[tuple[int, records.Problem]],
  sources: Sequence[data.Source],
  folder: str,
  check: Callable[[records.Problem, str], str] = lambda problem, text: '',
  *,
  task: tuple[str, str] | None = None,
  few: int = _FEW,
) -> int:
  """Writes the browser; returns how many samples it shows.

  Args:
    problems: (position, problem).
    sources: of each model.
    folder: where `index.html` goes; the pages go to `pages/` beside it.
    check: what is wrong with a text, where its grade does not say.
    task: name and data of the task that `check` is of; where it is given,
      worker processes on all cores write the pages of many samples.
    few: samples up to which no worker is started.

  Raises:
    OSError: if it cannot be written.
  """
  members: dict[int, list[tuple[int, records.Problem]]] = {}
  for position, problem in problems:
    block = position // shardfiles.BLOCK_PROBLEMS
    members.setdefault(block, []).append((position, problem))
  order = sorted(members.items())
  rows, total = [], 0
  many = sum(map(_size, sources)) > few
  if many and task is not None:
    written = _apart(order, sources, folder, check, task)
  else:
    places = blocks.places(sources)
    written = (
      blocks.write(block, own, sources, places, folder, check)
      for block, own in order
    )
  for found, count in written:
    rows += found
    total += count
  storage.publish(
    storage.join(folder, 'index.html'), index.render(rows, sources, total)
  )
  return total


def _size(source: data.Source) -> int:
  return sum(map(source.samples.size, source.samples.shards))


def _apart(
  order, sources, folder, check, task
) -> Iterator[tuple[list[Any], int]]:
  """Yields what `blocks.write` returns, from worker processes."""
  lines = (
    blocks.line(block, own, sources, folder, task) for block, own in order
  )
  with workers.Pool(
    f'{blocks.__name__}:write_line', deadline=_DEADLINE_S, memory=2**32
  ) as pool:
    for (block, own), reply in zip(order, pool.map(lines), strict=True):
      if reply.status == 'done':
        yield blocks.read(reply.text)
      else:
        # What is wrong is told here.
        places = blocks.places(sources)
        yield blocks.write(block, own, sources, places, folder, check)
