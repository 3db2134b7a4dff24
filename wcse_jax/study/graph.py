"""Stages that need others, and running those that are missing.

Stages meet only through files: one is done when its files are there.  So a run
that was killed goes on where it was, and a stage may run on another machine
that has the run folder, or a copy of it.
"""

import dataclasses
import fnmatch
from collections.abc import Callable, Sequence

from wcse_jax import errors, meter


@dataclasses.dataclass(frozen=True)
class Stage:
  """One stage.

  Attributes:
    key: its name, as `sample-wc`.
    needs: the stages that come before it.
    done: says whether its files are there.
    work: makes them.
    size: roughly how much work it is, for the time left.
  """

  key: str
  needs: tuple[str, ...]
  done: Callable[[], bool]
  work: Callable[[], None]
  size: float = 0.0


def ordered(stages: Sequence[Stage]) -> list[Stage]:
  """Returns stages in an order in which each comes behind those it needs.

  Raises:
    InputError: if a stage needs itself, through others or not, or one that is
      not there.
  """
  left = {stage.key: stage for stage in stages}
  found: dict[str, Stage] = {}
  for stage in stages:
    for need in stage.needs:
      if need not in left:
        raise errors.InputError(
          f'stages: {stage.key} needs {need}, which the study does not have.'
        )
  while left:
    ready = [s for s in left.values() if all(n in found for n in s.needs)]
    if not ready:
      raise errors.InputError(
        f'stages: wanted an order; {", ".join(left)} need each other.'
      )
    found[ready[0].key] = left.pop(ready[0].key)
  return list(found.values())


def matching(stages: Sequence[Stage], patterns: str) -> list[Stage]:
  """Returns the stages that patterns name.

  Args:
    stages: all of them.
    patterns: names, with commas; `*` stands for anything.

  Raises:
    InputError: if a pattern names none.
  """
  wanted = set()
  for pattern in patterns.split(','):
    names = fnmatch.filter([s.key for s in stages], pattern.strip())
    if not names:
      raise errors.InputError(
        f'--stages: wanted names of stages, of {_shown(stages)}; got '
        f'{pattern.strip()!r}.'
      )
    wanted.update(names)
  return [stage for stage in stages if stage.key in wanted]


def _shown(stages: Sequence[Stage], most: int = 30) -> str:
  names = [stage.key for stage in stages]
  more = f' and {len(names) - most} more' if len(names) > most else ''
  return ', '.join(names[:most]) + more


def run(
  stages: Sequence[Stage],
  chosen: Sequence[Stage],
  label: str,
  hold: Callable[[str], object],
) -> None:
  """Runs those of some stages that are not done, in their order.

  Args:
    stages: all stages of the study, in order.
    chosen: those to run.
    label: of the progress line.
    hold: key -> a context that holds the stage for this process.

  Raises:
    InputError: if a stage needs one that is neither done nor chosen.
  """
  by_key = {stage.key: stage for stage in stages}
  keys = {stage.key for stage in chosen}
  for stage in chosen:
    for need in stage.needs:
      if need not in keys and not stage.done() and not by_key[need].done():
        raise errors.InputError(
          f'--stages: {stage.key} needs {need}, which is not done yet.'
        )
  progress = meter.Stages(label, {s.key: s.size for s in chosen})
  for stage in chosen:
    if stage.done():
      progress.skip(stage.key)
      continue
    with progress.stage(stage.key), hold(stage.key):
      # Another process may have done it meanwhile.
      if not stage.done():
        stage.work()
