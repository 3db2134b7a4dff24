"""The study in short, as Markdown: `report/summary.md`."""

from collections.abc import Mapping, Sequence
from typing import Any

from wcse_jax import markdown
from wcse_jax.report import (
  contrasts,
  costs,
  levels,
  names,
  summary,
  text,
  trained,
)


# Characters of a text that are kept: more than any answer has.
_MOST = 10_000
_MEASURES = (
  ('coverage', 'Coverage', 'percent'),
  ('diversity', 'Diversity', 'number'),
  ('distinct_chains', 'Distinct chains', 'number'),
)


def render(results: names.Results) -> str:
  """Returns answer, details and key tables; parts that have not run are absent.

  Args:
    results: the content of `results.json`.
  """
  answer = results.get('answer') or {}
  lines = [f'# {_words(names.title(results))}', '']
  for banner in summary.banners(results):
    lines += [f'> {_words(banner)}', '']
  if answer.get('sentence'):
    lines += [_words(answer['sentence']), '']
  if answer.get('details'):
    lines += [*(f'- {_words(one)}' for one in answer['details']), '']
  lines += [
    *_gaps(results),
    *_break_even(results),
    *_quality(results),
    *_students(results),
    *_currencies(results),
    *_costs(results),
    'All of it: [index.html](index.html). Each chart as SVG and CSV: '
    '[figures](figures/).',
  ]
  return '\n'.join(lines) + '\n'


def _words(value: Any) -> str:
  """Returns a text of the study, whole, on a line of its own."""
  return markdown.escaped(str(value), most=_MOST)


def _section(
  title: str,
  heads: list[str],
  rows: list[list[Any]],
  numbers: int | None = None,
) -> list[str]:
  """Returns a heading with its table.

  Args:
    title: of both.
    heads: of the columns.
    rows: their cells.
    numbers: how many of the last columns are numbers; None: all but the first.
  """
  if not rows:
    return []
  return [f'## {_words(title)}', '', *_table(heads, rows, numbers)]


def _table(
  heads: list[str], rows: list[list[Any]], numbers: int | None = None
) -> list[str]:
  return [
    *markdown.table(
      list(map(_words, heads)),
      [list(map(_words, row)) for row in rows],
      numbers=len(heads) - 1 if numbers is None else numbers,
    ),
    '',
  ]


def _gaps(results: names.Results) -> list[str]:
  found = results.get('gaps') or {}
  rows = [
    [
      budget['name'],
      'WC − SE',
      f'{text.count(budget.get("wc"))} v {text.count(budget.get("se"))}',
      text.estimate(found.get(budget['name']), 'points'),
      text.reading(found.get(budget['name']), 'WC', 'SE'),
    ]
    for budget in names.budgets(results)
  ]
  for row in results.get('gaps_of') or []:
    if not row:
      continue
    first, second = (
      names.role(results, row.get(side)) for side in ('model', 'against')
    )
    counts = (text.count(row.get(k)) for k in ('k_model', 'k_against'))
    rows.append(
      [
        row.get('budget'),
        f'{first} − {second}',
        ' v '.join(counts),
        text.estimate(row.get('gap'), 'points'),
        text.reading(row.get('gap'), first, second),
      ]
    )
  return _section(
    'Coverage at the same cost',
    ['Budget', 'Models', 'Samples a problem', 'Coverage', 'Reading'],
    rows,
    numbers=0,
  )


def _break_even(results: names.Results) -> list[str]:
  found = {
    name: even
    for name, even in (results.get('break_even') or {}).items()
    if even and text.known(even.get('ratio'))
  }
  rows = [
    [name, text.number(even['ratio']), text.interval(even, 'number')]
    for name, even in found.items()
  ]
  return _section(
    'Break-even: cost of an SE sample over a WC sample',
    ['Budget', 'Ratio', '95% interval'],
    rows,
  )


def _quality(results: names.Results) -> list[str]:
  rows = []
  for budget in names.budgets(results):
    arms = (results.get('quality') or {}).get(budget['name']) or {}
    for arm, found in arms.items():
      if not found:
        continue
      k = found.get('samples_per_problem')
      rows.append(
        [
          f'{budget["name"]}: {names.arm(results, arm)}',
          text.count(k),
          *(
            text.estimate(levels.at(found.get(curve), k), unit)
            for curve, _, unit in _MEASURES
          ),
          text.estimate(found.get('false_positive_rate'), 'percent'),
        ]
      )
  heads = ['Budget and arm', 'Samples a problem']
  heads += [title for _, title, _ in _MEASURES]
  return _section('The sampled data', [*heads, 'False positives'], rows)


def _students(results: names.Results) -> list[str]:
  training = results.get('training') or {}
  lines = []
  for setup in training.get('setups') or []:
    if not setup:
      continue
    arms = [arm for arm in setup.get('arms') or [] if arm]
    labels = {arm['arm']: str(arm.get('label') or arm['arm']) for arm in arms}
    measures = trained.metrics(setup, training.get('transfer') or [])
    keys = [key for own in measures.values() for key in own]
    rows = [
      [
        labels[arm['arm']],
        *(text.estimate(arm.get(key), 'percent') for key in keys),
      ]
      for arm in arms
    ]
    if setup.get('untuned'):
      cells = (text.estimate(setup['untuned'].get(k), 'percent') for k in keys)
      rows.append(['untuned', *cells])
    title = trained.title(results, setup)
    about = f'{title}: the student is {setup.get("model")}'
    lines += _section(about, ['Trained on', *keys], rows)
    shown, hidden = _telling(setup.get('contrasts') or [])
    heads, cells = contrasts.rows(shown, labels)
    if cells:
      lines += _table(heads, cells, numbers=0)
    if hidden:
      kind = 'difference' if hidden == 1 else 'differences'
      words = f'{hidden} more {kind}, none of them sure: index.html.'
      lines += [words, '']
  return lines


def _telling(
  found: Sequence[Mapping[str, Any]],
) -> tuple[list[Mapping[str, Any]], int]:
  """Returns the differences in pass@1 and the sure ones; how many are left."""
  found = [one for one in found if one]
  shown = [
    one
    for one in found
    if trained.bare(one.get('metric')) == 'pass@1'
    or str(one.get('reading')).endswith('better')
  ]
  return shown, len(found) - len(shown)


def _currencies(results: names.Results) -> list[str]:
  found = [row for row in results.get('currencies') or [] if row]
  roles = ['se', 'wc', *names.further(results)]
  roles = [role for role in roles if any(role in row for row in found)]
  rows = [
    [
      summary.PER.get(row.get('currency'), row.get('currency')),
      *(summary.cost(row.get(role), row.get('currency')) for role in roles),
      text.number(row.get('ratio')),
    ]
    for row in found
  ]
  heads = [names.role(results, role) for role in roles]
  return _section(
    'What a sample costs', ['Counted in', *heads, 'Cost ratio'], rows
  )


def _costs(results: names.Results) -> list[str]:
  found: Mapping[str, Mapping[str, Any]] = costs.by_part(results)
  rows = [
    [
      part,
      text.scaled(row['flops'], 'FLOP'),
      text.duration(row['chip_seconds']),
      text.money(row['usd']),
    ]
    for part, row in found.items()
  ]
  return _section(
    'What the study cost', ['Part', 'FLOPs', 'Chip time', 'Price'], rows
  )
