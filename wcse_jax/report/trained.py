"""What students reached that were trained on the sampled data."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from wcse_jax.report import contrasts, figures, markup, names, plots, text


# `pass@1`, `maj@4`, and of a further set `svamp: pass@1`.
_METRIC = re.compile(r'(?:(.+): )?((?:pass|maj)@(\d+))', re.DOTALL)


def training(results: names.Results) -> markup.Html:
  """Returns what students reached, per setup, arm and replicate."""
  found = results.get('training')
  if not found:
    return markup.absent('Training')
  setups = [setup for setup in found.get('setups') or [] if setup]
  threshold = found.get('detectable_difference')
  length = f'{text.count(found.get("steps"))} steps'
  if found.get('epochs'):
    length = f'{found["epochs"]:g} epochs'
  parts: list[markup.Child] = [
    markup.tag(
      'p',
      f'Each student is trained for {length} on the data of the '
      f'{_named(_budgets(found))}, '
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
  if not any(setup.get('calibration') for setup in setups):
    parts.append(_calibration(found.get('calibration')))
  parts.append(contrasts.explained(setups))
  parts += [
    _setup(results, number, setup) for number, setup in enumerate(setups)
  ]
  return markup.join(parts if setups else [*parts, markup.absent('Students')])


def metrics(
  setup: Mapping[str, Any], transfer: Sequence[Mapping[str, Any]] = ()
) -> dict[str, list[str]]:
  """Returns the set of problems -> its measures in a setup, in order.

  Args:
    setup: with its arms.
    transfer: sets besides the study's own, which is the first, `''`.
  """
  arms = [arm for arm in setup.get('arms') or [] if arm]
  keys = {
    key
    for row in (setup.get('untuned') or {}, *arms)
    for key in row
    if _METRIC.fullmatch(key)
  }
  found: dict[str, list[str]] = {'': []}
  found |= {str(one.get('name')): [] for one in transfer if one}
  for key in sorted(keys, key=_order):
    found.setdefault(_METRIC.fullmatch(key)[1] or '', []).append(key)
  return {name: own for name, own in found.items() if own}


def title(results: names.Results, setup: Mapping[str, Any]) -> str:
  """Returns a setup's name, with its budget where there are several."""
  named = str(setup.get('title') or setup['setup'])
  budget = f'{setup.get("budget")} budget'
  if len(_budgets(results['training'])) > 1 and budget not in named:
    named = f'{named}, {budget}'
  return named


def bare(metric: Any) -> str:
  """Returns a measure's name without the set that it is of."""
  match = _METRIC.fullmatch(str(metric))
  return match[2] if match else str(metric)


def _order(key: str) -> tuple[str, bool, int]:
  match = _METRIC.fullmatch(key)
  return match[1] or '', match[2][0] != 'p', int(match[3])


def _budgets(found: Mapping[str, Any]) -> list[str]:
  """Returns the names of the budgets that students are trained at."""
  setups = [setup for setup in found.get('setups') or [] if setup]
  own = [str(setup['budget']) for setup in setups if setup.get('budget')]
  return list(dict.fromkeys(own)) or [str(found.get('budget'))]


def _named(budgets: Sequence[str]) -> str:
  if len(budgets) == 1:
    return f'{budgets[0]} budget'
  return f'{", ".join(budgets[:-1])} and {budgets[-1]} budgets'


def _calibration(found: Mapping[str, Any] | None) -> markup.Html | None:
  if not found:
    return None
  share = found.get('coverage')
  words = (
    text.estimate(share, 'percent')
    if isinstance(share, Mapping)
    else text.quantity(share, 'percent')
  )
  return markup.tag(
    'p',
    f'In {text.count(found.get("studies"))} simulated studies of this size '
    f'({text.count(found.get("problems"))} problems, '
    f'{text.count(found.get("replicates"))} runs) the 95% interval of a '
    f'difference held the truth in {words}.',
  )


def _setup(
  results: names.Results, number: int, setup: dict[str, Any]
) -> markup.Html:
  arms = [arm for arm in setup.get('arms') or [] if arm]
  untuned = setup.get('untuned') or {}
  named = title(results, setup)
  transfer = [one for one in results['training'].get('transfer') or [] if one]
  sets = metrics(setup, transfer)
  about = {str(one.get('name')): one for one in transfer}
  parts = []
  for at, (name, keys) in enumerate((sets or {'': []}).items()):
    known = about.get(name)
    heading = None
    if name:
      heading = markup.tag('h4', f'On problems it was not trained for: {name}')
    if known:
      about_it = [f'task {known.get("task")}']
      if known.get('split'):
        about_it.append(f'split {known["split"]}')
      if known.get('problems'):
        about_it.append(f'{text.count(known["problems"])} problems')
      words = markup.tag('p', ', '.join(about_it), '.', class_='lead')
      heading = markup.join(heading, words)
    parts.append(
      [
        heading,
        markup.tag(
          'div',
          [
            _arm_chart(results, f'arms-{number}-{at}', key, named, setup)
            for key in keys
          ],
          class_='grid',
        ),
        contrasts.table(
          [
            c
            for c in setup.get('contrasts') or []
            if c and _set(c.get('metric')) == name
          ],
          {arm['arm']: str(arm.get('label') or arm['arm']) for arm in arms},
        ),
        _arm_table(results, arms, untuned, keys)
        if arms or untuned
        else markup.absent(named),
      ]
    )
  return markup.join(
    markup.tag('h3', named),
    markup.tag('p', f'The student is {setup.get("model")}.', class_='lead'),
    parts,
    _calibration(setup.get('calibration')),
    _run_table(arms),
  )


def _set(metric: Any) -> str:
  match = _METRIC.fullmatch(str(metric))
  return (match[1] or '') if match else ''


def _arm_chart(
  results: names.Results,
  name: str,
  metric: str,
  named: str,
  setup: dict[str, Any],
) -> markup.Html | None:
  untuned = setup.get('untuned') or {}
  rows = [
    plots.Row(
      label=str(arm.get('label') or arm['arm']),
      kind=names.kind(results, arm['arm']),
      estimate=arm.get(metric),
      dots=[
        run[metric]
        for run in arm.get('replicates') or []
        if text.known(run.get(metric))
      ],
    )
    for arm in setup.get('arms') or []
    if arm
  ]
  if untuned.get(metric):
    rows.append(
      plots.Row(label='untuned', kind='other', estimate=untuned[metric])
    )
  runs = {len(row.dots) for row in rows if row.dots}
  rings = f' Rings: the {max(runs)} single runs.' if runs else ''
  return figures.rows(
    f'{name}-{bare(metric).replace("@", "-")}',
    f'{metric}: {named}',
    f'Test problems solved. 95% intervals; '
    f'{text.problems(r.estimate for r in rows)} problems.{rings}',
    rows,
    unit='percent',
  )


def _arm_table(
  results: names.Results,
  arms: list[dict[str, Any]],
  untuned: dict[str, Any],
  keys: list[str],
) -> markup.Html:
  rows = []
  for arm in arms:
    runs = arm.get('replicates') or []
    epochs = [r['epochs'] for r in runs if text.known(r.get('epochs'))]
    rows.append(
      [
        names.key(results, arm['arm'], arm.get('label') or arm['arm']),
        *(markup.estimate(arm.get(key), 'percent') for key in keys),
        _range(arm.get('examples') or [], text.count),
        _range(epochs, text.number),
        text.count(len(runs)),
      ]
    )
  if untuned:
    cells = [markup.estimate(untuned.get(key), 'percent') for key in keys]
    rows.append(['untuned', *cells, '0', '0', '1'])
  heads = ['Trained on', *map(bare, keys), 'Examples', 'Epochs', 'Runs']
  return markup.table(
    heads, rows, label='Students by arm', numeric=range(1, len(heads))
  )


def _run_table(arms: list[dict[str, Any]]) -> markup.Html | None:
  runs = [(arm, run) for arm in arms for run in arm.get('replicates') or []]
  if not runs:
    return None
  found = {key for _, run in runs for key in run if _METRIC.fullmatch(key)}
  keys = sorted(found, key=_order)
  return markup.details(
    f'Each of the {len(runs)} runs',
    markup.table(
      ['Trained on', 'Run', *keys, 'Examples', 'Epochs', 'Best step'],
      [
        [
          arm.get('label') or arm['arm'],
          run.get('replicate'),
          *(text.quantity(run.get(key), 'percent') for key in keys),
          text.count(run.get('examples')),
          text.number(run.get('epochs')),
          text.count(run.get('best_step')),
        ]
        for arm, run in runs
      ],
      label='Single runs',
      numeric=range(1, len(keys) + 5),
    ),
  )


def _range(values: list[float], form: Any) -> str:
  if not values:
    return 'unknown'
  low, high = form(min(values)), form(max(values))
  return low if low == high else f'{low} to {high}'
