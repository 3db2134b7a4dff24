"""What the study cost: by part, and row by row."""

from collections.abc import Iterable, Mapping
from typing import Any

from wcse_jax.report import figures, markup, names, text


# Part of a study -> the stages of the ledger that it is made of.
_PARTS = {
  'Sampling': ('sample',),
  'Grading': ('grade', 'judge'),
  'Training': ('train',),
  'Evaluation': ('evaluate',),
}
# What following the pilot's plan cost is booked with this before the stage.
_PLANNED = 'planned '
_FOLLOWING, _OTHER = 'Following the plan', 'Other'
# Key of a row -> title, caption, unit of the numbers, and how they are written.
_CHARTS = {
  'flops': (
    'FLOPs by part',
    'Multiplications and additions of matrix products.',
    'FLOP',
    lambda value: text.scaled(value, 'FLOP'),
  ),
  'chip_seconds': (
    'Chip time by part',
    'Seconds times chips, without compiling.',
    'chip-seconds',
    text.duration,
  ),
  'usd': (
    'Money by part',
    'Chip time at the prices of the ledger.',
    'US dollars',
    text.money,
  ),
}


def cost(results: names.Results) -> markup.Html:
  """Returns what was spent on each part, and the ledger."""
  ledger = results.get('ledger') or {}
  rows = [row for row in ledger.get('rows') or [] if row]
  found = by_part(results)
  if not found:
    return markup.absent('Cost')
  return markup.join(
    markup.tag(
      'p',
      'Counts, not estimates: they have no interval. Compiling is left out of '
      'chip time; a process on a CPU counts as one chip.',
      class_='lead',
    ),
    markup.tag(
      'div',
      [_chart(key, found) for key in _CHARTS],
      class_='grid',
    ),
    _part_table(found),
    markup.details('Every row of the ledger', _ledger_table(rows))
    if rows
    else None,
  )


def by_part(results: names.Results) -> dict[str, dict[str, float | None]]:
  """Returns part -> its FLOPs, chip-seconds and dollars; None if unknown.

  Dollars of a part are known where each of its rows that took time has some.
  """
  ledger = results.get('ledger') or {}
  rows = [row for row in ledger.get('rows') or [] if row]
  rows = rows or [row for row in ledger.get('by_stage') or [] if row]
  parts: dict[str, list[Mapping[str, Any]]] = {}
  for row in rows:
    parts.setdefault(_part(str(row.get('stage'))), []).append(row)
  order = [*_PARTS, _FOLLOWING, _OTHER]
  return {
    part: {
      'flops': _sum(parts[part], 'flops'),
      'chip_seconds': _sum(parts[part], 'chip_seconds'),
      'usd': _dollars(parts[part]),
    }
    for part in order
    if part in parts
  }


def _part(stage: str) -> str:
  if stage.startswith(_PLANNED):
    return _FOLLOWING
  return next((p for p, stages in _PARTS.items() if stage in stages), _OTHER)


def _sum(rows: Iterable[Mapping[str, Any]], key: str) -> float:
  return sum(row.get(key) or 0 for row in rows)


def _dollars(rows: Iterable[Mapping[str, Any]]) -> float | None:
  prices = [row.get('usd') for row in rows if row.get('chip_seconds')]
  return sum(prices) if all(map(text.known, prices)) else None


def _chart(
  key: str, found: Mapping[str, Mapping[str, float | None]]
) -> markup.Html | None:
  title, caption, unit, form = _CHARTS[key]
  sizes = {part: row[key] for part, row in found.items()}
  if None in sizes.values():
    return None
  whole = sum(sizes.values())
  return figures.bars(
    f'cost-{key.replace("_", "-")}',
    title,
    f'{caption} In brackets the share of the whole study.',
    [
      (
        part,
        size,
        f'{form(size)} ({text.quantity(size / (whole or 1), "percent")})',
      )
      for part, size in sizes.items()
    ],
    unit=unit,
  )


def _part_table(
  found: Mapping[str, Mapping[str, float | None]],
) -> markup.Html:
  rows = list(found.values())
  prices = [row['usd'] for row in rows if row['usd'] is not None]
  together = {
    'flops': _sum(rows, 'flops'),
    'chip_seconds': _sum(rows, 'chip_seconds'),
    'usd': sum(prices) if len(prices) == len(rows) else None,
  }
  return markup.table(
    ['Part', 'FLOPs', 'Chip time', 'Price'],
    [
      [
        part,
        text.scaled(row['flops'], 'FLOP'),
        text.duration(row['chip_seconds']),
        text.money(row['usd']),
      ]
      for part, row in [*found.items(), ('together', together)]
    ],
    label='Cost by part',
    numeric=range(1, 4),
    marked=[len(rows)],
  )


def _ledger_table(rows: list[dict[str, Any]]) -> markup.Html:
  cells = [
    [
      row.get('stage'),
      row.get('model'),
      text.count(row.get('prefill_tokens')),
      text.count(row.get('decode_tokens')),
      text.scaled(row.get('flops'), 'FLOP'),
      text.duration(row.get('chip_seconds')),
      text.count(row.get('chips')),
      text.money(row.get('usd')),
    ]
    for row in rows
  ]
  sums = {
    key: sum(row.get(key) or 0 for row in rows)
    for key in ('prefill_tokens', 'decode_tokens', 'flops', 'chip_seconds')
  }
  prices = [row['usd'] for row in rows if text.known(row.get('usd'))]
  cells.append(
    [
      'together',
      '',
      text.count(sums['prefill_tokens']),
      text.count(sums['decode_tokens']),
      text.scaled(sums['flops'], 'FLOP'),
      text.duration(sums['chip_seconds']),
      '',
      text.money(sum(prices) if prices else None),
    ]
  )
  heads = [
    'Stage',
    'Model',
    'Prompt tokens',
    'Drawn tokens',
    'FLOPs',
    'Chip time',
    'Chips',
    'Price',
  ]
  return markup.table(
    heads, cells, label='Ledger', numeric=range(2, 8), marked=[len(rows)]
  )
