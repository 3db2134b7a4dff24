"""The sample browser: every sample of every model, problem by problem.

`index.html` lists the problems; its one script filters them.  What the models
wrote is on pages of its own, one a problem, without any script: the list shows
them in a frame.  So no more than one problem's samples are loaded at a time,
and no text of the study ever passes through a script that makes markup.
"""

import functools
from collections.abc import Callable, Sequence

from wcse_jax import records, shardfiles, storage
from wcse_jax.report.browser import data, index, page
from wcse_jax.report.browser.data import sources


__all__ = ['sources', 'write']


def write(
  problems: Sequence[tuple[int, records.Problem]],
  sources: Sequence[data.Source],
  folder: str,
  check: Callable[[records.Problem, str], str] = lambda problem, text: '',
) -> int:
  """Writes the browser; returns how many samples it shows.

  Args:
    problems: (position, problem).
    sources: of each model.
    folder: where `index.html` goes; the pages go to `pages/` beside it.
    check: what is wrong with a text, where its grade does not say.

  Raises:
    OSError: if it cannot be written.
  """
  rows, total = [], 0
  places = [
    (data.Blocks(source.samples), data.Blocks(source.grades))
    for source in sources
  ]
  blocks: dict[int, list[tuple[int, records.Problem]]] = {}
  for position, problem in problems:
    block = position // shardfiles.BLOCK_PROBLEMS
    blocks.setdefault(block, []).append((position, problem))
  for block, members in sorted(blocks.items()):
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
  storage.publish(
    storage.join(folder, 'index.html'), index.render(rows, sources, total)
  )
  return total
