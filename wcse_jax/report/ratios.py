"""The outcome at other cost ratios than the pair's own."""

from collections.abc import Mapping, Sequence
from typing import Any

from wcse_jax.report import figures, markup, names, plots, text


_VERDICTS = {'weak': ('WC ahead', 'wc'), 'strong': ('SE ahead', 'se')}
_TICKS = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 7, 10, 15, 20)


def ratios(results: names.Results) -> markup.Html:
  """Returns the outcome over a range of cost ratios."""
  rows = [row for row in results.get('ratios') or [] if row]
  if not rows:
    return markup.absent('The outcome over cost ratios')
  models = results.get('models') or {}
  weak, strong = (
    (models.get(role) or {}).get('name') or names.role(results, role)
    for role in ('wc', 'se')
  )
  order = list(dict.fromkeys(str(row.get('budget')) for row in rows))
  # The dial has drawn them, with more ratios.
  dialled = {str(row.get('budget')) for row in results.get('dial') or [] if row}
  charts, lines, tables = [], [], []
  for number, budget in enumerate(order):
    own = [row for row in rows if str(row.get('budget')) == budget]
    own.sort(key=lambda row: row['ratio'])
    even = (results.get('break_even') or {}).get(budget)
    if budget not in dialled:
      charts.append(chart(f'ratios-{number}', budget, own, even))
    lines.append(_break_even(budget, own, even))
    tables.append(table(f'The numbers of the {budget} budget', own))
  return markup.join(
    markup.tag(
      'p',
      f'How much cheaper than {strong} must {weak} be? The same samples are '
      'used again as if a sample of SE cost 1.2 to 5 times one of WC: the '
      'budget then buys more or fewer samples of WC, rounded down.',
    ),
    markup.tag('ul', lines),
    markup.tag('div', charts, class_='grid') if charts else None,
    tables,
  )


def verdict(verdict: str | None) -> tuple[str, str]:
  """Returns a verdict in words, and its kind."""
  return _VERDICTS.get(verdict or '', (verdict or 'not measured', 'other'))


def chart(
  name: str,
  budget: str,
  rows: Sequence[Mapping[str, Any]],
  even: Mapping[str, Any] | None,
  *,
  own: float | None = None,
  cursor: float | None = None,
) -> markup.Html | None:
  """Returns the gap over the cost ratio, coloured by who is ahead.

  Args:
    name: of the chart.
    budget: its name.
    rows: by rising ratio.
    even: the break-even ratio with its interval; None where there is none.
    own: this pair's ratio; None to take that of the row that is `actual`.
    cursor: see `figures.curves`.
  """
  points = [
    plots.Point(
      x=row['ratio'],
      estimate=row.get('gap'),
      kind=verdict(row.get('verdict'))[1],
    )
    for row in rows
  ]
  # A span without ends cannot be drawn; the line above the chart speaks of it.
  spans = [
    plots.Span(value=even['ratio'], low=even['low'], high=even['high'])
    for even in [even]
    if even and all(text.known(even.get(k)) for k in ('ratio', 'low', 'high'))
  ]
  legend = [('WC ahead', 'wc'), ('SE ahead', 'se'), ('cannot tell', 'other')]
  if own is None:
    own = next((row['ratio'] for row in rows if row.get('actual')), None)
  lines = [] if own is None else [(own, f'this pair: {text.number(own)}')]
  even_words = ' Diamond: break-even, with its 95%.' if spans else ''
  low, high = points[0].x, points[-1].x
  ticks = [t for t in _TICKS if low <= t <= high] or [low, high]
  return figures.curves(
    name,
    f'Gap over cost ratio, {budget} budget',
    'Coverage of WC − SE at equal cost; above 0 WC is ahead. Band: 95%; '
    f'{text.problems(p.estimate for p in points)} problems.'
    f'{" Dotted: the ratio of this pair." if lines else ""}{even_words}',
    [plots.Series(label='', kind='human', points=points)],
    unit='points',
    x_label='cost of an SE sample over a WC sample',
    y_label='points of coverage',
    ticks=[(t, text.number(t)) for t in ticks],
    log=True,
    legend=legend,
    lines=lines,
    spans=spans,
    cursor=cursor,
  )


def _break_even(
  budget: str, rows: list[dict[str, Any]], even: dict[str, Any] | None
) -> markup.Html:
  tried = f'{text.number(rows[0]["ratio"])} to {text.number(rows[-1]["ratio"])}'
  n = text.problems(row.get('gap') for row in rows)
  if not even or not text.known(even.get('ratio')):
    words = f'no break-even between the ratios {tried} could be found'
  else:
    words = (
      f'both are even where SE costs {text.number(even["ratio"])} times WC '
      f'({text.interval(even, "number")}, {n})'
    )
  own = next((row for row in rows if row.get('actual')), None)
  parts: list[markup.Child] = [f'{budget} budget: {words}']
  if own:
    parts += [
      f"; at this pair's own ratio, {text.number(own['ratio'])}: ",
      markup.tag('b', verdict(own.get('verdict'))[0]),
    ]
  return markup.tag('li', parts, '.')


def table(title: str, rows: Sequence[Mapping[str, Any]]) -> markup.Html:
  """Returns the outcome at each ratio, folded."""
  cells = []
  for row in rows:
    words, kind = verdict(row.get('verdict'))
    ratio: markup.Child = text.number(row['ratio'])
    if row.get('actual'):
      ratio = markup.join(
        ratio, markup.tag('span', 'this pair', class_='interval')
      )
    cells.append(
      [
        ratio,
        text.count(row.get('k_se')),
        text.count(row.get('k_wc')),
        markup.estimate(row.get('gap'), 'points'),
        markup.tag('span', words, class_=f'key {kind}'),
      ]
    )
  return markup.details(
    title,
    markup.table(
      ['Cost ratio', 'SE samples', 'WC samples', 'WC − SE', 'Verdict'],
      cells,
      label='Outcome over cost ratios',
      numeric=range(4),
      marked=[at for at, row in enumerate(rows) if row.get('actual')],
    ),
  )
