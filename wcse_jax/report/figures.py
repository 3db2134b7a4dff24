"""Charts, drawn on a sheet 360 units wide.

A phone shows one unit as one pixel or nearly, and a wide page sets charts side
by side, so that a label of 12.5 units stays readable on both.  Colours come
from the style sheet through the class of a `kind`; no chart needs a script.
Each function returns the figure of the page, which carries its `charts.Chart`.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from wcse_jax.report import (
  charts,
  drawing,
  markup,
  plots,
  rounding,
  style,
  text,
)


KINDS = tuple(style.KINDS)

_ESTIMATE = ('value', 'low', 'high', 'n')
_PLOT_HEIGHT = 190
_ROW_HEIGHT = 46


def curves(
  name: str,
  title: str,
  caption: str,
  series: Sequence[plots.Series],
  *,
  unit: str,
  x_label: str,
  y_label: str,
  ticks: Sequence[tuple[float, str]],
  log: bool = False,
  categories: bool = False,
  legend: Sequence[tuple[str, str]] | None = None,
  lines: Sequence[tuple[float, str]] = (),
  spans: Sequence[plots.Span] = (),
  cursor: float | None = None,
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
    spans: break-even points.
    cursor: place of the line that a script may move; None for no such line.
  """
  shown = [
    dataclasses.replace(
      one, points=[p for p in one.points if plots.has(p.estimate)]
    )
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
  marks = [
    v for one in shown for p in one.points for v in plots.ends(p.estimate)
  ]
  low, high, step = rounding.nice(min(0, *marks), max(0, *marks))
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
  parts += [plots.series(one, at_x, at_y, unit) for one in shown]
  parts += [plots.span(one, at_x, at_y) for one in spans]
  for number, (x, label) in enumerate(lines):
    parts.append(drawing.upright(at_x(x), top, bottom, number, label))
  if cursor is not None:
    x = at_x(cursor)
    parts.append(
      markup.tag('line', x1=x, y1=top, x2=x, y2=bottom, class_='cursor')
    )
  columns, numbers = _table(shown, x_label, legend, lines, spans)
  if categories:
    for row in numbers:
      _, row[1] = min(ticks, key=lambda tick: abs(tick[0] - row[1]))
  return _figure(name, title, caption, height, parts, columns, numbers, at_x)


def rows(
  name: str,
  title: str,
  caption: str,
  items: Sequence[plots.Row],
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
  values = [
    v for i in items if plots.has(i.estimate) for v in plots.ends(i.estimate)
  ]
  if not values:
    return None
  values += [dot for item in items for dot in item.dots]
  values += [0] if zero else []
  low, high, step = rounding.nice(min(values), max(values))
  at = drawing.Scale(low, high, 22, drawing.WIDTH - 22)
  parts, y = [], 0.0
  for item in items:
    # Only beside the whisker, so that no line crosses the words above it.
    parts += [
      markup.tag(
        'line',
        x1=at(v),
        y1=y + item.shift + 20,
        x2=at(v),
        y2=y + item.shift + 41,
        class_=style,
      )
      for v, style in rounding.grid(low, high, step)
    ]
    parts.append(plots.row(item, y, at, unit))
    y += _ROW_HEIGHT + item.shift
  bottom = y + 6
  ticks = [
    (v, text.axis(v, unit, step)) for v, _ in rounding.grid(low, high, step)
  ]
  parts.append(drawing.x_axis(at, ticks, bottom))
  numbers = [
    [
      item.name,
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


def _figure(
  name: str,
  title: str,
  caption: str,
  height: float,
  parts: Sequence[markup.Child],
  columns: Sequence[str],
  numbers: Sequence[Sequence[Any]],
  place: Callable[[float], float] | None = None,
) -> markup.Html:
  return charts.Chart(
    name=name,
    title=title,
    caption=caption,
    height=height,
    drawn=markup.join(parts),
    columns=columns,
    rows=numbers,
    place=place,
  ).figure()


def _table(
  series: Sequence[plots.Series],
  x_label: str,
  legend: Sequence[tuple[str, str]],
  lines: Sequence[tuple[float, str]],
  spans: Sequence[plots.Span],
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
  for one in spans:
    found.append(['break-even', one.value, *blank, one.low, one.high])
  columns = ['series', x_label, *_ESTIMATE, 'from', 'to']
  if not spans:
    columns, found = columns[:-2], [row[:-2] for row in found]
  return columns, found


def _numbers(estimate: dict[str, Any]) -> list[float | None]:
  return [estimate.get(key) for key in _ESTIMATE]
