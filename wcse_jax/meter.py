"""The live progress line, of one stage and of a run of several."""

import contextlib
import numbers
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, TextIO


class Stages:
  """Where a run of several stages stands, shown on every progress line.

  The time left is the work left at the speed so far; work that an earlier
  process did counts for neither.
  """

  def __init__(self, label: str, work: Mapping[str, float]):
    """`work`: stage -> how much work it is, in any unit, in order."""
    self._label = label
    self._work = dict(work)
    self._numbers = {key: i for i, key in enumerate(self._work, 1)}
    self._left = dict(work)
    self._done = 0.0
    self._current = ''
    self._begin = time.monotonic()

  def skip(self, key: str) -> None:
    """Says that a stage was complete before."""
    self._left.pop(key)

  @contextlib.contextmanager
  def stage(self, key: str) -> Iterator[None]:
    """Runs one stage; progress lines inside say which, and the time left."""
    global _stages
    before, _stages = _stages, self
    self._current = key
    try:
      yield
      self._done += self._left.pop(key)
    finally:
      _stages = before

  def number(self) -> str:
    """Returns `[3/27]`, the stage and how many there are."""
    return f'[{self._numbers[self._current]}/{len(self._numbers)}]'

  def left(self, share: float) -> str:
    """Returns the time left, when `share` of the current stage is done."""
    gained = share * self._work[self._current]
    done = self._done + gained
    if done <= 0:
      return ''
    rate = (time.monotonic() - self._begin) / done
    rest = sum(self._left.values()) - gained
    return f'{self._label} {_duration(max(rest, 0.0) * rate)} left'


# The stages that are running, if any.
_stages: Stages | None = None


class Progress:
  """A live progress line.

      sample tiny-wc  512/4096 samples  61.2/s  budget 12%  time left 0:59

  On a terminal the line is redrawn in place, at most 5 times a second;
  elsewhere a line is printed at most each 10 seconds.
  """

  def __init__(
    self,
    label: str,
    total: int,
    unit: str,
    stream: TextIO | None = None,
    *,
    start: int = 0,
  ):
    """Starts the clock.

    Args:
      label: what is being done.
      total: how many there are; 0 where that is not known.
      unit: what is counted, as `samples`.
      stream: where to print; None for standard error.
      start: how many were done before, by an earlier run; they do not count
        towards the rate.
    """
    self._label = label
    self._total = total
    self._unit = unit
    self._stream = sys.stderr if stream is None else stream
    self._live = self._stream.isatty()
    self._every = 0.2 if self._live else 10.0
    self._start = start
    self._done = start
    self._extra: dict[str, Any] = {}
    self._begin = time.monotonic()
    self._shown = self._begin - (self._every if self._live else 0.0)
    self._closed = self._printed = False

  def __enter__(self) -> 'Progress':
    return self

  def __exit__(self, *exception: object) -> None:
    # Where nothing was done, the error is all there is to say.
    if exception[0] is not None and self._done == self._start:
      self._closed = self._closed or not self._printed
    self.close()

  def update(self, done: int, **extra: Any) -> None:
    """Says how many are done in all, and what else to show, as `loss=0.1`."""
    self._done, self._extra = done, extra
    now = time.monotonic()
    if now - self._shown >= self._every:
      self._shown = now
      self._print(self.line(now - self._begin), end='')

  def close(self) -> None:
    """Shows the last state, and ends the line."""
    if not self._closed:
      self._closed = True
      self._print(self.line(time.monotonic() - self._begin), end='\n')

  def line(self, elapsed: float) -> str:
    """Returns the line after `elapsed` seconds."""
    total = f'/{self._total}' if self._total else ''
    parts = [self._label, f'{self._done}{total} {self._unit}']
    gained = self._done - self._start
    rate = gained / elapsed if gained > 0 and elapsed > 0 else 0.0
    if rate:
      parts.append(f'{rate:.3g}/s' if rate < 100 else f'{rate:.0f}/s')
    parts += [f'{key} {_shown(value)}' for key, value in self._extra.items()]
    if rate and self._total:
      left = max(self._total - self._done, 0) / rate
      parts.append(f'time left {_duration(left)}')
    if _stages is not None:
      share = self._done / self._total if self._total else 0.0
      parts = [_stages.number(), *parts, _stages.left(share)]
    return '  '.join(filter(None, parts))

  def _print(self, line: str, end: str) -> None:
    self._printed = True
    if self._live:
      # A longer line would wrap, and could not be redrawn.
      width = shutil.get_terminal_size().columns - 1
      self._stream.write(f'\r{line[:width]}\x1b[K{end}')
    else:
      self._stream.write(f'{line}\n')
    self._stream.flush()


def _shown(value: Any) -> str:
  if isinstance(value, numbers.Real) and not isinstance(
    value, numbers.Integral
  ):
    return f'{float(value):.4g}'
  return str(value)


def _duration(seconds: float) -> str:
  """Returns m:ss, or h:mm:ss from an hour on."""
  minutes, second = divmod(round(seconds), 60)
  hours, minute = divmod(minutes, 60)
  if hours:
    return f'{hours}:{minute:02d}:{second:02d}'
  return f'{minute}:{second:02d}'
