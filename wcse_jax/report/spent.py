"""Coverage against what it cost, in each currency."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wcse_jax.report import figures, markup, names, plots, rounding, text


@dataclasses.dataclass(frozen=True)
class _Currency:
  """How an axis counts.

  Attributes:
    title: what coverage is held against.
    x_label: name of the axis.
    relative: whether costs are counted in SE samples.
    per: problems whose cost is shown: the first for which an SE sample costs a
      hundredth or more.
    form: gives the label of a tick.
  """

  title: str
  x_label: str
  relative: bool = False
  per: Sequence[float] = (1,)
  form: Callable[[float], str] = text.number


_CURRENCIES = {
  'params': _Currency(
    'cost by parameters',
    'cost per problem (1 = one SE sample)',
    relative=True,
  ),
  'flops': _Currency(
    'exact FLOPs', 'FLOPs per problem', form=lambda v: text.scaled(v)
  ),
  'tokens': _Currency('drawn tokens', 'drawn tokens per problem'),
  'chip_seconds': _Currency('chip time', 'chip-seconds per problem'),
  'usd': _Currency(
    'money', 'US dollars per {} problems', per=(1, 1e3, 1e6, 1e9)
  ),
}


def charts(results: names.Results) -> markup.Html | None:
  """Returns a chart for each currency; None where there is no curve or cost."""
  drawn = [
    chart
    for number, row in enumerate(_costs(results))
    if (chart := _chart(results, number, row)) is not None
  ]
  if not drawn:
    return None
  return markup.join(
    markup.tag('h3', 'Against what it costs'),
    markup.tag(
      'p',
      'The same coverage over the cost of the samples: where one curve is '
      'above another, that model covers more for the same work, time or money. '
      'Which one it is can depend on what is counted.',
      class_='lead',
    ),
    markup.tag('div', drawn, class_='grid pairs'),
  )


def curve(
  results: names.Results,
  role: str,
  rows: list[dict[str, Any]] | None,
  cost: float = 1.0,
) -> plots.Series:
  """Returns a model's curve over k times the cost of a sample."""
  points = [
    plots.Point(x=row['k'] * cost, estimate=row)
    for row in rows or []
    if row and text.known(row.get('value'))
  ]
  return plots.Series(
    label=names.role(results, role),
    kind=names.kind(results, role),
    points=points,
  )


def _costs(results: names.Results) -> list[Mapping[str, Any]]:
  """Returns what a sample costs in each currency, parameters at least."""
  rows = [row for row in results.get('currencies') or [] if row]
  if rows:
    return rows
  models = results.get('models') or {}
  return [
    {
      'currency': 'params',
      **{
        role: (models.get(role) or {}).get('parameters')
        for role in names.sampled(results)
      },
    }
  ]


def _chart(
  results: names.Results, number: int, row: Mapping[str, Any]
) -> markup.Html | None:
  found = str(row.get('currency'))
  currency = _CURRENCIES.get(found) or _Currency(found, 'cost per problem')
  costs = {
    role: row[role]
    for role in names.sampled(results)
    if text.known(row.get(role)) and row[role] > 0
  }
  if 'se' not in costs or 'wc' not in costs:
    return None
  fits = [per for per in currency.per if costs['se'] * per >= 0.01]
  unit = (fits or currency.per[-1:])[0]
  x_label = currency.x_label.replace('{}', text.count(unit))
  if currency.relative:
    unit = 1 / costs['se']
  curves = results.get('curves') or {}
  series = [
    curve(results, role, (curves.get(role) or {}).get('coverage'), cost * unit)
    for role, cost in costs.items()
  ]
  points = [p for one in series for p in one.points]
  if not points:
    return None
  low, high = min(p.x for p in points), max(p.x for p in points)
  budgets = [b for b in names.budgets(results) if b.get('se')]
  spans = [
    span
    for b in budgets
    if (span := _even(results, b, costs['wc'] * unit)) is not None
  ]
  even = (
    ' Diamonds: what WC needs to cover as much as SE does at a budget, with '
    'its 95%.'
    if spans
    else ''
  )
  ticks = (
    rounding.powers(low, high)
    if currency.relative
    else rounding.decades(low, high, currency.form)
  )
  return figures.curves(
    f'spent-{number}',
    f'Coverage against {currency.title}',
    f'Dotted: what the SE samples of the budgets cost.{even} Bands: 95%; '
    f'{text.problems(p.estimate for p in points)} problems.',
    series,
    unit='percent',
    x_label=x_label,
    y_label='problems with a right sample',
    ticks=ticks,
    log=True,
    lines=[
      (b['se'] * costs['se'] * unit, f'{b["name"]} budget') for b in budgets
    ],
    spans=spans,
  )


def _even(
  results: names.Results, budget: Mapping[str, Any], cost: float
) -> plots.Span | None:
  """Returns what WC must spend to cover what SE covers at a budget."""
  even = (results.get('break_even') or {}).get(budget['name']) or {}
  curve = ((results.get('curves') or {}).get('se') or {}).get('coverage') or []
  covered = next((r for r in curve if r and r['k'] == budget['se']), None)
  ends = [even.get(key) for key in ('ratio', 'low', 'high')]
  if covered is None or not all(map(text.known, ends)):
    return None
  if not text.known(covered.get('value')):
    return None
  value, low, high = (end * budget['se'] * cost for end in ends)
  return plots.Span(value=value, low=low, high=high, at=covered['value'])
