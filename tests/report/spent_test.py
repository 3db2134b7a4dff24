"""Coverage against cost: one chart a currency, in work, time or money."""

import pytest

from wcse_jax.report import spent


def _charts(results):
  return {chart.title: chart for chart in spent.charts(results).charts}


def _rows(chart, series):
  return [row for row in chart.rows if row[0] == series]


def test_each_currency_has_its_chart(results):
  found = _charts(results)
  assert list(found) == [
    f'Coverage against {what}'
    for what in (
      *('cost by parameters', 'exact FLOPs', 'drawn tokens', 'chip time'),
      'money',
    )
  ]
  flops = found['Coverage against exact FLOPs']
  k = [row['k'] for row in results['curves']['wc']['coverage']]
  assert [row[1] for row in _rows(flops, 'WC')] == [1.1e8 * n for n in k]
  assert _rows(flops, 'SE, hotter')[0][1] == pytest.approx(1.1e8 * 3.05 * 1.1)
  # Parameters are counted in samples of SE.
  relative = found['Coverage against cost by parameters']
  assert _rows(relative, 'SE')[0][1] == 1
  assert _rows(relative, 'WC')[0][1] == pytest.approx(1 / 2.98)


def test_money_is_of_as_many_problems_as_makes_it_readable(results):
  money = _charts(results)['Coverage against money']
  # A sample of SE costs 5.16e-8 dollars.
  assert money.columns[1] == 'US dollars per 1,000,000 problems'
  assert _rows(money, 'SE')[0][1] == pytest.approx(5.16e-2)


def test_budgets_and_break_even_are_marked(results):
  chart = _charts(results)['Coverage against exact FLOPs']
  assert _rows(chart, 'low budget')[0][1] == pytest.approx(1.1e8 * 3.05)
  assert _rows(chart, 'high budget')[0][1] == pytest.approx(4 * 1.1e8 * 3.05)
  # The low budget has no break-even.
  [even] = _rows(chart, 'break-even')
  want = [ratio * 4 * 1.1e8 for ratio in (3.31, 2.72, 4.12)]
  assert [even[1], *even[-2:]] == pytest.approx(want)


def test_without_costs_parameters_are_taken(results):
  del results['currencies']
  [chart] = spent.charts(results).charts
  assert chart.title == 'Coverage against cost by parameters'
  assert _rows(chart, 'WC')[0][1] == pytest.approx(913_408 / 2_721_792)
  del results['models']
  assert spent.charts(results) is None
