"""Estimates as marks: points of a series, rows, spans of an axis."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from wcse_jax.report import drawing, markup, text


# Marks of a line that would be closer than this are left out.
_MARK = 9


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
    kind: one of `figures.KINDS`.
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
    kind: one of `figures.KINDS`.
    estimate: value, interval and n; None where it was not measured.
    dots: values of single runs, drawn as small rings.
    detail: a second line of its name; empty: none.
  """

  label: str
  kind: str
  estimate: dict[str, Any] | None
  dots: Sequence[float] = ()
  detail: str = ''

  @property
  def name(self) -> str:
    """Both lines of its name in one."""
    return f'{self.label}: {self.detail}' if self.detail else self.label

  @property
  def shift(self) -> float:
    """How much lower its whisker is for the second line."""
    return drawing.LINE if self.detail else 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Span:
  """A place of the horizontal axis that is known with an interval.

  Attributes:
    value: the place.
    low: where its interval begins.
    high: where it ends.
    at: how high it is drawn.
  """

  value: float
  low: float
  high: float
  at: float = 0.0


def span(one: Span, at_x: drawing.Scale, at_y: drawing.Scale) -> markup.Html:
  """Returns the whisker of a span, and its mark where it is on the axis."""
  start, end = (min(max(v, at_x.low), at_x.high) for v in (one.low, one.high))
  y = at_y(one.at)
  inside = at_x.low <= one.value <= at_x.high
  return markup.tag(
    'g',
    drawing.whisker(at_x(start), y, at_x(end), y),
    drawing.mark('human', at_x(one.value), y) if inside else None,
    class_='human',
  )


def series(
  one: Series, at_x: drawing.Scale, at_y: drawing.Scale, unit: str
) -> markup.Html:
  """Returns the marks of a series, with its line and its band."""
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
  taken, before = -math.inf, ''
  for x, y, point in places:
    kind = point.kind or one.kind
    if one.style == 'band' and kind == before and x - taken < _MARK:
      continue
    taken, before = x, kind
    drawn: list[markup.Child] = []
    if one.style == 'whisker' and _bounded(point.estimate):
      low, high = at_y(point.estimate['low']), at_y(point.estimate['high'])
      drawn.append(drawing.whisker(x, low, x, high))
    drawn.append(drawing.mark(kind, x, y))
    words = text.estimate(point.estimate, unit)
    label = f'{one.label}: {words}' if one.label else words
    parts.append(
      markup.tag('g', markup.tag('title', label), drawn, class_=kind)
    )
  return markup.tag('g', parts, class_=one.kind)


def row(item: Row, y: float, at: drawing.Scale, unit: str) -> markup.Html:
  """Returns the line of a row: its name, its numbers, its whisker."""
  if not has(item.estimate):
    words = text.estimate(item.estimate, unit)
    return markup.tag(
      'g',
      drawing.heading(item.label, words, y),
      drawing.below(item.detail, y),
      class_=item.kind,
    )
  estimate, track = item.estimate, y + 27 + item.shift
  parts: list[markup.Child] = [
    markup.tag('title', f'{item.name}: {text.estimate(estimate, unit)}')
  ]
  value = text.quantity(estimate['value'], unit).removesuffix(' points')
  numbers = f'{value} ({text.interval(estimate, unit)})'
  parts.append(drawing.heading(item.label, numbers, y))
  parts.append(drawing.below(item.detail, y))
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


def has(estimate: dict[str, Any] | None) -> bool:
  """Returns whether there is a value to draw."""
  return estimate is not None and text.known(estimate.get('value'))


def _bounded(estimate: dict[str, Any]) -> bool:
  return text.known(estimate.get('low')) and text.known(estimate.get('high'))


def ends(estimate: dict[str, Any]) -> list[float]:
  """Returns what of a value and its interval is known."""
  ends = [estimate.get(key) for key in ('low', 'value', 'high')]
  return [end for end in ends if text.known(end)]
