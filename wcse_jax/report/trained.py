"""What students reached that were trained on the sampled data."""

import re
from typing import Any

from wcse_jax.report import figures, markup, names, text


_METRIC = re.compile(r'(pass|maj)@\d+')


def training(results: names.Results) -> markup.Html:
  """Returns what students reached, per setup, arm and replicate."""
  found = results.get('training')
  if not found:
    return markup.absent('Training')
  threshold = found.get('detectable_difference')
  length = f'{text.count(found.get("steps"))} steps'
  if found.get('epochs'):
    length = f'{found["epochs"]:g} epochs'
  parts: list[markup.Child] = [
    markup.tag(
      'p',
      f'Each student is trained for {length} on the data of the '
      f'{found.get("budget")} budget, '
      f'{text.count(found.get("replicates"))} times with other seeds. The best '
      f'checkpoint is chosen on {text.count(found.get("validation_problems"))} '
      f'validation problems and measured on '
      f'{text.count(found.get("test_problems"))} test problems.',
    )
  ]
  if text.known(threshold):
    parts.append(
      markup.tag(
        'p',
        'A difference smaller than about '
        f'{text.quantity(threshold, "points").lstrip("+")} cannot be told '
        'from none with this many runs and problems.',
      )
    )
  setups = [setup for setup in found.get('setups') or [] if setup]
  for number, setup in enumerate(setups):
    parts.append(_setup(number, setup))
  return markup.join(parts if setups else [*parts, markup.absent('Students')])


def _setup(number: int, setup: dict[str, Any]) -> markup.Html:
  arms = [arm for arm in setup.get('arms') or [] if arm]
  untuned = setup.get('untuned') or {}
  labels = {arm['arm']: str(arm.get('label') or arm['arm']) for arm in arms}
  metrics = sorted(
    {
      key
      for found in (untuned, *arms)
      for key in found
      if _METRIC.fullmatch(key)
    },
    key=lambda key: (key[0] != 'p', int(key.split('@')[1])),
  )
  title = str(setup.get('title') or setup['setup'])
  return markup.join(
    markup.tag('h3', title),
    markup.tag('p', f'The student is {setup.get("model")}.', class_='lead'),
    markup.tag(
      'div',
      [_arm_chart(number, m, title, arms, untuned) for m in metrics],
      class_='grid',
    ),
    _contrast_table(setup.get('contrasts') or [], labels),
    _arm_table(arms, untuned, metrics)
    if arms or untuned
    else markup.absent(title),
    _run_table(arms),
  )


def _arm_chart(
  number: int,
  metric: str,
  title: str,
  arms: list[dict[str, Any]],
  untuned: dict[str, Any],
) -> markup.Html | None:
  rows = [
    figures.Row(
      label=str(arm.get('label') or arm['arm']),
      kind=names.kind(arm['arm']),
      estimate=arm.get(metric),
      dots=[
        run[metric]
        for run in arm.get('replicates') or []
        if text.known(run.get(metric))
      ],
    )
    for arm in arms
  ]
  if untuned.get(metric):
    rows.append(
      figures.Row(label='untuned', kind='other', estimate=untuned[metric])
    )
  runs = {len(row.dots) for row in rows if row.dots}
  rings = f' Rings: the {max(runs)} single runs.' if runs else ''
  return figures.rows(
    f'arms-{number}-{metric.replace("@", "-")}',
    f'{metric}: {title}',
    f'Test problems solved. 95% intervals; '
    f'{text.problems(r.estimate for r in rows)} problems.{rings}',
    rows,
    unit='percent',
  )


def _contrast_table(
  contrasts: list[dict[str, Any]], labels: dict[str, str]
) -> markup.Html | None:
  if not contrasts:
    return None
  rows = []
  for c in contrasts:
    a, b = (labels.get(c[side], str(c[side])) for side in ('a', 'b'))
    rows.append(
      [
        markup.join(
          f'{a} − {b}',
          markup.tag('span', 'main comparison', class_='interval')
          if c.get('primary')
          else None,
        ),
        c.get('metric'),
        markup.estimate(c.get('difference'), 'points'),
        c.get('reading') or text.reading(c.get('difference'), a, b),
      ]
    )
  return markup.table(
    ['Difference', 'Measure', 'Points', 'Reading'],
    rows,
    label='Differences between arms',
    numeric=(2,),
    marked=[at for at, c in enumerate(contrasts) if c.get('primary')],
  )


def _arm_table(
  arms: list[dict[str, Any]], untuned: dict[str, Any], metrics: list[str]
) -> markup.Html:
  rows = []
  for arm in arms:
    runs = arm.get('replicates') or []
    epochs = [r['epochs'] for r in runs if text.known(r.get('epochs'))]
    rows.append(
      [
        markup.tag(
          'span',
          arm.get('label') or arm['arm'],
          class_=f'key {names.kind(arm["arm"])}',
        ),
        *(markup.estimate(arm.get(m), 'percent') for m in metrics),
        _range(arm.get('examples') or [], text.count),
        _range(epochs, text.number),
        text.count(len(runs)),
      ]
    )
  if untuned:
    cells = [markup.estimate(untuned.get(m), 'percent') for m in metrics]
    rows.append(['untuned', *cells, '0', '0', '1'])
  heads = ['Trained on', *metrics, 'Examples', 'Epochs', 'Runs']
  return markup.table(
    heads, rows, label='Students by arm', numeric=range(1, len(heads))
  )


def _run_table(arms: list[dict[str, Any]]) -> markup.Html | None:
  runs = [(arm, run) for arm in arms for run in arm.get('replicates') or []]
  if not runs:
    return None
  metrics = sorted({key for _, run in runs for key in run if '@' in key})[::-1]
  return markup.details(
    f'Each of the {len(runs)} runs',
    markup.table(
      ['Trained on', 'Run', *metrics, 'Examples', 'Epochs', 'Best step'],
      [
        [
          arm.get('label') or arm['arm'],
          run.get('replicate'),
          *(text.quantity(run.get(m), 'percent') for m in metrics),
          text.count(run.get('examples')),
          text.number(run.get('epochs')),
          text.count(run.get('best_step')),
        ]
        for arm, run in runs
      ],
      label='Single runs',
      numeric=range(1, len(metrics) + 5),
    ),
  )


def _range(values: list[float], form: Any) -> str:
  if not values:
    return 'unknown'
  low, high = form(min(values)), form(max(values))
  return low if low == high else f'{low} to {high}'
