"""The sampled data: coverage, diversity, false positives, levels."""

from typing import Any

from wcse_jax.report import (
  figures,
  levels,
  markup,
  names,
  plots,
  rounding,
  spent,
  text,
)


_CURVES = (
  ('coverage', 'Coverage', 'percent', 'problems with a right sample'),
  ('diversity', 'Diversity', 'number', 'distinct right texts'),
  ('distinct_chains', 'Distinct chains', 'number', 'distinct right chains'),
  ('majority', 'Majority vote', 'percent', 'problems that a vote solves'),
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
    spent.charts(results),
    levels.charts(results, measured),
  )


def _quality_table(
  measured: list[tuple[dict, str, dict]], results: names.Results
) -> markup.Html:
  rows, counts = [], []
  for budget, arm, m in measured:
    k = m.get('samples_per_problem')
    verdicts, finish = m.get('verdicts') or {}, m.get('finish') or {}
    label = markup.join(
      names.key(results, arm, names.arm(results, arm)),
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
          markup.estimate(levels.at(m.get(curve), k), unit)
          for curve, _, unit, _ in _CURVES[:3]
        ),
        levels.judged(m.get('false_positive_rate')),
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
    _further_gaps(results),
  )


def _further_gaps(results: names.Results) -> markup.Html | None:
  """Returns how the models beyond the pair compare at the same cost."""
  found = [row for row in results.get('gaps_of') or [] if row]
  if not found:
    return None
  rows, cells = [], []
  for row in found:
    gap = row.get('gap')
    sides = row.get('model'), row.get('against')
    first, second = (names.role(results, side) for side in sides)
    words = text.reading(gap, first, second)
    lead = {f'{first} ahead': sides[0], f'{second} ahead': sides[1]}.get(words)
    rows.append(
      plots.Row(
        label=f'{row.get("budget")}: {first} − {second}',
        kind=names.kind(results, lead),
        estimate=gap,
      )
    )
    cells.append(
      [
        f'{row.get("budget")}: {first} − {second}',
        f'{text.count(row.get("k_model"))} v '
        f'{text.count(row.get("k_against"))}',
        markup.estimate(gap, 'points'),
        words,
      ]
    )
  return markup.join(
    markup.tag('h3', 'Further models at the same cost'),
    figures.rows(
      'further-gaps',
      'Coverage of further models, in points',
      'Less that of the model behind the minus sign, at the same cost. 95% '
      f'intervals over {text.problems(r.estimate for r in rows)} problems.',
      rows,
      unit='points',
      zero=True,
    ),
    markup.table(
      ['Budget and models', 'Samples', 'Coverage', 'Reading'],
      cells,
      label='Further models at the same cost',
      numeric=(1, 2),
    ),
  )


def _curve_charts(results: names.Results) -> markup.Html:
  charts, tables = [], []
  for name, title, unit, y_label in _CURVES:
    series = [
      spent.curve(results, role, _rows(results, role, name))
      for role in names.sampled(results)
    ]
    series = [one for one in series if one.points]
    points = [p for one in series for p in one.points]
    if not points:
      continue
    ticks = rounding.powers(min(p.x for p in points), max(p.x for p in points))
    n = text.problems(p.estimate for p in points)
    per = ' per solved problem' if name == 'diversity' else ''
    charts.append(
      figures.curves(
        f'curve-{name.replace("_", "-")}',
        f'{title} against samples',
        f'As many samples per problem from each model. Bands: 95%; '
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
  if not charts:
    return markup.absent('Curves over the number of samples')
  return markup.join(
    markup.tag('h3', 'Over the number of samples'),
    markup.tag('div', charts, class_='grid pairs'),
    markup.details('The numbers of these curves', tables),
  )


def _rows(
  results: names.Results, role: str, name: str
) -> list[dict[str, Any]] | None:
  """Returns a curve of a model's samples; None where it was not measured."""
  if name == 'majority':
    return (results.get('majority') or {}).get(role)
  return ((results.get('curves') or {}).get(role) or {}).get(name)


def _curve_table(
  title: str, unit: str, series: list[plots.Series]
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
