"""The page: one HTML file that loads nothing and runs nothing.

The content policy forbids everything but the one style sheet, by its hash, so
that even markup that slipped through could not load or run anything.
"""

import base64
import hashlib

from wcse_jax import storage
from wcse_jax.report import (
  appendix,
  chosen,
  evidence,
  markup,
  names,
  planned,
  sampled,
  style,
  summary,
  trained,
)


# Anchor, title and content of each section after the answer.
_SECTIONS = (
  ('compared', 'What was compared', summary.compared),
  ('data', 'The sampled data', sampled.quality),
  ('reasoning', 'Is the reasoning sound?', chosen.reasoning),
  ('chosen', 'What was trained on', chosen.selected),
  ('training', 'Students trained on it', trained.training),
  ('truth', 'Is the estimate right?', evidence.truth),
  ('planned', 'What would a pilot have said?', planned.planned),
  ('ratios', 'Would another cost ratio change the winner?', evidence.ratios),
  ('cost', 'What the study cost', appendix.cost),
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
  title = results.get('title') or 'Weaker and cheaper, or stronger and dearer?'
  links = [markup.tag('a', t, href=f'#{anchor}') for anchor, t, _ in _SECTIONS]
  body = markup.tag(
    'body',
    markup.tag(
      'header',
      markup.tag('h1', title),
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
  head = markup.tag(
    'head',
    markup.tag('meta', charset='utf-8'),
    markup.tag('meta', http_equiv='Content-Security-Policy', content=policy()),
    markup.tag('meta', name='referrer', content='no-referrer'),
    markup.tag(
      'meta', name='viewport', content='width=device-width, initial-scale=1'
    ),
    markup.tag('meta', name='color-scheme', content='light dark'),
    markup.tag('title', title),
    markup.tag('style', markup.raw(style.SHEET)),
  )
  return f'<!doctype html>\n{markup.tag("html", head, body, lang="en")}\n'


def write(results: names.Results, folder: str) -> None:
  """Publishes the page as `folder/index.html`.

  Raises:
    OSError: if it cannot be written.
  """
  storage.publish(storage.join(folder, 'index.html'), render(results))


def policy() -> str:
  """Returns the content security policy: the style sheet and nothing else."""
  digest = hashlib.sha256(style.SHEET.encode('utf-8')).digest()
  sha256 = base64.b64encode(digest).decode('ascii')
  return (
    f"default-src 'none'; style-src 'sha256-{sha256}'; img-src 'none'; "
    "base-uri 'none'; form-action 'none'"
  )
