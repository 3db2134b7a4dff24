import re

import pytest

from wcse_jax.report import drawing, figures, plots


def _estimate(value, low=None, high=None, n=64):
  return {'value': value, 'low': low, 'high': high, 'n': n}


def _curves(series, **options):
  return figures.curves(
    'a-chart',
    'Title',
    'Caption',
    series,
    unit='percent',
    x_label='x',
    y_label='y',
    ticks=[(1, '1'), (4, '4')],
    **options,
  )


def _series(points, style='band', kind='wc'):
  return plots.Series(
    label='WC',
    kind=kind,
    style=style,
    points=[plots.Point(x=x, estimate=e) for x, e in points],
  )


def test_nothing_measured_gives_no_chart():
  assert _curves([_series([(1, None), (2, _estimate(None))])]) is None
  row = plots.Row(label='a', kind='wc', estimate=None)
  assert figures.rows('r', 'T', 'c', [row], unit='percent') is None
  assert figures.bars('b', 'T', 'c', [('a', 0, '0')], unit='s') is None
  assert figures.bars('b', 'T', 'c', [], unit='s') is None


def test_places_on_a_chart_follow_the_values():
  chart = _curves(
    [_series([(x, _estimate(x / 10)) for x in (1, 2, 4)])], log=True
  )
  marks = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="4.5"', chart)
  # The first is in the legend.
  x, y = zip(*((float(a), float(b)) for a, b in marks[1:]))
  # Equal ratios are equally far apart on a logarithmic axis.
  assert x[1] - x[0] == pytest.approx(x[2] - x[1], abs=0.02)
  # Twice the value is twice as high above 0, which is the lowest line.
  base = float(re.search(r'y1="([\d.]+)"[^>]*class="zero"', chart)[1])
  assert base - y[1] == pytest.approx(2 * (base - y[0]), abs=0.02)
  assert base - y[2] == pytest.approx(4 * (base - y[0]), abs=0.02)


def test_intervals_are_drawn_where_there_are_any():
  with_ends = [(1, _estimate(0.5, 0.4, 0.6)), (4, _estimate(0.6, 0.5, 0.7))]
  without = [(x, _estimate(e['value'])) for x, e in with_ends]
  assert 'class="band"' in _curves([_series(with_ends)])
  assert 'class="band"' not in _curves([_series(without)])
  whiskers = _curves([_series(with_ends, 'whisker')])
  assert whiskers.count('class="whisker"') == 2
  assert 'class="whisker"' not in _curves([_series(without, 'whisker')])


def test_each_mark_tells_its_numbers():
  chart = _curves([_series([(1, _estimate(0.5, 0.4, 0.6))])])
  assert '<title>WC: 50.0% (40.0 to 60.0, n = 64)</title>' in chart


def test_rows_show_label_value_and_single_runs():
  chart = figures.rows(
    'r',
    'T',
    'c',
    [
      plots.Row(
        label='one', kind='se', estimate=_estimate(0.5, 0.4, 0.6), dots=(0.45,)
      ),
      plots.Row(label='two', kind='wc', estimate=None),
    ],
    unit='percent',
  )
  assert '>50.0% (40.0 to 60.0)</text>' in chart
  assert '>not measured</text>' in chart
  assert chart.count('class="run"') == 1


def test_long_labels_are_shortened_in_the_chart_alone():
  label = 'long ' * 30
  row = plots.Row(label=label, kind='wc', estimate=_estimate(0.5, 0.4, 0.6))
  chart = figures.rows('r', 'T', 'c', [row], unit='percent')
  assert f'<title>{label}: 50.0%' in chart
  assert f'>{label}<' not in chart
  assert '…</text>' in chart


@pytest.mark.parametrize('kind', figures.KINDS)
def test_kinds_differ_in_shape_or_filling(kind):
  shapes = {drawing.mark(other, 0.0, 0.0) for other in figures.KINDS}
  # `wc-matched` is a circle as `wc`, but hollow.
  assert len(shapes) == len(figures.KINDS) - 1
  assert 'class="mark"' in drawing.mark(kind, 0.0, 0.0)


def test_a_tick_that_is_a_name_stands_for_the_points_near_it():
  points = [(x, _estimate(0.5)) for x in (-0.1, 0.1, 0.9)]
  [chart] = figures.curves(
    'a-chart',
    'Title',
    'Caption',
    [_series(points)],
    unit='percent',
    x_label='level',
    y_label='y',
    ticks=[(0, 'easy'), (1, 'hard')],
    categories=True,
  ).charts
  assert [row[1] for row in chart.rows] == ['easy', 'easy', 'hard']
