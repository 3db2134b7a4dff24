"""The sampled data level by level, and its false positives."""

from typing import Any

from wcse_jax.report import figures, markup, names, plots, text


# A budget, an arm, and the measures of its samples.
Measured = tuple[dict[str, Any], str, dict[str, Any]]


def _false_positive_chart(
  results: names.Results, measured: list[Measured]
) -> markup.Html | None:
  rows = [
    plots.Row(
      label=f'{budget["name"]}: {names.arm(results, arm)}',
      kind=names.kind(results, arm),
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


def charts(
  results: names.Results, measured: list[Measured]
) -> markup.Html | None:
  """Returns false positives by budget and arm, and coverage by level."""
  drawn, tables, done = [_false_positive_chart(results, measured)], [], []
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
      for place, level in enumerate(levels):
        row = found.get(level) or {}
        estimate = at(row.get('coverage'), k)
        rows[level] += [
          markup.estimate(estimate, 'percent'),
          judged(row.get('false_positive_rate')),
        ]
        x = place + 0.2 * (offset - (len(arms) - 1) / 2)
        points.append(plots.Point(x=x, estimate=estimate))
      label = names.arm(results, arm)
      series.append(
        plots.Series(
          label=label,
          kind=names.kind(results, arm),
          points=points,
          style='whisker',
        )
      )
    n = text.problems(p.estimate for one in series for p in one.points)
    drawn.append(
      figures.curves(
        f'levels-{number}',
        f'Coverage by level, {name} budget',
        f'Each arm at its own number of samples. 95% intervals; {n} problems '
        'a level.',
        series,
        unit='percent',
        x_label='level of the problem',
        y_label='problems with a right sample',
        ticks=[(place, str(level)) for place, level in enumerate(levels)],
        categories=True,
      )
    )
    heads = [
      f'{names.arm(results, arm)}: {what}'
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
    return markup.tag('div', drawn, class_='grid')
  return markup.join(
    markup.tag('h3', 'False positives, and coverage by level'),
    markup.tag('div', drawn, class_='grid'),
    markup.details('The numbers by level', tables),
  )


def judged(fpr: dict[str, Any] | None) -> markup.Html:
  """Returns a rate of false positives with the samples behind it."""
  if fpr is None or fpr.get('samples') is None:
    return markup.estimate(fpr, 'percent')
  return markup.join(
    markup.estimate(fpr, 'percent'),
    markup.tag(
      'span', f'{text.count(fpr["samples"])} samples', class_='interval'
    ),
  )


def at(
  rows: list[dict[str, Any]] | None, k: int | None
) -> dict[str, Any] | None:
  """Returns the estimate of a curve at k; None where it was not measured."""
  return next((row for row in rows or [] if row and row['k'] == k), None)
