"""Round places of axes, and their labels."""

import math
from collections.abc import Callable

from wcse_jax.report import text


_STEPS = (1, 2, 5, 10)


def nice(low: float, high: float) -> tuple[float, float, float]:
  """Returns round ends and a round step with 4 to 6 steps between them."""
  if high <= low:
    low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
  rough = (high - low) / 5
  scale = 10.0 ** math.floor(math.log10(rough))
  step = next(s * scale for s in _STEPS if s * scale >= rough * (1 - 1e-9))
  first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
  return first * step, last * step, step


def grid(low: float, high: float, step: float) -> list[tuple[float, str]]:
  """Returns the places of the lines of an axis, with their class."""
  count = round((high - low) / step)
  places = [low + i * step for i in range(count + 1)]
  return [
    (0.0, 'zero') if abs(v) < step / 1e6 else (v, 'gridline') for v in places
  ]


def decades(
  low: float, high: float, form: Callable[[float], str] = text.number
) -> list[tuple[float, str]]:
  """Returns ticks at 1, 2 and 5 times powers of 10 between low and high.

  Of a range above a hundredfold the powers of 10 alone.
  """
  first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
  steps = (1, 2, 5) if high / low < 100 else (1,)
  found = [s * 10.0**p for p in range(first, last + 1) for s in steps]
  # Twice the same factor is not always twice the same number.
  found = [v for v in found if low * (1 - 1e-9) <= v <= high * (1 + 1e-9)]
  return [(v, form(v)) for v in (found if len(found) > 1 else (low, high))]


def powers(low: float, high: float) -> list[tuple[float, str]]:
  """Returns ticks at the powers of 2 from about low to about high."""
  first, last = math.floor(math.log2(low)), math.ceil(math.log2(high))
  return [(2.0**p, text.number(2.0**p)) for p in range(first, last + 1)]
