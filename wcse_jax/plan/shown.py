"""A plan as a table for the terminal."""

from collections.abc import Callable, Mapping
from typing import Any


def table(
  result: Mapping[str, Any], shown: Callable[[float], str] = '{:.3f}'.format
) -> str:
  """Returns a plan as a table for the terminal."""

  def ends(row, low: str = 'low', high: str = 'high') -> str:
    if row[low] is None and row[high] is None:
      return ''
    low, high = (
      'any' if row[x] is None else shown(row[x]) for x in (low, high)
    )
    return f' [{low}, {high}]'

  lines = [f'estimand: {result["estimand"]}', '']
  lines.append(f'{"model":<24}{"cost":>12}{"k":>6}  coverage@k')
  for name, model in result['models'].items():
    for row in model['curve']:
      mark = '  extrapolated' if row['extrapolated'] else ''
      lines.append(
        f'{name:<24}{model["cost"]:>12.4g}{row["k"]:>6}  '
        f'{shown(row["coverage"])}{ends(row)}{mark}'
      )
  for name, model in result['models'].items():
    if model['usd_per_million_right'] is not None:
      usd = model['usd_per_million_right']
      lines.append(f'{name:<24}{usd:.4g} dollars a million right samples')
  for pair in result['pairs']:
    ratio = pair['break_even_ratio']
    over = pair['overtakes_at']
    lines += [
      '',
      f'{pair["weak"]} at {pair["k_weak"]} against {pair["strong"]} at '
      f'{pair["k_strong"]}, cost ratio {pair["ratio"]:.3g}: '
      f'{pair["rounding"]}',
      f'  gap {shown(pair["gap"])}{ends(pair, "gap_low", "gap_high")}: '
      f'{pair["verdict"]}' + _could_tell(pair),
      '  break-even cost ratio '
      + ('none' if ratio is None else shown(ratio))
      + ends(pair, 'break_even_low', 'break_even_high'),
      f'  {pair["strong"]} overtakes at '
      + ('no budget' if over is None else f'{over:.3g} samples a problem')
      + ends(pair, 'overtakes_low', 'overtakes_high'),
    ]
  a = result['allocation']
  lines += [
    '',
    f'plan ({a["kind"]}) for {a["objective"]}: {shown(a["value"])}{ends(a)}, '
    f'{shown(a["gain"]["value"])}{ends(a["gain"])} more than the best pure arm '
    f'({a["best_pure"]["samples"]} of {a["best_pure"]["model"]}: '
    f'{shown(a["best_pure"]["value"])})',
  ]
  for part in a['parts']:
    stages = ', then '.join(
      f'{one["samples"]} of {one["model"]}'
      + (
        f' in rounds of {one["round"]}' if one['round'] < one['samples'] else ''
      )
      for one in part['stages']
    )
    until = f', until {part["until"]} right' if part['until'] else ''
    level = f' of level {part["level"]}' if part['level'] else ''
    lines.append(
      f'  {100 * part["share"]:.0f}% of the problems{level}: '
      f'{stages or "nothing"}{until}'
    )
  return '\n'.join(lines)


def _could_tell(pair: Mapping[str, Any]) -> str:
  if pair['verdict'] != 'cannot tell':
    return ''
  if pair['problems_needed']:
    return f'; a pilot of {pair["problems_needed"]} problems could tell'
  return '; no larger pilot could tell'
