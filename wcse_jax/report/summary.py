"""The answer of a study, and what it compared."""

from typing import Any

from wcse_jax.report import figures, markup, names, plots, text, trained


# Currency -> how a cost in it is counted.
PER = {
  'params': 'rule of the paper: 2 x parameters, per token',
  'flops': 'exact FLOPs with prompt and attention, per sample',
  'tokens': 'drawn tokens, per sample, cut ones included',
  'chip_seconds': 'measured chip-seconds, per sample',
  'usd': 'US dollars, per sample',
}


def answer(results: names.Results) -> markup.Html:
  """Returns the answer, its details, and the differences behind it."""
  found = results.get('answer') or {}
  sentence = found.get('sentence')
  parts: list[markup.Child] = [
    markup.tag('p', words, class_='banner') for words in banners(results)
  ]
  parts.append(
    markup.tag('p', sentence, class_='answer')
    if sentence
    else markup.absent('The answer')
  )
  if found.get('details'):
    lines = [markup.tag('li', line) for line in found['details']]
    parts.append(markup.tag('ul', lines))
  gaps = results.get('gaps') or {}
  coverage = [
    plots.Row(
      label=f'{names.budget_title(budget)}', kind=names.lead(gap), estimate=gap
    )
    for budget in names.budgets(results)
    if (gap := gaps.get(budget['name'])) is not None
  ]
  primary, sides = _primary(results)
  parts.append(
    markup.tag(
      'div',
      figures.rows(
        'answer-coverage',
        'Coverage, WC − SE, in points',
        'At the same cost; right of 0 WC is ahead. 95% intervals over '
        f'{text.problems(r.estimate for r in coverage)} problems.',
        coverage,
        unit='points',
        zero=True,
      ),
      figures.rows(
        'answer-training',
        f'Trained students, {sides}, in points',
        'Share of test problems solved; right of 0 the first is better. '
        f'95% intervals, {text.problems(r.estimate for r in primary)} test '
        'problems.',
        primary,
        unit='points',
        zero=True,
      ),
      class_='grid',
    )
  )
  return markup.join(parts)


def _primary(results: names.Results) -> tuple[list[plots.Row], str]:
  """Returns the main comparison of each setup, and what is compared."""
  found = [
    (setup, contrast)
    for setup in (results.get('training') or {}).get('setups') or []
    if setup
    for contrast in setup.get('contrasts') or []
    if contrast and names.primary(contrast)
  ]
  pair = ('wc', 'se')
  plain = all((c['a'], c['b']) == pair for _, c in found)
  rows = []
  for setup, contrast in found:
    labels = {
      arm['arm']: str(arm.get('label') or arm['arm'])
      for arm in setup.get('arms') or []
      if arm
    }
    between = ' − '.join(
      labels.get(contrast[side], str(contrast[side])) for side in ('a', 'b')
    )
    own = (contrast['a'], contrast['b']) == pair
    difference = contrast.get('difference')
    rows.append(
      plots.Row(
        label=trained.title(results, setup),
        detail='' if plain else between,
        # The colours are those of WC and SE data; others are of no side.
        kind=names.lead(difference) if own else 'other',
        estimate=difference,
      )
    )
  return rows, 'WC data − SE data' if plain else 'main comparisons'


def banners(results: names.Results) -> list[str]:
  """Returns what a reader must know before the answer."""
  found = []
  if results.get('status') != 'finished':
    found.append(
      'This study is unfinished. Parts that have not run yet say so.'
    )
  underpowered = (results.get('training') or {}).get('underpowered')
  return [*found, underpowered] if underpowered else found


def compared(results: names.Results) -> markup.Html:
  """Returns models, budgets, task and sampling settings."""
  models = results.get('models') or {}
  parts: list[markup.Child] = [
    markup.tag(
      'p',
      'Two models draw solutions to the same problems at the same cost: a ',
      markup.tag('span', 'weak, cheap one (WC)', class_='key wc'),
      ' draws more of them, a ',
      markup.tag('span', 'strong, expensive one (SE)', class_='key se'),
      ' fewer. Solutions whose final answer is right become training data.',
    )
  ]
  rows = [
    [
      names.key(results, role),
      model.get('name'),
      text.scaled(model.get('parameters')),
      text.scaled(model.get('flops_per_token'), 'FLOP'),
      markup.estimate(model.get('greedy'), 'percent'),
    ]
    for role in [*names.ROLES, *names.further(results)]
    if (model := models.get(role))
  ]
  parts.append(
    markup.table(
      ['Role', 'Model', 'Parameters', 'Cost of a token', 'Solved, greedy'],
      rows,
      label='Models',
      numeric=(2, 3, 4),
    )
    if rows
    else markup.absent('Models')
  )
  found = names.budgets(results)
  if found:
    parts += [
      markup.tag('h3', 'Same cost, in samples per problem'),
      markup.table(
        ['Budget', 'SE', 'WC', 'Cost ratio', 'Counted in', 'Rounding'],
        [
          [
            b['name'],
            text.count(b.get('se')),
            f'{text.count(b.get("wc"))} '
            f'(exactly {text.number(b.get("exact"))})',
            text.number(b.get('ratio')),
            b.get('currency'),
            b.get('rounding'),
          ]
          for b in found
        ],
        label='Budgets',
        numeric=(1, 2, 3),
      ),
    ]
  else:
    parts.append(markup.absent('Budgets'))
  currencies = [row for row in results.get('currencies') or [] if row]
  if currencies and found:
    parts.append(_currencies(results, currencies, found))
  task, sampling = results.get('task'), results.get('sampling')
  facts = []
  if task:
    facts += [
      ('Task', f'{task.get("name")}, split {task.get("split")}'),
      ('Problems sampled', text.count(task.get('problems'))),
      ('Test problems', text.count(task.get('test_problems'))),
      ('Levels', ', '.join(map(str, task.get('levels') or [])) or 'none'),
    ]
  if sampling:
    settings = (f'{key} {value}' for key, value in sampling.items())
    facts.append(('Sampling', ', '.join(settings)))
  parts.append(markup.facts(facts) if facts else markup.absent('Task'))
  return markup.join(parts)


def _currencies(
  results: names.Results,
  rows: list[dict[str, Any]],
  budgets: list[dict[str, Any]],
) -> markup.Html:
  """Returns what a sample costs in each currency, and the counts that match."""
  roles = ['se', 'wc', *names.further(results)]
  roles = [role for role in roles if any(role in row for row in rows)]
  table = [
    [
      PER.get(row.get('currency'), row.get('currency')),
      *(cost(row.get(role), row.get('currency')) for role in roles),
      text.number(row.get('ratio')),
      *(_count(row, b['name']) for b in budgets),
    ]
    for row in rows
  ]
  return markup.join(
    markup.tag('h3', 'The same in other currencies'),
    markup.table(
      [
        'Counted in',
        *(names.role(results, role) for role in roles),
        'Cost ratio',
        *(f'WC samples for {b.get("se")} SE' for b in budgets),
      ],
      table,
      label='Currencies',
      numeric=range(1, 2 + len(roles) + len(budgets)),
    ),
    markup.tag(
      'p',
      'Counts are rounded down. This study matched by the first row; another '
      'row says how many weak samples the same cost would have bought; in '
      'brackets before rounding.',
    ),
    *(
      markup.tag(
        'p',
        'A million right samples cost '
        f'{text.money(row.get("right_wc"))} by the weak model and '
        f'{text.money(row.get("right_se"))} by the strong one on this machine.',
      )
      for row in rows
      if row.get('currency') == 'usd' and 'right_wc' in row
    ),
  )


def _count(row: dict[str, Any], budget: str) -> str:
  """Returns a matched count, and what was rounded."""
  count, exact = row.get(f'wc_{budget}'), row.get(f'exact_{budget}')
  if exact is None or abs(exact - count) < 0.005:
    return text.count(count)
  return f'{text.count(count)} ({exact:.2f})'


def cost(value: float | None, currency: str | None) -> str:
  """Returns the cost of a sample in a currency."""
  if currency in ('params', 'flops'):
    return text.scaled(value, 'FLOP')
  return 'unknown' if value is None else f'{value:.3g}'
