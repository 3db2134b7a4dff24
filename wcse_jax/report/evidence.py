"""What makes the answer believable: the truth, and other cost ratios."""

from typing import Any

from wcse_jax.report import figures, markup, names, text


_VERDICTS = {'weak': ('WC ahead', 'wc'), 'strong': ('SE ahead', 'se')}
_RATIO_TICKS = (1.2, 1.5, 2, 2.5, 3, 4, 5)


def truth(results: names.Results) -> markup.Html:
  """Returns estimates from few samples beside the truth by brute force."""
  found = results.get('truth')
  if not found:
    return markup.absent('Coverage by brute force')
  samples = text.count(found.get('samples_per_problem'))
  checks = [check for check in found.get('checks') or [] if check]
  inside = [check for check in checks if check.get('inside')]
  charts = [
    _truth_chart(role, found.get(role) or [], checks, samples)
    for role in ('wc', 'se')
  ]
  return markup.join(
    markup.tag(
      'p',
      f'Each model drew {samples} samples of the same problems, so that the '
      'coverage at a small k is known almost exactly. The estimate of the '
      'study, from its few samples, should have this truth in its interval at '
      'least 19 times out of 20: the interval also allows for other problems, '
      'and these are the same ones.',
    ),
    markup.tag(
      'p',
      markup.tag(
        'b', f'{len(inside)} of {len(checks)} intervals hold the truth'
      ),
      '. The intervals of one model come from the same samples, so they tend '
      'to hit or miss together.',
    )
    if checks
    else markup.absent('The check against the truth'),
    markup.tag('div', charts, class_='grid'),
    _check_table(checks) if checks else None,
    _truth_table(found, samples),
  )


def ratios(results: names.Results) -> markup.Html:
  """Returns the outcome over a range of cost ratios."""
  rows = [row for row in results.get('ratios') or [] if row]
  if not rows:
    return markup.absent('The outcome over cost ratios')
  models = results.get('models') or {}
  weak, strong = (
    (models.get(role) or {}).get('name') or names.ROLES[role]
    for role in ('wc', 'se')
  )
  order = list(dict.fromkeys(str(row.get('budget')) for row in rows))
  charts, lines, tables = [], [], []
  for number, budget in enumerate(order):
    own = [row for row in rows if str(row.get('budget')) == budget]
    own.sort(key=lambda row: row['ratio'])
    even = (results.get('break_even') or {}).get(budget)
    charts.append(_ratio_chart(number, budget, own, even))
    lines.append(_break_even(budget, own, even))
    tables.append(_ratio_table(budget, own))
  return markup.join(
    markup.tag(
      'p',
      f'How much cheaper than {strong} must {weak} be? The same samples are '
      'used again as if a sample of SE cost 1.2 to 5 times one of WC: the '
      'budget then buys more or fewer samples of WC, rounded down.',
    ),
    markup.tag('ul', lines),
    markup.tag('div', charts, class_='grid'),
    tables,
  )


def _truth_chart(
  role: str,
  curve: list[dict[str, Any]],
  checks: list[dict[str, Any]],
  samples: str,
) -> markup.Html | None:
  label = names.ROLES[role]
  known = figures.Series(
    label=f'truth, {samples} samples',
    kind='human',
    points=[figures.Point(x=row['k'], estimate=row) for row in curve if row],
  )
  guessed = figures.Series(
    label='estimate, few samples',
    kind=names.kind(role),
    style='whisker',
    points=[
      figures.Point(x=check['k'], estimate=check.get('estimate'))
      for check in checks
      if check.get('model') == role
    ],
  )
  points = [*known.points, *guessed.points]
  if not points:
    return None
  return figures.curves(
    f'truth-{role}',
    f'{label}: estimate and truth',
    'Whiskers: 95% of the estimate. Truth: '
    f'{text.problems(p.estimate for p in known.points)} problems; estimate: '
    f'{text.problems(p.estimate for p in guessed.points)} problems.',
    [known, guessed],
    unit='percent',
    x_label='samples per problem (k)',
    y_label='problems with a right sample',
    ticks=figures.powers(min(p.x for p in points), max(p.x for p in points)),
    log=True,
  )


def _check_table(checks: list[dict[str, Any]]) -> markup.Html:
  rows = []
  for check in checks:
    role = str(check.get('model'))
    key = markup.tag(
      'span', names.ROLES.get(role, role), class_=f'key {names.kind(role)}'
    )
    inside = check.get('inside')
    rows.append(
      [
        key,
        text.count(check.get('k')),
        markup.estimate(check.get('estimate'), 'percent'),
        markup.estimate(check.get('truth'), 'percent'),
        'unknown' if inside is None else 'yes' if inside else 'no',
      ]
    )
  return markup.table(
    ['Model', 'k', 'Estimate', 'Truth', 'Truth in the interval'],
    rows,
    label='Estimates beside the truth',
    numeric=(1, 2, 3),
    marked=[at for at, c in enumerate(checks) if c.get('inside') is False],
  )


def _truth_table(found: dict[str, Any], samples: str) -> markup.Html | None:
  columns = {
    role: {row['k']: row for row in found.get(role) or [] if row}
    for role in ('wc', 'se')
  }
  ks = sorted({k for column in columns.values() for k in column})
  if not ks:
    return None
  return markup.details(
    f'Coverage from {samples} samples, at every k',
    markup.table(
      ['k', 'WC', 'SE'],
      [
        [
          text.count(k),
          *(markup.estimate(c.get(k), 'percent') for c in columns.values()),
        ]
        for k in ks
      ],
      label='Coverage by brute force',
      numeric=(1, 2),
    ),
  )


def _verdict(verdict: str | None) -> tuple[str, str]:
  """Returns a verdict in words, and its kind."""
  return _VERDICTS.get(verdict or '', (verdict or 'not measured', 'other'))


def _ratio_chart(
  number: int,
  budget: str,
  rows: list[dict[str, Any]],
  even: dict[str, Any] | None,
) -> markup.Html | None:
  points = [
    figures.Point(
      x=row['ratio'],
      estimate=row.get('gap'),
      kind=_verdict(row.get('verdict'))[1],
    )
    for row in rows
  ]
  # A span without ends cannot be drawn; the line above the chart speaks of it.
  spans = [
    (even['ratio'], even['low'], even['high'])
    for even in [even]
    if even and all(text.known(even.get(k)) for k in ('ratio', 'low', 'high'))
  ]
  legend = [('WC ahead', 'wc'), ('SE ahead', 'se'), ('cannot tell', 'other')]
  even_words = ' Diamond: break-even, with its 95%.' if spans else ''
  low, high = points[0].x, points[-1].x
  ticks = [t for t in _RATIO_TICKS if low <= t <= high] or [low, high]
  return figures.curves(
    f'ratios-{number}',
    f'Gap over cost ratio, {budget} budget',
    'Coverage of WC − SE at equal cost; above 0 WC is ahead. Band: 95%; '
    f'{text.problems(p.estimate for p in points)} problems. Dotted: this '
    f"pair's own ratio.{even_words}",
    [figures.Series(label='', kind='human', points=points)],
    unit='points',
    x_label='cost of an SE sample over a WC sample',
    y_label='points of coverage',
    ticks=[(t, text.number(t)) for t in ticks],
    log=True,
    legend=legend,
    lines=[
      (row['ratio'], f'this pair: {text.number(row["ratio"])}')
      for row in rows
      if row.get('actual')
    ][:1],
    spans=spans,
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
      markup.tag('b', _verdict(own.get('verdict'))[0]),
    ]
  return markup.tag('li', parts, '.')


def _ratio_table(budget: str, rows: list[dict[str, Any]]) -> markup.Html:
  cells = []
  for row in rows:
    words, kind = _verdict(row.get('verdict'))
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
    f'The numbers of the {budget} budget',
    markup.table(
      ['Cost ratio', 'SE samples', 'WC samples', 'WC − SE', 'Verdict'],
      cells,
      label='Outcome over cost ratios',
      numeric=range(4),
      marked=[at for at, row in enumerate(rows) if row.get('actual')],
    ),
  )
