"""What makes the answer believable: estimates beside the truth."""

from typing import Any

from wcse_jax.report import figures, markup, names, plots, rounding, text


def truth(results: names.Results) -> markup.Html:
  """Returns estimates from few samples beside the truth by brute force."""
  found = results.get('truth')
  if not found:
    return markup.absent('Coverage by brute force')
  samples = text.count(found.get('samples_per_problem'))
  roles = [role for role in names.sampled(results) if found.get(role)]
  checks = [check for check in found.get('checks') or [] if check]
  inside = [check for check in checks if check.get('inside')]
  charts = [
    _truth_chart(results, number, role, checks)
    for number, role in enumerate(roles)
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
    _check_table(results, checks) if checks else None,
    _truth_table(results, roles),
  )


def _truth_chart(
  results: names.Results, number: int, role: str, checks: list[dict[str, Any]]
) -> markup.Html | None:
  label = names.role(results, role)
  samples = text.count(results['truth'].get('samples_per_problem'))
  known = plots.Series(
    label=f'truth, {samples} samples',
    kind='human',
    points=[
      plots.Point(x=row['k'], estimate=row)
      for row in results['truth'][role]
      if row
    ],
  )
  guessed = plots.Series(
    label='estimate, few samples',
    kind=names.kind(results, role),
    style='whisker',
    points=[
      plots.Point(x=check['k'], estimate=check.get('estimate'))
      for check in checks
      if check.get('model') == role
    ],
  )
  points = [*known.points, *guessed.points]
  if not points:
    return None
  return figures.curves(
    f'truth-{number}',
    f'{label}: estimate and truth',
    'Whiskers: 95% of the estimate. Truth: '
    f'{text.problems(p.estimate for p in known.points)} problems; estimate: '
    f'{text.problems(p.estimate for p in guessed.points)} problems.',
    [known, guessed],
    unit='percent',
    x_label='samples per problem (k)',
    y_label='problems with a right sample',
    ticks=rounding.powers(min(p.x for p in points), max(p.x for p in points)),
    log=True,
  )


def _check_table(
  results: names.Results, checks: list[dict[str, Any]]
) -> markup.Html:
  rows = []
  for check in checks:
    inside = check.get('inside')
    rows.append(
      [
        names.key(results, check.get('model')),
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


def _truth_table(
  results: names.Results, roles: list[str]
) -> markup.Html | None:
  found = results['truth']
  columns = [{row['k']: row for row in found[role] if row} for role in roles]
  ks = sorted({k for column in columns for k in column})
  if not ks:
    return None
  samples = text.count(found.get('samples_per_problem'))
  return markup.details(
    f'Coverage from {samples} samples, at every k',
    markup.table(
      ['k', *(names.role(results, role) for role in roles)],
      [
        [
          text.count(k),
          *(markup.estimate(column.get(k), 'percent') for column in columns),
        ]
        for k in ks
      ],
      label='Coverage by brute force',
      numeric=range(1, len(roles) + 1),
    ),
  )
