"""The terms of a data set, as the files of its sources state them.

None is invented: what no file at hand states is called unknown.
"""

from wcse_jax import markdown
from wcse_jax.checkpoints import card as cards
from wcse_jax.exports import facts


# On the hub: terms that it has no name for, and none.
_OTHER, _UNKNOWN = 'other', 'unknown'


def metadata(known: facts.Facts) -> dict[str, str]:
  """Returns the licence of the front matter.

  That of all sources where they agree; else `other`, and the card tells.
  """
  stated = {known.problems.license: ('', '')}
  for model in known.models:
    card = model.card
    stated[card.license] = (card.license_name, card.license_link)
  if len(stated) > 1:
    return {'license': _OTHER, 'license_name': 'see-terms-below'}
  ((license_, (name, link)),) = stated.items()
  found = {'license': license_ or _UNKNOWN}
  if license_ == _OTHER:
    found['license_name'] = markdown.plain(name) or 'see-terms-below'
  if license_ and link.startswith('http'):
    found['license_link'] = link
  return found


def paragraphs(known: facts.Facts) -> list[str]:
  """Returns the lines on the terms of every source."""
  found = [_problems(known.problems)]
  found += [_model(model) for model in known.models]
  lines = [f'- {text}' for text in found]
  if known.models:
    lines += [
      '',
      'Whether a licence binds what a model says, or a model that is trained '
      'on it, is for the licence to say: read it before you pass on these rows '
      'or such a model. This card passes on what the files of the sources '
      'state and adds no licence of its own.',
    ]
  sure = [m.name for m in known.models if m.card.license == 'gemma']
  maybe = [m.name for m in known.models if _maybe_gemma(m)]
  for names, begin in (
    (sure, 'are under'),
    (maybe, 'are, if they derive from Gemma 1, 2 or 3 by Google, under'),
  ):
    if names:
      shown = ', '.join(map(markdown.code, names))
      lines += ['', f'{shown} {begin} {_GEMMA}']
  return lines


# Source: Gemma Terms of Use, sections 1.1 (e) and (f), 3.1 to 3.3.
_GEMMA = (
  f'the Gemma Terms of Use ({cards.GEMMA_TERMS}). By their section 1.1 outputs '
  'are not derivatives of Gemma, but a model that is trained on outputs in '
  'order to perform like Gemma is one. Whoever passes on such a model, hosted '
  'services included, is asked by section 3.1 to pass on the use restrictions '
  f'of section 3.2 with the Prohibited Use Policy ({cards.GEMMA_POLICY}), to '
  'give a copy of the terms, to mark modified files, and to keep the notice '
  'that the section words. For outputs and their use whoever made them answers '
  '(section 3.3).'
)


def _problems(problems: facts.Problems) -> str:
  origin = problems.origin
  published = markdown.code(origin.published)
  if origin.source:
    text = f'Problems: {markdown.code(origin.source)}'
  else:
    text = "Problems: files of the user's own"
  text += f'; licence {_stated(problems.license)}.'
  if problems.card.license_files:
    text += f' Beside them lies {_names(problems.card)}.'
  if not origin.source and origin.published:
    text += (
      f' The task reads {published} by itself, which states '
      f'{_stated(origin.published_license)}; whether these are a copy is '
      'unknown.'
    )
  if problems.sha256:
    text += f' sha256 of the split: {markdown.code(problems.sha256)}.'
  return text


def _model(model: facts.Model) -> str:
  card = model.card
  text = f'Model {markdown.code(model.name)}: licence {_stated(card.license)}'
  if card.license_name:
    text += f', called {markdown.code(card.license_name)}'
  if card.license_link:
    text += f', see {markdown.code(card.license_link)}'
  text += '.'
  if not card.license:
    text += (
      ' No file at hand states one; look it up where the model was published.'
    )
  if card.license_files:
    text += f' Beside its weights lies {_names(card)}.'
  return ' '.join([text, *map(markdown.plain, card.notes)])


def _stated(license_: str) -> str:
  return markdown.code(license_) if license_ else 'unknown'


def _names(card: cards.Card) -> str:
  return ', '.join(markdown.code(name) for name in sorted(card.license_files))


def _maybe_gemma(model: facts.Model) -> bool:
  """Returns whether a model of unknown licence may be one of Google's."""
  card = model.card
  if card.license:
    return False
  names = (model.name, model.checkpoint, *card.base_model, *card.notes)
  return model.architecture in cards.GEMMA_ARCHITECTURES or any(
    'gemma' in name.lower() for name in names
  )
