"""Charts, drawn on a sheet 360 units wide.

A phone shows one unit as one pixel or nearly, and a wide page sets charts side
by side, so that a label of 12.5 units stays readable on both.  Colours come
from the style sheet through the class of a `kind`; no chart needs a script.
Each function returns the figure of the page, which carries its `charts.Chart`.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from wcse_jax.report import charts, drawing, markup, style, text


KINDS = tuple(style.KINDS)

_ESTIMATE = ('value', 'low', 'high', 'n')
_PLOT_HEIGHT = 190
_ROW_HEIGHT = 46


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
  """An estimate at a place of the horizontal axis.

  Attributes:
    x: the place.
    estimate: value, interval and n; None where it was not measured.
    kind: colour of the mark; empty: that of the series.
  """

  x: float
  estimate: dict[str, Any] | None
  kind: str = ''


@dataclasses.dataclass(frozen=True, kw_only=True)
class Series:
  """Points of one thing.

  Attributes:
    label: name in the legend; empty: not in it.
    kind: one of `KINDS`.
    points: in rising order of x.
    style: `band` joins the points and shades the intervals, `whisker` gives
      each point its own.
  """

  label: str
  kind: str
  points: Sequence[Point]
  style: str = 'band'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
  """An estimate with a name, and the single values behind it.

  Attributes:
    label: its name, shortened in the chart where it is long.
    kind: one of `KINDS`.
    estimate: value, interval and n; None where it was not measured.
    dots: values of single runs, drawn as small rings.
  """

  label: str
  kind: str
  estimate: dict[str, Any] | None
  dots: Sequence[float] = ()


def curves(
  name: str,
  title: str,
  caption: str,
  series: Sequence[Series],
  *,
  unit: str,
  x_label: str,
  y_label: str,
  ticks: Sequence[tuple[float, str]],
  log: bool = False,
  categories: bool = False,
  legend: Sequence[tuple[str, str]] | None = None,
  lines: Sequence[tuple[float, str]] = (),
  spans: Sequence[tuple[float, float, float]] = (),
) -> markup.Html | None:
  """Returns a chart of estimates over an axis; None where nothing is measured.

  Args:
    name: of the chart; see `charts.Chart`.
    title: what it shows.
    caption: how to read it.
    series: drawn in order.
    unit: one of `text.UNITS`; the vertical axis holds 0.
    x_label: name of the horizontal axis.
    y_label: name of the vertical axis.
    ticks: places and labels of the horizontal axis.
    log: whether the horizontal axis is logarithmic.
    categories: whether the ticks are names, near which the points lie.
    legend: label and kind of the marks; None: those of the series.
    lines: upright lines with their labels.
    spans: ranges of the horizontal axis at height 0: value, low, high.
  """
  shown = [
    dataclasses.replace(one, points=[p for p in one.points if _has(p.estimate)])
    for one in series
  ]
  shown = [one for one in shown if one.points]
  if not shown:
    return None
  if legend is None:
    legend = [(one.label, one.kind) for one in shown if one.label]
  keys, top = drawing.legend(legend, 33)
  bottom = top + _PLOT_HEIGHT
  height = bottom + 42
  xs = [p.x for one in shown for p in one.points]
  xs += [x for x, _ in ticks] + [x for x, _ in lines]
  at_x = drawing.Scale(
    min(xs), max(xs), drawing.LEFT + 10, drawing.RIGHT - 10, log
  )
  marks = [v for one in shown for p in one.points for v in _ends(p.estimate)]
  low, high, step = drawing.nice(min(0, *marks), max(0, *marks))
  at_y = drawing.Scale(low, high, bottom, top)
  parts = [
    markup.tag('text', y_label, x=2, y=14, class_='soft'),
    keys,
    drawing.y_axis(at_y, low, high, step, unit),
    drawing.x_axis(at_x, ticks, bottom),
    markup.tag(
      'text',
      x_label,
      x=(drawing.LEFT + drawing.RIGHT) / 2,
      y=bottom + 37,
      class_='soft middle',
    ),
  ]
  parts += [_series(one, at_x, at_y, unit) for one in shown]
  for value, start, end in spans:
    start, end = (min(max(v, at_x.low), at_x.high) for v in (start, end))
    parts.append(
      markup.tag(
        'g',
        drawing.whisker(at_x(start), at_y(0), at_x(end), at_y(0)),
        drawing.mark('human', at_x(value), at_y(0))
        if at_x.low <= value <= at_x.high
        else None,
        class_='human',
      )
    )
  for number, (x, label) in enumerate(lines):
    parts.append(drawing.upright(at_x(x), top, bottom, number, label))
  columns, numbers = _table(shown, x_label, legend, lines, spans)
  if categories:
    for row in numbers:
      _, row[1] = min(ticks, key=lambda tick: abs(tick[0] - row[1]))
  return _figure(name, title, caption, height, parts, columns, numbers)


def rows(
  name: str,
  title: str,
  caption: str,
  items: Sequence[Row],
  *,
  unit: str,
  zero: bool = False,
) -> markup.Html | None:
  """Returns a chart of named estimates, each with its whisker and its numbers.

  Args:
    name: of the chart; see `charts.Chart`.
    title: what it shows.
    caption: how to read it.
    items: from top to bottom.
    unit: one of `text.UNITS`.
    zero: whether the axis holds 0.
  """
  values = [v for i in items if _has(i.estimate) for v in _ends(i.estimate)]
  if not values:
    return None
  values += [dot for item in items for dot in item.dots]
  values += [0] if zero else []
  low, high, step = drawing.nice(min(values), max(values))
  at = drawing.Scale(low, high, 22, drawing.WIDTH - 22)
  bottom = len(items) * _ROW_HEIGHT + 6
  parts = []
  for number, item in enumerate(items):
    y = number * _ROW_HEIGHT
    # Only beside the whisker, so that no line crosses the words above it.
    parts += [
      markup.tag('line', x1=at(v), y1=y + 20, x2=at(v), y2=y + 41, class_=style)
      for v, style in drawing.grid(low, high, step)
    ]
    parts.append(_row(item, y, at, unit))
  ticks = [
    (v, text.axis(v, unit, step)) for v, _ in drawing.grid(low, high, step)
  ]
  parts.append(drawing.x_axis(at, ticks, bottom))
  numbers = [
    [
      item.label,
      *_numbers(item.estimate or {}),
      ' '.join(repr(dot) for dot in item.dots),
    ]
    for item in items
  ]
  columns = ['name', *_ESTIMATE, 'runs']
  return _figure(name, title, caption, bottom + 24, parts, columns, numbers)


def bars(
  name: str,
  title: str,
  caption: str,
  items: Sequence[tuple[str, float, str]],
  *,
  unit: str,
) -> markup.Html | None:
  """Returns a bar chart.

  Args:
    name: of the chart; see `charts.Chart`.
    title: what it shows.
    caption: how to read it.
    items: (label, size, size in words), from top to bottom.
    unit: of the sizes; a text of the program.
  """
  largest = max((size for _, size, _ in items), default=0)
  if largest <= 0:
    return None
  parts = []
  for number, (label, size, words) in enumerate(items):
    y = number * _ROW_HEIGHT
    parts += [
      drawing.heading(label, words, y),
      markup.tag(
        'rect',
        x=2,
        y=y + 22,
        width=max(1.0, (drawing.WIDTH - 4) * size / largest),
        height=11,
        class_='bar',
      ),
    ]
  body = markup.tag('g', parts, class_='other')
  height = len(items) * _ROW_HEIGHT
  numbers = [[label, size] for label, size, _ in items]
  return _figure(name, title, caption, height, [body], ['name', unit], numbers)


def powers(low: float, high: float) -> list[tuple[float, str]]:
  """Returns ticks at the powers of 2 from about low to about high."""
  first, last = math.floor(math.log2(low)), math.ceil(math.log2(high))
  return [(2.0**p, text.number(2.0**p)) for p in range(first, last + 1)]


def _figure(
  name: str,
  title: str,
  caption: str,
  height: float,
  parts: Sequence[markup.Child],
  columns: Sequence[str],
  numbers: Sequence[Sequence[Any]],
) -> markup.Html:
  return charts.Chart(
    name=name,
    title=title,
    caption=caption,
    height=height,
    drawn=markup.join(parts),
    columns=columns,
    rows=numbers,
  ).figure()


def _table(
  series: Sequence[Series],
  x_label: str,
  legend: Sequence[tuple[str, str]],
  lines: Sequence[tuple[float, str]],
  spans: Sequence[tuple[float, float, float]],
) -> tuple[list[str], list[list[Any]]]:
  """Returns the heads and the rows of the numbers of `curves`."""
  named = {kind: label for label, kind in legend}
  found = [
    [one.label or named.get(p.kind, ''), p.x, *_numbers(p.estimate), '', '']
    for one in series
    for p in one.points
  ]
  blank = [''] * len(_ESTIMATE)
  found += [[label, x, *blank, '', ''] for x, label in lines]
  found += [['break-even', x, *blank, low, high] for x, low, high in spans]
  columns = ['series', x_label, *_ESTIMATE, 'from', 'to']
  if not spans:
    columns, found = columns[:-2], [row[:-2] for row in found]
  return columns, found


def _numbers(estimate: dict[str, Any]) -> list[float | None]:
  return [estimate.get(key) for key in _ESTIMATE]


def _series(
  one: Series, at_x: drawing.Scale, at_y: drawing.Scale, unit: str
) -> markup.Html:
  places = [(at_x(p.x), at_y(p.estimate['value']), p) for p in one.points]
  parts: list[markup.Child] = []
  if one.style == 'band':
    edges = [
      (x, at_y(p.estimate['low']), at_y(p.estimate['high']))
      for x, _, p in places
      if _bounded(p.estimate)
    ]
    outline = [(x, y) for x, y, _ in edges]
    outline += [(x, y) for x, _, y in reversed(edges)]
    if len(edges) > 1:
      parts.append(
        markup.tag('path', d=drawing.path(outline) + 'Z', class_='band')
      )
    line = drawing.path([(x, y) for x, y, _ in places])
    parts.append(markup.tag('path', d=line, class_='line'))
  for x, y, point in places:
    drawn: list[markup.Child] = []
    if one.style == 'whisker' and _bounded(point.estimate):
      low, high = at_y(point.estimate['low']), at_y(point.estimate['high'])
      drawn.append(drawing.whisker(x, low, x, high))
    kind = point.kind or one.kind
    drawn.append(drawing.mark(kind, x, y))
    words = text.estimate(point.estimate, unit)
    label = f'{one.label}: {words}' if one.label else words
    parts.append(
      markup.tag('g', markup.tag('title', label), drawn, class_=kind)
    )
  return markup.tag('g', parts, class_=one.kind)


def _row(item: Row, y: float, at: drawing.Scale, unit: str) -> markup.Html:
  if not _has(item.estimate):
    words = text.estimate(item.estimate, unit)
    return markup.tag(
      'g', drawing.heading(item.label, words, y), class_=item.kind
    )
  estimate, track = item.estimate, y + 27
  parts: list[markup.Child] = [
    markup.tag('title', f'{item.label}: {text.estimate(estimate, unit)}')
  ]
  value = text.quantity(estimate['value'], unit).removesuffix(' points')
  numbers = f'{value} ({text.interval(estimate, unit)})'
  parts.append(drawing.heading(item.label, numbers, y))
  if _bounded(estimate):
    parts.append(
      drawing.whisker(at(estimate['low']), track, at(estimate['high']), track)
    )
  parts.append(drawing.mark(item.kind, at(estimate['value']), track))
  parts += [
    markup.tag('circle', cx=at(dot), cy=track + 8, r=2.5, class_='run')
    for dot in item.dots
  ]
  return markup.tag('g', parts, class_=item.kind)


def _has(estimate: dict[str, Any] | None) -> bool:
  return estimate is not None and text.known(estimate.get('value'))


def _bounded(estimate: dict[str, Any]) -> bool:
  return text.known(estimate.get('low')) and text.known(estimate.get('high'))


def _ends(estimate: dict[str, Any]) -> list[float]:
  ends = [estimate.get(key) for key in ('low', 'value', 'high')]
  return [end for end in ends if text.known(end)]
