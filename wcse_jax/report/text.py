"""Numbers, estimates and intervals in words.

An estimate is `{'value', 'low', 'high', 'n'}` with a 95% interval; value, or
low and high, may be None.  Its unit is one of `UNITS`.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any


UNITS = ('percent', 'points', 'number')
_MINUS = '−'
_PREFIXES = ('', 'k', 'M', 'G', 'T', 'P', 'E', 'Z', 'Y')
# Characters that HTML or XML drops, changes or cannot hold: shown by a picture.
_PICTURES = {
  code: 0x2400 + code for code in range(32) if chr(code) not in '\t\n'
}
_PICTURES |= {0x7F: 0x2421}
_PICTURES |= dict.fromkeys(range(0x80, 0xA0), 0xFFFD)
_PICTURES |= dict.fromkeys(range(0xD800, 0xE000), 0xFFFD)
_PICTURES |= dict.fromkeys((0xFFFE, 0xFFFF), 0xFFFD)


def clean(value: object) -> str:
  """Returns a text that HTML, XML and UTF-8 can hold.

  Control characters but tab and newline become their pictures (U+2400 and
  on); C1 controls, lone surrogates, U+FFFE and U+FFFF become U+FFFD.
  """
  return str(value).translate(_PICTURES)


def known(value: Any) -> bool:
  """Returns whether a value is a finite number."""
  return value is not None and math.isfinite(value)


def quantity(value: float | None, unit: str) -> str:
  """Returns a number in its unit: `43.1%`, `+5.7 points` or `3.42`."""
  if not known(value):
    return 'unknown'
  if unit == 'percent':
    return f'{_bare(value, unit)}%'
  if unit == 'points':
    return f'{_bare(value, unit)} points'
  return _bare(value, unit)


def interval(estimate: Mapping[str, Any], unit: str) -> str:
  """Returns the 95% interval without its unit: `40.2 to 46.0`."""
  low, high = estimate.get('low'), estimate.get('high')
  if known(low) and known(high):
    return f'{_bare(low, unit)} to {_bare(high, unit)}'
  if known(low):
    return f'{_bare(low, unit)} or more'
  if known(high):
    return f'{_bare(high, unit)} or less'
  return 'no interval'


def estimate(found: Mapping[str, Any] | None, unit: str) -> str:
  """Returns an estimate in words: `43.1% (40.2 to 46.0, n = 256)`."""
  if found is None:
    return 'not measured'
  n = count(found.get('n'))
  if not known(found.get('value')):
    return f'undefined (n = {n})'
  return f'{quantity(found["value"], unit)} ({interval(found, unit)}, n = {n})'


def reading(gap: Mapping[str, Any] | None, ahead: str, behind: str) -> str:
  """Returns what a difference says: which is ahead, or that none can be told.

  Args:
    gap: estimate of a difference.
    ahead: the name of what is ahead where the difference is positive.
    behind: the name of the other.
  """
  if gap is None or not known(gap.get('value')):
    return 'not measured'
  low, high = gap.get('low'), gap.get('high')
  if known(low) and low > 0:
    return f'{ahead} ahead'
  if known(high) and high < 0:
    return f'{behind} ahead'
  if known(low) and known(high):
    return 'cannot tell: the interval holds 0'
  return 'cannot tell: no interval'


def problems(estimates: Iterable[Mapping[str, Any] | None]) -> str:
  """Returns how many problems are behind estimates: `n = 240 to 256`."""
  counts = {
    e['n'] for e in estimates if e is not None and e.get('n') is not None
  }
  if not counts:
    return 'n unknown'
  low, high = min(counts), max(counts)
  if low == high:
    return f'n = {count(low)}'
  return f'n = {count(low)} to {count(high)}'


def count(value: float | None) -> str:
  """Returns a whole number with separators: `12,800`."""
  return f'{round(value):,}' if known(value) else 'unknown'


def number(value: float | None) -> str:
  """Returns a number of about three digits: `0.052`, `3.42`, `1,234`."""
  if not known(value):
    return 'unknown'
  size = abs(value)
  if size >= 1000:
    digits = f'{size:,.0f}'
  elif size == 0 or size >= 1e-4:
    places = 2 if size == 0 else max(0, 2 - math.floor(math.log10(size)))
    digits = f'{size:.{places}f}'
    if '.' in digits:
      digits = digits.rstrip('0').rstrip('.')
  else:
    digits = f'{size:.2e}'
  return (_MINUS if value < 0 else '') + digits


def scaled(value: float | None, unit: str = '') -> str:
  """Returns a large number with its prefix: `2.7M`, `1.25 PFLOP`."""
  if not known(value):
    return 'unknown'
  power = 0
  while abs(value) >= 999.5 and power + 1 < len(_PREFIXES):
    value /= 1000
    power += 1
  space = ' ' if unit else ''
  return f'{number(value)}{space}{_PREFIXES[power]}{unit}'


def duration(seconds: float | None) -> str:
  """Returns a time in the unit that suits it: `42 s`, `12.5 min`, `3.1 h`."""
  if not known(seconds):
    return 'unknown'
  if seconds < 120:
    return f'{number(seconds)} s'
  if seconds < 7200:
    return f'{number(seconds / 60)} min'
  return f'{number(seconds / 3600)} h'


def money(usd: float | None) -> str:
  """Returns an amount in dollars; `no price` where none was given."""
  if not known(usd):
    return 'no price'
  return f'${usd:,.2f}' if usd >= 0.1 or usd == 0 else f'${number(usd)}'


def chance(p: float | None) -> str:
  """Returns a p-value: `0.034`, or `< 0.001`."""
  if not known(p):
    return 'unknown'
  return '< 0.001' if p < 0.001 else f'{p:.3f}'


def axis(value: float, unit: str, step: float) -> str:
  """Returns the label of a tick; the step is 1, 2 or 5 times a power of 10."""
  if unit in ('percent', 'points'):
    value, step = 100 * value, 100 * step
  places = max(0, -math.floor(math.log10(step) + 1e-9))
  digits = f'{abs(value):,.{places}f}'
  shows_zero = not digits.strip('0.,')
  if unit == 'percent':
    return f'{digits}%'
  sign = '' if shows_zero else _MINUS if value < 0 else ''
  if unit == 'points' and value > 0 and not shows_zero:
    sign = '+'
  return sign + digits


def _bare(value: float, unit: str) -> str:
  if unit == 'number':
    if abs(value) >= 100:
      return number(value)
    digits = f'{abs(value):.2f}'
    return (_MINUS if value < 0 and float(digits) else '') + digits
  digits = f'{100 * abs(value):.1f}'
  negative = value < 0 and float(digits) != 0
  if unit == 'points':
    sign = _MINUS if negative else '+' if float(digits) != 0 else ''
    return sign + digits
  return (_MINUS if negative else '') + digits
