"""Parts of charts: scales, axes, marks, legends, lines of text.

Lengths are in units of the sheet, which is `WIDTH` wide.
"""

import dataclasses
import math
from collections.abc import Sequence

from wcse_jax.report import markup, rounding, text


WIDTH = 360
LEFT, RIGHT = 46, 342
# Height of a further line of a label.
LINE = 17
# A generous width of a character of a label.
_CHARACTER = 7.2


def _star(points: int, inner: float) -> list[tuple[float, float]]:
  """Returns the corners of a star whose first point is up."""
  return [
    (
      radius * math.sin(math.pi * at / points),
      -radius * math.cos(math.pi * at / points),
    )
    for at in range(2 * points)
    for radius in (inner if at % 2 else 5.8,)
  ]


_PLUS = [
  *((-1.7, -5.2), (1.7, -5.2), (1.7, -1.7), (5.2, -1.7), (5.2, 1.7)),
  *((1.7, 1.7), (1.7, 5.2), (-1.7, 5.2), (-1.7, 1.7), (-5.2, 1.7)),
  *((-5.2, -1.7), (-1.7, -1.7)),
]
# Kind -> the corners of its mark around 0.
_CORNERS = {
  'se': [(-4, -4), (4, -4), (4, 4), (-4, 4)],
  'human': [(0, -5.5), (5.5, 0), (0, 5.5), (-5.5, 0)],
  'mix': [(0, -5.5), (5, 4), (-5, 4)],
  'cascade': [(0, 5.5), (5, -4), (-5, -4)],
  'm1': _PLUS,
  'm2': _star(5, 2.4),
  'm3': [(5.5, 0), (-4, 5), (-4, -5)],
  'm4': [(-5.5, 0), (4, 5), (4, -5)],
  'm5': [((x - y) * 0.75, (x + y) * 0.75) for x, y in _PLUS],
  'm6': [(-5, -5), (5, -5), (-5, 5), (5, 5)],
  'other': [(-2.5, -5.5), (2.5, -5.5), (2.5, 5.5), (-2.5, 5.5)],
}


@dataclasses.dataclass(frozen=True)
class Scale:
  """Maps values to places between two units, by value or by logarithm."""

  low: float
  high: float
  start: float
  end: float
  log: bool = False

  def __call__(self, value: float) -> float:
    low, high = self.low, self.high
    if self.log:
      low, high, value = math.log(low), math.log(high), math.log(value)
    share = (value - low) / (high - low) if high > low else 0.5
    return self.start + share * (self.end - self.start)


def heading(label: str, words: str, y: float) -> markup.Html:
  """Returns a name on the left and its numbers on the right of one line."""
  room = int((WIDTH - 8) / _CHARACTER) - len(words) - 1
  return markup.join(
    markup.tag('text', _clip(label, room), x=2, y=y + 14, class_='halo'),
    markup.tag('text', words, x=WIDTH - 2, y=y + 14, class_='end soft halo'),
  )


def below(label: str, y: float) -> markup.Html | None:
  """Returns the second line of a name; None where there is none."""
  if not label:
    return None
  words = _clip(label, int((WIDTH - 8) / _CHARACTER))
  return markup.tag('text', words, x=2, y=y + 14 + LINE, class_='soft halo')


def legend(
  entries: Sequence[tuple[str, str]], y: float
) -> tuple[markup.Html, float]:
  """Returns the marks with their names, and where the plot may begin."""
  parts, x = [], 2.0
  for label, kind in entries:
    label = _clip(label, 42)
    width = 30 + _CHARACTER * len(label)
    if x > 2 and x + width > WIDTH:
      x, y = 2.0, y + 18
    parts.append(
      markup.tag(
        'g',
        mark(kind, x + 6, y - 4),
        markup.tag('text', label, x=x + 15, y=y),
        class_=kind,
      )
    )
    x += width
  return markup.join(parts), (y + 14 if entries else y - 8)


def upright(
  x: float, top: float, bottom: float, number: int, label: str
) -> markup.Html:
  left = x < (LEFT + RIGHT) / 2
  return markup.join(
    markup.tag('line', x1=x, y1=top, x2=x, y2=bottom, class_='own'),
    markup.tag(
      'text',
      _clip(label, 22),
      x=x + (5 if left else -5),
      y=top + 12 + 16 * number,
      class_='halo' if left else 'halo end',
    ),
  )


def y_axis(
  at: Scale, low: float, high: float, step: float, unit: str
) -> markup.Html:
  return markup.join(
    [
      markup.tag('line', x1=LEFT, y1=at(v), x2=RIGHT, y2=at(v), class_=style),
      markup.tag(
        'text',
        text.axis(v, unit, step),
        x=LEFT - 5,
        y=at(v) + 4,
        class_='soft end',
      ),
    ]
    for v, style in rounding.grid(low, high, step)
  )


def x_axis(
  at: Scale, ticks: Sequence[tuple[float, str]], bottom: float
) -> markup.Html:
  """Returns the tick labels, leaving out those without room."""
  parts, taken = [], -math.inf
  spacing = (at.end - at.start) / max(1, len(ticks) - 1)
  for x, label in ticks:
    label = _clip(label, max(4, int(spacing / _CHARACTER)))
    half = _CHARACTER * len(label) / 2
    if at(x) - half < taken + 2:
      continue
    taken = at(x) + half
    parts.append(
      markup.tag('text', label, x=at(x), y=bottom + 18, class_='soft middle')
    )
  return markup.join(parts)


def whisker(x1: float, y1: float, x2: float, y2: float) -> markup.Html:
  """Returns an upright or level line with a cap at each end."""
  across, up = (0, 4) if y1 == y2 else (4, 0)
  d = f'M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}'
  for x, y in ((x1, y1), (x2, y2)):
    d += f'M{x - across:.1f} {y - up:.1f}L{x + across:.1f} {y + up:.1f}'
  return markup.tag('path', d=d, class_='whisker')


def mark(kind: str, x: float, y: float) -> markup.Html:
  """Returns the mark of a kind: colour alone never tells two apart."""
  if kind in ('wc', 'wc-matched'):
    return markup.tag('circle', cx=x, cy=y, r=4.5, class_='mark')
  outline = [(x + dx, y + dy) for dx, dy in _CORNERS[kind]]
  return markup.tag('path', d=path(outline) + 'Z', class_='mark')


def path(places: Sequence[tuple[float, float]]) -> str:
  return 'M' + 'L'.join(f'{x:.1f} {y:.1f}' for x, y in places)


def _clip(label: str, room: int) -> str:
  label = text.clean(label)
  return label if len(label) <= room else label[: max(1, room - 1)] + '…'
