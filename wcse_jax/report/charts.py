"""A chart with the numbers behind it: on the page, as SVG and as CSV."""

import dataclasses
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from wcse_jax import audits, storage
from wcse_jax.report import drawing, markup, style, text


# Where the files of charts lie, beside the page.
FOLDER = 'figures'
_NAME = re.compile(r'[a-z0-9]+(-[a-z0-9]+)*')
# Characters of a line of the title and of the caption, and their heights.
_TITLE, _TITLE_HEIGHT = 44, 19
_CAPTION, _CAPTION_HEIGHT = 56, 16
# Around a chart that stands alone.
_EDGE = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chart:
  """What is drawn, and the numbers that it was drawn from.

  Attributes:
    name: makes ids and file names; lower-case letters, digits and hyphens,
      unique on the page.
    title: what it shows.
    caption: how to read it.
    height: of the drawing, in units of the sheet.
    drawn: what is on the sheet.
    columns: heads of the numbers; texts of the program, not of the study.
    rows: the numbers; texts and None are cells too.
    place: value of the horizontal axis -> where it is on the sheet, of charts
      that have such an axis.
  """

  name: str
  title: str
  caption: str
  height: float
  drawn: markup.Html
  columns: Sequence[str]
  rows: Sequence[Sequence[Any]]
  place: Callable[[float], float] | None = None

  def __post_init__(self):
    if not _NAME.fullmatch(self.name):
      raise ValueError(
        'name: wanted lower-case letters, digits and hyphens; '
        f'got {self.name!r}.'
      )

  def figure(self) -> markup.Html:
    """Returns the figure of the page, with links to its files."""
    made = markup.tag(
      'figure',
      markup.tag('p', self.title, class_='title'),
      markup.tag(
        'svg', self._named(), self.drawn, **self._frame(0, 0, self.height)
      ),
      markup.tag(
        'figcaption',
        self.caption,
        ' ',
        markup.tag('a', 'SVG', href=f'{FOLDER}/{self.name}.svg'),
        ' ',
        markup.tag('a', 'CSV', href=f'{FOLDER}/{self.name}.csv'),
      ),
    )
    return markup.Html(made, [self])

  def svg(self) -> str:
    """Returns the chart with title and caption as a file that needs no other.

    It is light, whatever the reader's colours are.
    """
    title = _wrap(self.title, _TITLE)
    caption = _wrap(self.caption, _CAPTION)
    top = len(title) * _TITLE_HEIGHT + 8
    height = top + self.height + len(caption) * _CAPTION_HEIGHT + 8
    width = drawing.WIDTH + 2 * _EDGE
    made = markup.tag(
      'svg',
      self._named(),
      markup.tag('style', markup.raw(style.ALONE)),
      markup.tag(
        'rect', x=-_EDGE, y=-top, width=width, height=height, class_='sheet'
      ),
      [
        _line(words, _TITLE_HEIGHT * (at + 1) - top, 'heading')
        for at, words in enumerate(title)
      ],
      self.drawn,
      [
        _line(words, self.height + _CAPTION_HEIGHT * (at + 1), 'caption')
        for at, words in enumerate(caption)
      ],
      xmlns='http://www.w3.org/2000/svg',
      width=2 * width,
      height=2 * height,
      **self._frame(_EDGE, top, height),
    )
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{made}\n'

  def csv(self) -> str:
    """Returns the numbers; no cell is taken for a formula by a spreadsheet."""
    lines = [self.columns, *([_cell(one) for one in row] for row in self.rows)]
    return ''.join(map(audits.line, lines))

  def _named(self) -> markup.Html:
    return markup.join(
      markup.tag('title', self.title, id=f'{self.name}-title'),
      markup.tag('desc', self.caption, id=f'{self.name}-desc'),
    )

  def _frame(self, edge: float, top: float, height: float) -> dict[str, str]:
    """Returns the attributes of a sheet with an edge and room above."""
    width = drawing.WIDTH + 2 * edge
    return {
      'viewBox': f'{-edge:.0f} {-top:.0f} {width:.0f} {height:.0f}',
      'role': 'img',
      'aria_labelledby': f'{self.name}-title {self.name}-desc',
    }


def publish(charts: Iterable[Chart], folder: str) -> None:
  """Writes the files of charts to `folder/figures/`; older ones are removed.

  Raises:
    OSError: if they cannot be written.
    ValueError: if two charts have one name.
  """
  place = storage.join(folder, FOLDER)
  files = {}
  for chart in charts:
    if f'{chart.name}.svg' in files:
      raise ValueError(f'name: wanted another name; {chart.name!r} is taken.')
    files[f'{chart.name}.svg'] = chart.svg()
    files[f'{chart.name}.csv'] = chart.csv()
  for name, content in files.items():
    storage.publish(storage.join(place, name), content)
  for name in storage.names(place):
    if name not in files:
      storage.remove(storage.join(place, name))


def _line(words: str, y: float, kind: str) -> markup.Html:
  return markup.tag('text', words, x=0, y=y, class_=kind)


def _wrap(words: str, width: int) -> list[str]:
  return textwrap.wrap(text.clean(words), width)


def _cell(value: Any) -> str:
  """Returns a cell: a number in full, a text made safe, nothing for None."""
  if value is None:
    return ''
  if isinstance(value, (int, float)):
    return repr(value) if text.known(value) else ''
  return audits.encode(' '.join(text.clean(value).split()))
