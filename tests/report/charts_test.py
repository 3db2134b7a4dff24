"""Charts as files: each stands alone, and holds what the page shows."""

import csv
import io
import xml.etree.ElementTree

import hostile
import pytest

from wcse_jax import audits
from wcse_jax.report import charts, figures, html, markup, plots, style


_SVG = '{http://www.w3.org/2000/svg}'


def _chart(**changes):
  fields = {
    'name': 'a-chart',
    'title': 'Title',
    'caption': 'Caption',
    'height': 40,
    'drawn': markup.tag('text', 'words', x=1, y=2),
    'columns': ['name', 'value'],
    'rows': [['a', 0.1 + 0.2], ['b', None]],
  }
  return charts.Chart(**{**fields, **changes})


def _read(source):
  return list(csv.reader(io.StringIO(source, newline='')))


def test_figures_carry_their_charts_into_what_holds_them():
  made = [_chart(name=name).figure() for name in ('one', 'two')]
  page = markup.tag('div', 'text', [made[0], None], markup.join(made[1]))
  assert [chart.name for chart in page.charts] == ['one', 'two']
  assert markup.tag('p', 'text').charts == ()


@pytest.mark.parametrize('name', ['', 'a b', 'A', '../a', 'a--b', 'a.svg'])
def test_names_that_are_no_file_names_are_refused(name):
  with pytest.raises(ValueError, match='lower-case letters'):
    _chart(name=name)


def test_two_charts_of_one_name_are_refused(tmp_path):
  with pytest.raises(ValueError, match="'a-chart' is taken"):
    charts.publish([_chart(), _chart()], str(tmp_path))
  assert not (tmp_path / 'figures').exists()


def test_files_of_charts_that_are_gone_are_removed(tmp_path):
  charts.publish([_chart(), _chart(name='other')], str(tmp_path))
  charts.publish([_chart(title='New')], str(tmp_path))
  names = sorted(path.name for path in (tmp_path / 'figures').iterdir())
  assert names == ['a-chart.csv', 'a-chart.svg']
  assert 'New' in (tmp_path / 'figures' / 'a-chart.svg').read_text()


def test_numbers_are_written_in_full():
  assert _read(_chart().csv()) == [
    ['name', 'value'],
    ['a', '0.30000000000000004'],
    ['b', ''],
  ]


def test_curves_give_points_marked_places_and_spans():
  def estimate(value):
    return {'value': value, 'low': 0.1, 'high': 0.9, 'n': 64}

  [chart] = figures.curves(
    'a-chart',
    'Title',
    'Caption',
    [
      plots.Series(
        label='WC',
        kind='wc',
        points=[plots.Point(x=1, estimate=estimate(0.5))],
      ),
      plots.Series(
        label='',
        kind='human',
        points=[plots.Point(x=2, estimate=estimate(0.25), kind='se')],
      ),
    ],
    unit='percent',
    x_label='samples',
    y_label='y',
    ticks=[(1, '1'), (4, '4')],
    legend=[('SE ahead', 'se')],
    lines=[(3, 'this pair')],
    spans=[plots.Span(value=2.5, low=2, high=3)],
  ).charts
  assert _read(chart.csv()) == [
    ['series', 'samples', 'value', 'low', 'high', 'n', 'from', 'to'],
    ['WC', '1', '0.5', '0.1', '0.9', '64', '', ''],
    ['SE ahead', '2', '0.25', '0.1', '0.9', '64', '', ''],
    ['this pair', '3', '', '', '', '', '', ''],
    ['break-even', '2.5', '', '', '', '', '2', '3'],
  ]


def test_every_chart_of_the_page_has_its_files(results, tmp_path):
  html.write(results, str(tmp_path))
  page = (tmp_path / 'index.html').read_text()
  found = {path.name for path in (tmp_path / 'figures').iterdir()}
  assert len(found) == 2 * page.count('<figure>') > 20
  for name in found:
    assert page.count(f'"figures/{name}"') == 1
  for path in (tmp_path / 'figures').glob('*.svg'):
    root = xml.etree.ElementTree.fromstring(path.read_bytes())
    assert root.tag == f'{_SVG}svg'
    assert [one.text for one in root.iter(f'{_SVG}style')] == [style.ALONE]
    # No colour is left to a page around it.
    assert 'var(' not in path.read_text()
    assert not [
      value
      for one in root.iter()
      for name, value in one.attrib.items()
      if 'href' in name or name.startswith('on')
    ]
  for path in (tmp_path / 'figures').glob('*.csv'):
    head, *rows = _read(path.read_text())
    assert rows
    assert {len(row) for row in rows} == {len(head)}


def test_hostile_text_is_text_in_the_files():
  rows = [
    plots.Row(
      label=text,
      kind='wc',
      estimate={'value': 0.5, 'low': 0.4, 'high': 0.6, 'n': 9},
    )
    for text in [*hostile.TEXTS, 'a\0\ud800\ufffe\r\nb']
  ]
  [chart] = figures.rows(
    'a-chart', hostile.TEXTS[0], hostile.TEXTS[1], rows, unit='percent'
  ).charts
  root = xml.etree.ElementTree.fromstring(chart.svg())
  assert {one.tag.removeprefix(_SVG) for one in root.iter()} == {
    *('svg', 'title', 'desc', 'style', 'rect', 'text', 'g', 'path'),
    *('line', 'circle'),
  }
  titles = [one.text for one in root.iter(f'{_SVG}title')]
  for text in hostile.TEXTS:
    assert f'{text}: 50.0% (40.0 to 60.0, n = 9)' in titles
  _, *cells = _read(chart.csv())
  assert len(cells) == len(rows)
  for (cell, *_), text in zip(cells, hostile.TEXTS):
    assert audits.decode(cell) == ' '.join(text.split())
    assert cell.lstrip()[:1] not in tuple('=+-@\uff1d\uff0b\uff0d\uff20')


def test_charts_alone_are_drawn_by_a_browser(chromium, results, tmp_path):
  html.write(results, str(tmp_path))
  page = chromium.page(width=800, height=900, scheme='dark')
  page.open(tmp_path / 'figures' / 'curve-coverage.svg')
  found = page.evaluate("""(() => {
    const of = name => getComputedStyle(document.querySelector(name));
    return [of('.wc > .line').stroke, of('.se > .line').strokeDasharray,
      of('.sheet').fill, of('.heading').fontSize];
  })()""")
  assert found == ['rgb(0, 105, 168)', '6px, 3px', 'rgb(255, 255, 255)', '14px']
  boxes = page.evaluate("""(() => {
    const sheet = document.querySelector('.sheet').getBoundingClientRect();
    return [...document.querySelectorAll('text')].filter(one => {
      const box = one.getBoundingClientRect();
      return box.right > sheet.right || box.bottom > sheet.bottom;
    }).map(one => one.textContent);
  })()""")
  assert boxes == []
  assert page.errors == []
