"""Differences between arms, with what they say."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from wcse_jax.report import markup, names, text


def rows(
  found: Sequence[Mapping[str, Any]], labels: Mapping[str, str]
) -> tuple[list[str], list[list[str]]]:
  """Returns heads and rows of differences, as text.

  Args:
    found: as in `results.json`.
    labels: arm -> what it is called.
  """
  found = [c for c in found if c]
  tested = any(text.known(c.get('p')) for c in found)
  cells = []
  for c in found:
    a, b = (labels.get(c[side], str(c[side])) for side in ('a', 'b'))
    cells.append(
      [
        f'{a} − {b}',
        str(c.get('metric')),
        text.estimate(c.get('difference'), 'points'),
        *((text.chance(c.get('p')), _adjusted(c)) if tested else ()),
        str(c.get('reading') or text.reading(c.get('difference'), a, b)),
      ]
    )
  heads = ['Difference', 'Measure', 'Points']
  heads += ['p', 'p, adjusted'] if tested else []
  return [*heads, 'Reading'], cells


def table(
  found: Sequence[Mapping[str, Any]], labels: Mapping[str, str]
) -> markup.Html | None:
  """Returns the differences of one set of problems; None where there are none.

  Args:
    found: as in `results.json`.
    labels: arm -> what it is called.
  """
  found = [c for c in found if c]
  heads, cells = rows(found, labels)
  if not cells:
    return None
  for c, row in zip(found, cells, strict=True):
    if names.primary(c):
      below = markup.tag('span', 'main comparison', class_='interval')
      row[0] = markup.join(row[0], below)
    row[2] = markup.estimate(c.get('difference'), 'points')
  return markup.table(
    heads,
    cells,
    label='Differences between arms',
    numeric=range(2, len(heads) - 1),
    marked=[at for at, c in enumerate(found) if names.primary(c)],
  )


def explained(setups: Iterable[Mapping[str, Any]]) -> markup.Html | None:
  """Returns what the p-values of setups mean; None where there are none."""
  if not any(
    text.known(c.get('p'))
    for setup in setups
    for c in setup.get('contrasts') or []
    if c
  ):
    return None
  return markup.tag(
    'p',
    'p: how often a difference this large would be seen where there is none. '
    'Adjusted: for the number of comparisons, by the method of Holm; the main '
    'comparison was named beforehand and is not adjusted.',
  )


def _adjusted(contrast: Mapping[str, Any]) -> str:
  if names.primary(contrast) and contrast.get('p_holm') is None:
    return 'not adjusted'
  return text.chance(contrast.get('p_holm'))
