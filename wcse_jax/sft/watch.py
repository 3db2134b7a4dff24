"""What is noticed while a run trains: bad numbers, spikes, speed, stops."""

import collections
import contextlib
import math
import resource
import signal
import statistics
import sys
import threading
import time
from typing import Any

import jax
from absl import logging

from wcse_jax import budget, cli, errors, machine
from wcse_jax.models import config as model_config


# A loss is a spike if it is so many deviations, and so many nats, above the
# median of the last ones.
_LAST, _FEWEST, _DEVIATIONS, _NATS = 64, 16, 8.0, 0.5
# A normal distribution's deviation over the median of absolute differences.
_SPREAD = 1.4826
# Steps that speed is the mean of.
_MEAN = 8
# Examples that a message names.
_NAMED = 16


class Diverged(errors.InputError):
  """A loss or a gradient is not finite."""


class Losses:
  """The last losses, and what is out of order about a new one."""

  def __init__(self):
    self._last: collections.deque[float] = collections.deque(maxlen=_LAST)

  def spike(self, loss: float) -> bool:
    """Returns whether a loss stands out, and takes note of it."""
    found = False
    if len(self._last) >= _FEWEST:
      middle = statistics.median(self._last)
      spread = _SPREAD * statistics.median(
        abs(value - middle) for value in self._last
      )
      found = loss > middle + max(_NATS, _DEVIATIONS * spread)
    self._last.append(loss)
    return found


def named(numbers: list[int]) -> str:
  """Returns examples as `train examples 3, 17 and 30 more`."""
  text = ', '.join(map(str, numbers[:_NAMED]))
  more = len(numbers) - _NAMED
  return f'train examples {text}' + (f' and {more} more' if more > 0 else '')


def nonfinite(
  values: dict[str, float], number: int, numbers: list[int], rate: float
) -> str | None:
  """Returns what to say of a step that is not finite; None where it is.

  Args:
    values: its `loss` and `gradient_norm`.
    number: of the step, from 1.
    numbers: of the examples in its batch.
    rate: the run's learning rate.
  """
  for name in ('loss', 'gradient_norm'):
    if not math.isfinite(values[name]):
      return (
        f'training diverged: {name} {values[name]} at step {number} '
        f'({named(numbers)}); lower optimizer.learning_rate={rate}.'
      )
  return None


def spiked(loss: float, number: int, numbers: list[int]) -> None:
  """Logs a spike."""
  logging.warning(
    'train: loss spike %.4g at step %d (%s).', loss, number, named(numbers)
  )


class Speed:
  """Tokens a second and the share of the machine's matrix rate."""

  def __init__(
    self,
    config: model_config.ModelConfig,
    *,
    dtype: str,
    devices: int,
    adapters: int,
  ):
    """Starts the clock; measures the machine where its rate is not known.

    Args:
      config: the model.
      dtype: of the products.
      devices: that take part.
      adapters: parameters that are trained beside a base that is not; 0 where
        the whole model is.
    """
    self._config = config
    self._adapters = adapters
    self._rate = devices * machine.peak_rate(dtype)
    self._flops: dict[tuple[int, int], int] = {}
    self._last: collections.deque[tuple[int, int, float]] = collections.deque(
      maxlen=_MEAN
    )
    self.restart()

  def restart(self) -> None:
    """Sets the clock to now: what was done since the last step is no step."""
    self._since = time.perf_counter()

  def flops(self, sequences) -> int:
    """Returns the FLOPs that training on some sequences needs."""
    total = 0
    for row in sequences:
      key = len(row.tokens), row.targets
      if key not in self._flops:
        self._flops[key] = budget.training_flops(
          self._config, key[0], logits=key[1], adapters=self._adapters
        )
      total += self._flops[key]
    return total

  def step(self, sequences, *, timed: bool) -> dict[str, float]:
    """Returns the figures of a step that has just ended.

    A step that is not timed, as it compiled, has none of speed.

    `tokens_per_second` counts no padding; `mfu` is the FLOPs that the tokens
    need (see `budget.training_flops`), over time and matrix rate.  Both are of
    the last steps together: of several that are in flight the host may see the
    ends at once.
    """
    now = time.perf_counter()
    took, self._since = now - self._since, now
    tokens = sum(len(row.tokens) for row in sequences)
    if not timed:
      return {'memory_bytes': memory()}
    self._last.append((tokens, self.flops(sequences), took))
    tokens, flops, seconds = map(sum, zip(*self._last))
    return {
      'step_seconds': took,
      'tokens_per_second': tokens / seconds,
      'mfu': flops / seconds / self._rate,
      'memory_bytes': memory(),
    }


def memory() -> int:
  """Returns the most bytes that were in use: of a device, or of the process."""
  stats = jax.local_devices()[0].memory_stats() or {}
  if 'peak_bytes_in_use' in stats:
    return stats['peak_bytes_in_use']
  size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return size if sys.platform == 'darwin' else size * 1024


class Stops:
  """Whether a stop was asked for; a context.

  Inside, SIGTERM and an interrupt do not end what is going on: the loop asks
  between steps, and saves first.
  """

  def __init__(self):
    self.asked = False
    self._before: dict[int, Any] = {}
    self._stack = contextlib.ExitStack()

  def __enter__(self) -> 'Stops':
    self._stack.enter_context(cli.saving())
    # Only there can handlers be set, and only there do signals arrive.
    if threading.current_thread() is threading.main_thread():
      for number in (signal.SIGTERM, signal.SIGINT):
        self._before[number] = signal.signal(number, self._ask)
    return self

  def __exit__(self, *exception: object) -> None:
    self._stack.close()
    for number, handler in self._before.items():
      signal.signal(number, handler)

  def _ask(self, number: int, _) -> None:
    if self.asked and number == signal.SIGINT:
      raise KeyboardInterrupt
    self.asked = True

  def obey(self, at: int) -> None:
    """Raises Stopped, after `at` steps were saved."""
    raise errors.Stopped(f'after step {at}, which was saved')
