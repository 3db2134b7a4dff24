"""The page: one HTML file that loads nothing and runs its own script alone.

The content policy forbids everything but the one style sheet and the script of
the dial, by their hashes, so that even markup that slipped through could not
load or run anything.
"""

from collections.abc import Sequence

from wcse_jax import storage
from wcse_jax.report import (
  appendix,
  brief,
  charts,
  chosen,
  costs,
  dial,
  evidence,
  live,
  markup,
  names,
  planned,
  ratios,
  sampled,
  style,
  summary,
  trained,
)


# Anchor, title and content of each section after the answer.
_SECTIONS = (
  ('ratio', 'Dial the cost ratio', dial.dial),
  ('compared', 'What was compared', summary.compared),
  ('data', 'The sampled data', sampled.quality),
  ('reasoning', 'Is the reasoning sound?', chosen.reasoning),
  ('chosen', 'What was trained on', chosen.selected),
  ('training', 'Students trained on it', trained.training),
  ('truth', 'Is the estimate right?', evidence.truth),
  ('planned', 'What would a pilot have said?', planned.planned),
  ('ratios', 'Would another cost ratio change the winner?', ratios.ratios),
  ('cost', 'What the study cost', costs.cost),
  ('examples', 'Samples to read', appendix.examples),
  ('notes', 'How to read this', appendix.notes),
  ('origin', 'How it was run', appendix.origin),
)


def render(results: names.Results) -> str:
  """Returns the page of a study, finished or not.

  Args:
    results: the content of `results.json`; what is missing or None has not
      run, and the page says so.
  """
  return _document(results, _body(results))


def write(
  results: names.Results, folder: str, served: live.Live | None = None
) -> None:
  """Publishes the page, and beside it the files of its charts and a summary.

  Args:
    results: as in `render`.
    folder: of `index.html`, `summary.md` and `figures/`.
    served: what makes it follow a study that runs; None: it is static.

  Raises:
    OSError: if they cannot be written.
  """
  body = _body(results, served)
  charts.publish(body.charts, folder)
  storage.publish(storage.join(folder, 'summary.md'), brief.render(results))
  storage.publish(storage.join(folder, 'index.html'), _document(results, body))


def _body(
  results: names.Results, served: live.Live | None = None
) -> markup.Html:
  links = [markup.tag('a', t, href=f'#{anchor}') for anchor, t, _ in _SECTIONS]
  return markup.tag(
    'body',
    markup.tag(
      'header',
      markup.tag('h1', names.title(results)),
      served.banner() if served else None,
      summary.answer(results),
      markup.tag('nav', links, aria_label='Sections'),
    ),
    markup.tag(
      'main',
      [
        markup.tag('section', markup.tag('h2', t), part(results), id=anchor)
        for anchor, t, part in _SECTIONS
      ],
    ),
  )


def _document(results: names.Results, body: markup.Html) -> str:
  return markup.document(
    names.title(results), body, style.SHEET, policy(body.scripts)
  )


def policy(scripts: Sequence[str]) -> str:
  """Returns the content security policy: the style sheet and these scripts.

  The one of a served page may ask its server.
  """
  rules = [
    "default-src 'none'",
    f'style-src {markup.hashed(style.SHEET)}',
    "img-src 'none'",
    "base-uri 'none'",
    "form-action 'none'",
  ]
  if scripts:
    rules += [
      f'script-src {" ".join(map(markup.hashed, scripts))}',
      "require-trusted-types-for 'script'",
      "trusted-types 'none'",
    ]
  if live.SCRIPT in scripts:
    rules.append("connect-src 'self'")
  return '; '.join(rules)
