"""Differences between arms, with what they say."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from wcse_jax.report import markup, names, text


def table(
  found: Sequence[Mapping[str, Any]], labels: Mapping[str, str]
) -> markup.Html | None:
  """Returns the differences of one set of problems; None where there are none.

  Args:
    found: as in `results.json`.
    labels: arm -> what it is called.
  """
  if not found:
    return None
  tested = any(text.known(c.get('p')) for c in found)
  rows = []
  for c in found:
    a, b = (labels.get(c[side], str(c[side])) for side in ('a', 'b'))
    rows.append(
      [
        markup.join(
          f'{a} − {b}',
          markup.tag('span', 'main comparison', class_='interval')
          if names.primary(c)
          else None,
        ),
        c.get('metric'),
        markup.estimate(c.get('difference'), 'points'),
        *((text.chance(c.get('p')), _adjusted(c)) if tested else ()),
        c.get('reading') or text.reading(c.get('difference'), a, b),
      ]
    )
  heads = ['Difference', 'Measure', 'Points']
  heads += ['p', 'p, adjusted'] if tested else []
  return markup.table(
    [*heads, 'Reading'],
    rows,
    label='Differences between arms',
    numeric=range(2, len(heads)),
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
