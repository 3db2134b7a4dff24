"""Tags and tables from text, which is escaped unless it was made here.

Text of a study (names, ids, levels, model output) is a child of a tag, never an
attribute; so whatever it holds, it changes neither the tags of a page nor their
attributes.
"""

import base64
import hashlib
import html
import json
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from wcse_jax.report import text


_VOID = frozenset({'meta', 'br', 'input'})


class Html(str):
  """Markup that was made by this module, not to be escaped again.

  Attributes:
    charts: the `charts.Chart` of each figure in it, in order.
    scripts: sources of the scripts in it.

  Both stay with the markup when it becomes part of other markup.
  """

  charts: tuple[Any, ...]
  scripts: tuple[str, ...]

  def __new__(
    cls, source: str, charts: Iterable[Any] = (), scripts: Iterable[str] = ()
  ) -> 'Html':
    made = super().__new__(cls, source)
    made.charts, made.scripts = tuple(charts), tuple(scripts)
    return made


Child: TypeAlias = 'Html | str | int | float | Iterable[Child] | None'


def tag(name: str, /, *children: Child, **attributes: Any) -> Html:
  """Returns an element.

  Args:
    name: of the element.
    *children: escaped unless they are `Html`; None is left out, and the items
      of other iterables are taken one by one.
    **attributes: `class_` gives `class`, `aria_label` gives `aria-label`; None
      is left out and True gives an attribute without a value.
  """
  parts = [f'<{name}']
  for key, value in attributes.items():
    key = key.rstrip('_').replace('_', '-')
    if value is True:
      parts.append(f' {key}')
    elif value is not None and value is not False:
      value = html.escape(text.clean(_attribute(value)), quote=True)
      parts.append(f' {key}="{value}"')
  parts.append('>')
  if name in _VOID:
    if children:
      raise ValueError(f'{name} takes no children; got {len(children)}.')
    return Html(''.join(parts))
  inner = join(*children)
  whole = ''.join(parts) + inner + f'</{name}>'
  return Html(whole, inner.charts, inner.scripts)


def join(*children: Child) -> Html:
  """Returns children one after another, escaped as by `tag`."""
  parts, charts, scripts = [], [], []
  for child in children:
    if child is None:
      continue
    if isinstance(child, (str, int, float)) and not isinstance(child, Html):
      parts.append(html.escape(text.clean(child), quote=True))
      continue
    made = child if isinstance(child, Html) else join(*child)
    parts.append(made)
    charts += made.charts
    scripts += made.scripts
  return Html(''.join(parts), charts, scripts)


def raw(source: str) -> Html:
  """Returns text of the program itself, such as the style sheet, as it is."""
  return Html(source)


def script(source: str) -> Html:
  """Returns a script of the program, which the policy must name."""
  return Html(tag('script', raw(source)), scripts=[source])


def data(value: Any, name: str) -> Html:
  """Returns a JSON value for a script, which finds it by its id.

  No text in it can end the element that it is in.
  """
  source = json.dumps(value, ensure_ascii=True, allow_nan=False)
  return tag(
    'script',
    raw(source.replace('<', '\\u003c')),
    type='application/json',
    id=name,
  )


def table(
  heads: Sequence[Child],
  rows: Iterable[Sequence[Child]],
  *,
  label: str,
  numeric: Iterable[int] = (),
  marked: Iterable[int] = (),
) -> Html:
  """Returns a table that scrolls within its own box.

  Args:
    heads: of the columns.
    rows: cells; the first of each row is its head.
    label: what the table shows, for those who cannot see it; a text of the
      program, not of the study.
    numeric: positions of the columns that are set right.
    marked: positions of the rows that stand out.
  """
  numeric, marked = frozenset(numeric), frozenset(marked)
  side = ['num' if column in numeric else None for column in range(len(heads))]
  body = []
  for at, row in enumerate(rows):
    first, *others = row
    body.append(
      tag(
        'tr',
        tag('th', first, scope='row', class_=side[0]),
        [tag('td', cell, class_=side[c + 1]) for c, cell in enumerate(others)],
        class_='marked' if at in marked else None,
      )
    )
  head = tag(
    'tr',
    [tag('th', h, scope='col', class_=side[c]) for c, h in enumerate(heads)],
  )
  return tag(
    'div',
    tag('table', tag('thead', head), tag('tbody', body)),
    class_='scroll',
    role='region',
    tabindex=0,
    aria_label=label,
  )


def estimate(found: dict[str, Any] | None, unit: str) -> Html:
  """Returns a cell: the value, and under it the interval and n."""
  if found is None:
    return tag('span', 'not measured', class_='absent')
  if not text.known(found.get('value')):
    value = tag('span', 'undefined', class_='absent')
    below = f'n = {text.count(found.get("n"))}'
  else:
    value = tag('span', text.quantity(found['value'], unit), class_='value')
    below = f'{text.interval(found, unit)}, n = {text.count(found.get("n"))}'
  return join(value, ' ', tag('span', below, class_='interval'))


def details(summary: Child, *children: Child) -> Html:
  """Returns a part that is folded until it is asked for."""
  return tag('details', tag('summary', summary), *children)


def facts(pairs: Iterable[tuple[str, Child]]) -> Html:
  """Returns names with their values."""
  return tag(
    'dl',
    [(tag('dt', name), tag('dd', value)) for name, value in pairs],
    class_='facts',
  )


def absent(what: str) -> Html:
  """Returns the line in place of a part that is not there yet."""
  return tag('p', f'{what}: this part has not run yet.', class_='absent')


def _attribute(value: Any) -> str:
  if isinstance(value, float):
    return f'{value:.2f}'.rstrip('0').rstrip('.')
  return str(value)


def document(title: str, body: Html, sheet: str, policy: str) -> str:
  """Returns a whole page.

  Args:
    title: of the page.
    body: its body.
    sheet: the style sheet.
    policy: the content security policy.
  """
  head = tag(
    'head',
    tag('meta', charset='utf-8'),
    tag('meta', http_equiv='Content-Security-Policy', content=policy),
    tag('meta', name='referrer', content='no-referrer'),
    tag('meta', name='viewport', content='width=device-width, initial-scale=1'),
    tag('meta', name='color-scheme', content='light dark'),
    tag('title', title),
    tag('style', raw(sheet)),
  )
  return f'<!doctype html>\n{tag("html", head, body, lang="en")}\n'


def hashed(source: str) -> str:
  """Returns how a policy names a style sheet or a script."""
  digest = hashlib.sha256(source.encode('utf-8')).digest()
  return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
