"""The page that lists all problems, with the one script that filters them."""

from collections.abc import Sequence
from typing import Any

from wcse_jax.report import markup
from wcse_jax.report.browser import data, page, script


_TITLE = 'Samples'
# Characters of a question in the list.
_SHOWN = 400


def render(
  rows: Sequence[Sequence[Any]], sources: Sequence[data.Source], total: int
) -> str:
  """Returns the page that lists the problems."""
  levels = sorted({row[2] for row in rows} - {''})
  held = {
    'rows': rows,
    'roles': [source.title for source in sources],
    'kinds': list(data.KINDS),
    'levels': levels,
  }
  models = [
    (str(i), f'{source.title}: {source.name}')
    for i, source in enumerate(sources)
  ]
  body = markup.tag(
    'body',
    markup.tag(
      'header',
      markup.tag('h1', _TITLE),
      markup.tag(
        'p',
        f'{total:,} samples of {len(rows):,} problems.',
        class_='lead',
      ),
      markup.tag(
        'noscript',
        markup.tag(
          'p',
          'Without its script this page cannot list the problems; they are in '
          'the folder pages, one file each.',
          class_='banner',
        ),
      ),
    ),
    markup.tag(
      'form',
      markup.tag(
        'label',
        'Search',
        markup.tag('input', id='search', type='search', autocomplete='off'),
      ),
      _choice('level', 'Level', [(one, one) for one in levels]),
      _choice('solved', 'Solved by', _solved(sources)),
      _choice('model', 'Samples of', models),
      _choice('kind', 'Samples that are', list(data.KINDS.items())),
      id='filters',
      hidden=True,
    ),
    markup.tag('p', '', id='count', role='status'),
    markup.tag(
      'div',
      markup.tag(
        'div',
        markup.tag('ol', id='list'),
        markup.tag(
          'button', 'Show more', id='more', type='button', hidden=True
        ),
        id='side',
      ),
      markup.tag(
        'iframe', id='frame', title='Samples of the problem', sandbox=True
      ),
      id='panes',
    ),
    markup.data(held, 'data'),
    markup.script(script.SCRIPT),
    class_='browser',
  )
  return markup.document(_TITLE, body, page.SHEET, policy())


def _solved(sources: Sequence[data.Source]) -> list[tuple[str, str]]:
  if len(sources) < 2:
    return [('all', 'the model'), ('none', 'not solved')]
  first, second = (source.title for source in sources[:2])
  return [
    ('0', f'{first} alone'),
    ('1', f'{second} alone'),
    ('all', 'both'),
    ('none', 'neither'),
  ]


def _choice(
  name: str, label: str, options: Sequence[tuple[str, str]]
) -> markup.Html:
  # Values are numbers: texts of the study are no attributes.
  return markup.tag(
    'label',
    label,
    markup.tag(
      'select',
      markup.tag('option', 'any', value=''),
      [
        markup.tag('option', shown, value=str(at))
        for at, (_, shown) in enumerate(options)
      ],
      id=name,
    ),
  )


def short(question: str) -> str:
  text = ' '.join(question.split())
  return text if len(text) <= _SHOWN else f'{text[:_SHOWN]}…'


def policy() -> str:
  """Returns the content security policy of the list.

  One style sheet, one script, and its own pages in the frame.
  """
  return (
    f"default-src 'none'; style-src {markup.hashed(page.SHEET)}; "
    f"script-src {markup.hashed(script.SCRIPT)}; frame-src 'self'; "
    "base-uri 'none'; form-action 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
  )
