"""The sampled data: coverage, diversity, false positives, levels."""

from typing import Any

from wcse_jax.report import figures, markup, names, text


_CURVES = (
  ('coverage', 'Coverage', 'percent', 'problems with a right sample'),
  ('diversity', 'Diversity', 'number', 'distinct right texts'),
  ('distinct_chains', 'Distinct chains', 'number', 'distinct right chains'),
)


_VERDICTS = ('right', 'wrong', 'unparsed', 'timeout', 'error')


def quality(results: names.Results) -> markup.Html:
  """Returns coverage, diversity and false positives of the sampled data."""
  measured = [
    (budget, arm, m)
    for budget in names.budgets(results)
    for arm, m in (
      (results.get('quality') or {}).get(budget['name']) or {}
    ).items()
    if m
  ]
  return markup.join(
    _quality_table(measured, results)
    if measured
    else markup.absent('Measures at the matched budgets'),
    _curve_charts(results),
    _level_charts(measured),
  )


def _quality_table(
  measured: list[tuple[dict, str, dict]], results: names.Results
) -> markup.Html:
  rows, counts = [], []
  for budget, arm, m in measured:
    k = m.get('samples_per_problem')
    verdicts, finish = m.get('verdicts') or {}, m.get('finish') or {}
    label = markup.join(
      markup.tag(
        'span', names.ARMS.get(arm, arm), class_=f'key {names.kind(arm)}'
      ),
      ' ',
      markup.tag(
        'span',
        f'{budget["name"]}, {text.count(k)} a problem',
        class_='interval',
      ),
    )
    rows.append(
      [
        label,
        *(
          markup.estimate(_at(m.get(curve), k), unit)
          for curve, _, unit, _ in _CURVES
        ),
        _judged(m.get('false_positive_rate')),
      ]
    )
    counts.append(
      [
        label,
        text.count(m.get('samples')),
        *(text.count(verdicts.get(verdict)) for verdict in _VERDICTS),
        text.count(finish.get('length')),
        text.number(m.get('mean_output_tokens')),
      ]
    )
  gaps = results.get('gaps') or {}
  lines = []
  for budget in names.budgets(results):
    if (gap := gaps.get(budget['name'])) is None:
      lines.append(f'{names.budget_title(budget)}: not compared yet.')
      continue
    lines.append(
      markup.join(
        f'{names.budget_title(budget)}: coverage of WC − SE '
        f'{text.estimate(gap, "points")}; ',
        markup.tag('b', text.reading(gap, 'WC', 'SE')),
        '.',
      )
    )
  return markup.join(
    markup.tag('h3', 'At the matched budgets'),
    markup.tag('ul', [markup.tag('li', line) for line in lines]),
    markup.table(
      [
        'Samples',
        'Coverage',
        'Diversity',
        'Distinct chains',
        'False positives',
      ],
      rows,
      label='Data quality at the matched budgets',
      numeric=range(1, 5),
    ),
    markup.tag(
      'p',
      'Coverage: problems with at least one right sample. Diversity: different '
      'texts of right samples, per solved problem, as the paper has it. '
      'Distinct chains: different right chains of equations, per problem, '
      'solved or not. False positives: right answers whose reasoning is wrong.',
      class_='lead',
    ),
    markup.details(
      'How the samples were graded',
      markup.table(
        [
          'Samples',
          'Drawn',
          *(verdict.capitalize() for verdict in _VERDICTS),
          'Cut by length',
          'Mean tokens',
        ],
        counts,
        label='Verdicts at the matched budgets',
        numeric=range(1, 9),
      ),
      markup.tag(
        'p',
        'Samples with verdict timeout or error are left out of the rates.',
        class_='lead',
      ),
    ),
  )


def _judged(fpr: dict[str, Any] | None) -> markup.Html:
  if fpr is None or fpr.get('samples') is None:
    return markup.estimate(fpr, 'percent')
  return markup.join(
    markup.estimate(fpr, 'percent'),
    markup.tag(
      'span', f'{text.count(fpr["samples"])} samples', class_='interval'
    ),
  )


def _curve_charts(results: names.Results) -> markup.Html:
  curves = results.get('curves')
  if not curves:
    return markup.absent('Curves over the number of samples')
  models = results.get('models') or {}
  charts, tables = [], []
  for name, title, unit, y_label in _CURVES:
    series = [
      _curve(role, (curves.get(role) or {}).get(name)) for role in ('wc', 'se')
    ]
    points = [p for one in series for p in one.points]
    if not points:
      continue
    ticks = figures.powers(min(p.x for p in points), max(p.x for p in points))
    n = text.problems(p.estimate for p in points)
    per = ' per solved problem' if name == 'diversity' else ''
    charts.append(
      figures.curves(
        f'curve-{name.replace("_", "-")}',
        f'{title} against samples',
        f'As many samples per problem from both models. Bands: 95%; '
        f'{n} problems.',
        series,
        unit=unit,
        x_label='samples per problem (k)',
        y_label=y_label + per,
        ticks=ticks,
        log=True,
      )
    )
    tables.append(_curve_table(title, unit, series))
  charts.insert(1, _cost_chart(curves, models, names.budgets(results)))
  return markup.join(
    markup.tag('h3', 'Over the number of samples'),
    markup.tag('div', charts, class_='grid pairs'),
    markup.details('The numbers of these curves', tables),
  )


def _cost_chart(
  curves: dict[str, Any], models: dict[str, Any], found: list[dict[str, Any]]
) -> markup.Html | None:
  sizes = {r: (models.get(r) or {}).get('parameters') for r in ('wc', 'se')}
  if not all(text.known(size) and size > 0 for size in sizes.values()):
    return None
  series = [
    _curve(role, (curves.get(role) or {}).get('coverage'), size / sizes['se'])
    for role, size in sizes.items()
  ]
  points = [p for one in series for p in one.points]
  if not points:
    return None
  return figures.curves(
    'curve-cost',
    'Coverage against cost',
    'The same curves over k times parameters: one above the other, both '
    'models have spent the same. Dotted: the budgets. '
    f'Bands: 95%; {text.problems(p.estimate for p in points)} problems.',
    series,
    unit='percent',
    x_label='cost per problem (1 = one SE sample)',
    y_label='problems with a right sample',
    ticks=figures.powers(min(p.x for p in points), max(p.x for p in points)),
    log=True,
    lines=[(b['se'], f'{b["name"]} budget') for b in found if b.get('se')],
  )


def _curve(
  role: str, rows: list[dict[str, Any]] | None, cost: float = 1.0
) -> figures.Series:
  points = [
    figures.Point(x=row['k'] * cost, estimate=row)
    for row in rows or []
    if row and text.known(row.get('value'))
  ]
  return figures.Series(
    label=names.ROLES[role], kind=names.kind(role), points=points
  )


def _curve_table(
  title: str, unit: str, series: list[figures.Series]
) -> markup.Html:
  columns = [{p.x: p.estimate for p in one.points} for one in series]
  return markup.table(
    [f'{title} at k', *(one.label for one in series)],
    [
      [text.count(k), *(markup.estimate(c.get(k), unit) for c in columns)]
      for k in sorted({k for column in columns for k in column})
    ],
    label=f'{title} over the number of samples',
    numeric=range(1, len(series) + 1),
  )


def _false_positive_chart(
  measured: list[tuple[dict, str, dict]],
) -> markup.Html | None:
  rows = [
    figures.Row(
      label=f'{budget["name"]}: {names.ARMS.get(arm, arm)}',
      kind=names.kind(arm),
      estimate=m.get('false_positive_rate'),
    )
    for budget, arm, m in measured
  ]
  samples = [
    (m.get('false_positive_rate') or {}).get('samples') for _, _, m in measured
  ]
  return figures.rows(
    'false-positives',
    'False positives by budget and arm',
    'Right answers with wrong reasoning. 95% intervals over '
    f'{text.problems(r.estimate for r in rows)} problems with '
    f'{text.problems({"n": s} for s in samples if s is not None)[4:]} judged '
    'samples.',
    rows,
    unit='percent',
    zero=True,
  )


def _level_charts(
  measured: list[tuple[dict, str, dict]],
) -> markup.Html | None:
  charts, tables, done = [_false_positive_chart(measured)], [], []
  for budget, _, m in measured:
    if budget['name'] not in done and m.get('by_level'):
      done.append(budget['name'])
  for number, name in enumerate(done):
    arms = [(a, m) for b, a, m in measured if b['name'] == name]
    levels = [row['level'] for row in arms[0][1].get('by_level') or []]
    series, rows = [], {level: [] for level in levels}
    for offset, (arm, m) in enumerate(arms):
      found = {row['level']: row for row in m.get('by_level') or []}
      k, points = m.get('samples_per_problem'), []
      for at, level in enumerate(levels):
        row = found.get(level) or {}
        estimate = _at(row.get('coverage'), k)
        rows[level] += [
          markup.estimate(estimate, 'percent'),
          _judged(row.get('false_positive_rate')),
        ]
        x = at + 0.2 * (offset - (len(arms) - 1) / 2)
        points.append(figures.Point(x=x, estimate=estimate))
      label = names.ARMS.get(arm, arm)
      series.append(
        figures.Series(
          label=label, kind=names.kind(arm), points=points, style='whisker'
        )
      )
    n = text.problems(p.estimate for one in series for p in one.points)
    charts.append(
      figures.curves(
        f'levels-{number}',
        f'Coverage by level, {name} budget',
        f'Each arm at its own number of samples. 95% intervals; {n} problems '
        'a level.',
        series,
        unit='percent',
        x_label='level of the problem',
        y_label='problems with a right sample',
        ticks=[(at, str(level)) for at, level in enumerate(levels)],
        categories=True,
      )
    )
    heads = [
      f'{names.ARMS.get(arm, arm)}: {what}'
      for arm, _ in arms
      for what in ('coverage', 'false positives')
    ]
    tables.append(
      markup.table(
        [f'Level, {name} budget', *heads],
        [[level, *rows[level]] for level in levels],
        label='Coverage and false positives by level',
        numeric=range(1, len(heads) + 1),
      )
    )
  if not tables:
    return markup.tag('div', charts, class_='grid')
  return markup.join(
    markup.tag('h3', 'False positives, and coverage by level'),
    markup.tag('div', charts, class_='grid'),
    markup.details('The numbers by level', tables),
  )


def _at(
  rows: list[dict[str, Any]] | None, k: int | None
) -> dict[str, Any] | None:
  """Returns the estimate of a curve at k; None where it was not measured."""
  return next((row for row in rows or [] if row and row['k'] == k), None)
