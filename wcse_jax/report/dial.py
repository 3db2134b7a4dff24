"""A dial of the cost ratio: what would have come out at another one.

Without its script the table shows this pair's own ratio, and every other one is
in the tables below.  The script chooses among texts that were made here, and
puts them into text nodes.
"""

import bisect
from collections.abc import Mapping, Sequence
from typing import Any

from wcse_jax.report import markup, names, ratios, text


# Steps of the dial from one end to the other.
_STEPS = 40
# Kinds of the winner, which the script knows by position.
_KINDS = ('wc', 'se', 'other')
_CURRENCIES = {
  'params': 'by parameters',
  'flops': 'by FLOPs',
  'tokens': 'by drawn tokens',
  'chip_seconds': 'by chip time',
  'usd': 'by money',
}

SCRIPT = r"""
'use strict';
(() => {
const one = id => document.getElementById(id);
const data = JSON.parse(one('dial-data').textContent);
const dial = one('dial');
const rows = [...document.querySelectorAll('#dial-table tbody tr')];
const cursors = [...document.querySelectorAll('#dial-charts .cursor')];

function show() {
  const at = Number(dial.value);
  one('dial-ratio').textContent = data.ratios[at];
  const spoken = data.budgets.map(({name, rows}) => `${name}: ${rows[at][1]}`);
  dial.setAttribute(
    'aria-valuetext', `${data.ratios[at]} times; ${spoken.join('; ')}`);
  data.budgets.forEach((budget, i) => {
    const [kind, winner, value, interval, strong, weak] = budget.rows[at];
    const [, first, gap, ...counts] = rows[i].children;
    first.firstChild.textContent = winner;
    first.firstChild.className = `key ${data.kinds[kind]}`;
    gap.querySelector('.value').textContent = value;
    gap.querySelector('.interval').textContent = interval;
    counts[0].textContent = strong;
    counts[1].textContent = weak;
  });
  cursors.forEach((line, i) => {
    for (const end of ['x1', 'x2']) line.setAttribute(end, data.places[i][at]);
  });
}

dial.addEventListener('input', show);
for (const button of document.querySelectorAll('#dial-own button'))
  button.addEventListener('click', () => {
    dial.value = data.own[Number(button.value)];
    show();
  });
one('dial-control').hidden = false;
one('dial-charts').classList.add('live');
show();
})();
"""


def dial(results: names.Results) -> markup.Html:
  """Returns the dial with its table, its charts and the numbers behind it."""
  budgets = _budgets(results)
  if not budgets:
    return markup.absent('The outcome over many cost ratios')
  ends = [row['ratio'] for rows in budgets.values() for row in rows]
  own = _own(results, min(ends), max(ends))
  grid = _grid(min(ends), max(ends), [ratio for _, ratio in own])
  found = {name: [at(rows, r) for r in grid] for name, rows in budgets.items()}
  start = grid.index(own[0][1]) if own else len(grid) // 2
  charts = [
    ratios.chart(
      f'dial-{number}',
      name,
      rows,
      (results.get('break_even') or {}).get(name),
      own=own[0][1] if own else None,
      cursor=grid[start],
    )
    for number, (name, rows) in enumerate(budgets.items())
  ]
  charts = [chart for chart in charts if chart is not None]
  held = {
    'ratios': [text.number(ratio) for ratio in grid],
    'kinds': _KINDS,
    'own': [grid.index(ratio) for _, ratio in own],
    'budgets': [
      {'name': name, 'rows': [_shown(row) for row in rows]}
      for name, rows in found.items()
    ],
    'places': [
      [round(chart.charts[0].place(ratio), 1) for ratio in grid]
      for chart in charts
    ],
  }
  return markup.join(
    markup.tag(
      'label',
      'If an SE sample cost ',
      markup.tag('output', text.number(grid[start]), id='dial-ratio'),
      ' times a WC sample:',
      for_='dial',
      class_='dial',
    ),
    _control(grid, own, start),
    _table({name: rows[start] for name, rows in found.items()}),
    markup.tag('div', charts, class_='grid', id='dial-charts'),
    [
      ratios.table(f'Every ratio of the dial, {name} budget', rows)
      for name, rows in budgets.items()
    ],
    markup.data(held, 'dial-data'),
    markup.script(SCRIPT),
  )


def _budgets(results: names.Results) -> dict[str, list[dict[str, Any]]]:
  """Returns budget -> its rows, by rising ratio."""
  found: dict[str, list[dict[str, Any]]] = {}
  for row in results.get('dial') or []:
    if row and text.known(row.get('ratio')):
      found.setdefault(str(row.get('budget')), []).append(row)
  for rows in found.values():
    rows.sort(key=lambda row: row['ratio'])
  return found


def at(rows: Sequence[dict[str, Any]], ratio: float) -> dict[str, Any] | None:
  """Returns the row of a ratio; None beyond the samples that were drawn.

  What a budget buys of WC is rounded down, so a row holds until the next.

  Args:
    rows: by rising ratio.
    ratio: cost of an SE sample over a WC sample.
  """
  below = bisect.bisect_right(
    rows, ratio * (1 + 1e-9), key=lambda row: row['ratio']
  )
  if not below:
    return None
  row = rows[below - 1]
  weak, strong = row.get('k_wc'), row.get('k_se')
  if below == len(rows) and text.known(weak) and text.known(strong):
    return row if ratio * strong < weak + 1 else None
  return row


def _own(
  results: names.Results, low: float, high: float
) -> list[tuple[str, float]]:
  """Returns this pair's ratio in each currency that is on the dial."""
  found = [
    (_CURRENCIES.get(str(row.get('currency'))), row.get('ratio'))
    for row in results.get('currencies') or []
    if row
  ] or [('as planned', one.get('ratio')) for one in names.budgets(results)[:1]]
  return [
    (words, float(ratio))
    for words, ratio in found
    if words is not None and text.known(ratio) and low <= ratio <= high
  ]


def _grid(low: float, high: float, own: Sequence[float]) -> list[float]:
  """Returns the ratios of the dial, equally far apart but for this pair's."""
  steps = [low * (high / low) ** (i / _STEPS) for i in range(_STEPS + 1)]
  # One of each that read alike; this pair's before others.
  shown = {text.number(ratio): ratio for ratio in [*steps, *own[::-1]]}
  return sorted({*shown.values(), *own})


def _shown(row: Mapping[str, Any] | None) -> list[Any]:
  """Returns a row as the script puts it into the table."""
  if row is None:
    unknown = _KINDS.index('other')
    return [unknown, 'not known', '–', 'beyond the samples drawn', '–', '–']
  words, kind = ratios.verdict(row.get('verdict'))
  gap = row.get('gap') or {}
  return [
    _KINDS.index(kind),
    words,
    text.quantity(gap.get('value'), 'points'),
    f'{text.interval(gap, "points")}, n = {text.count(gap.get("n"))}',
    text.count(row.get('k_se')),
    text.count(row.get('k_wc')),
  ]


def _control(
  grid: Sequence[float], own: Sequence[tuple[str, float]], start: int
) -> markup.Html:
  buttons = [
    markup.tag(
      'button',
      f'{words}: {text.number(ratio)}',
      type='button',
      value=number,
    )
    for number, (words, ratio) in enumerate(own)
  ]
  return markup.tag(
    'div',
    markup.tag(
      'input',
      id='dial',
      type='range',
      min=0,
      max=len(grid) - 1,
      step=1,
      value=start,
      autocomplete='off',
    ),
    markup.tag('div', 'This pair:', buttons, id='dial-own')
    if buttons
    else None,
    id='dial-control',
    hidden=True,
  )


def _table(rows: Mapping[str, Mapping[str, Any] | None]) -> markup.Html:
  cells = []
  for name, row in rows.items():
    kind, words, value, interval, strong, weak = _shown(row)
    cells.append(
      [
        f'{name} budget',
        markup.tag('span', words, class_=f'key {_KINDS[kind]}'),
        markup.join(
          markup.tag('span', value, class_='value'),
          ' ',
          markup.tag('span', interval, class_='interval'),
        ),
        strong,
        weak,
      ]
    )
  made = markup.table(
    ['', 'Coverage', 'WC − SE', 'SE samples', 'WC samples'],
    cells,
    label='Outcome at the chosen ratio',
    numeric=(2, 3, 4),
  )
  return markup.tag('div', made, id='dial-table')
