"""Model cards: where an exported model comes from, and on which terms.

A card is read from what stands beside the weights and written into the folder
of an export.  It passes on what the source states and never invents a licence.
What it reads may come from anywhere: sizes are bounded, nothing is constructed
from YAML but strings, and what does not fit is left out with a warning.
"""

import dataclasses
import os
import re
from collections.abc import Mapping
from typing import Any

import yaml
from absl import logging

import wcse_jax
from wcse_jax import markdown, storage


# Licences that the project's own models have.
_OWN_LICENSE = 'apache-2.0'
_OWN_LICENSE_LINK = 'https://www.apache.org/licenses/LICENSE-2.0'
_EMBEDDED = os.path.join(
  os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'embedded'
)

# Source: Gemma Terms of Use, section 3.1 (what a distribution must carry) and
# 3.2 (use restrictions).  Gemma 4 is not under them: it has the licence
# Apache-2.0.
GEMMA_TERMS = 'https://ai.google.dev/gemma/terms'
GEMMA_POLICY = 'https://ai.google.dev/gemma/prohibited_use_policy'
_GEMMA_NOTICE = (
  'Gemma is provided under and subject to the Gemma Terms of Use found at '
  'ai.google.dev/gemma/terms'
)
GEMMA_ARCHITECTURES = (
  'GemmaForCausalLM',
  'Gemma2ForCausalLM',
  'Gemma3ForCausalLM',
)

# Files of terms beside a source, and how many of which size are passed on.
_TERMS = re.compile(
  r'(licen[cs]e|notice|use_policy|gemma_terms)[\w-]*(\.(md|txt|rst|html|pdf))?',
  re.IGNORECASE,
)
_TERMS_BYTES = 1 << 20
_TERMS_FILES = 16
# Of a README only its YAML front matter is read, which must end within this.
_FRONT_BYTES = 64 << 10
# Nesting that no card has, and that takes the parser seconds.
_DEEP = re.compile(r'(?:[\[{]\s*){32}')
# Entries of a list of it.
_ENTRIES = 16

_LICENSE_ID = re.compile(r'[a-z0-9][a-z0-9.+-]{0,63}')
_HUB_ID = re.compile(r'[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?')
_URL = re.compile(r'https?://[^\s<>"\'`\\)(]+')
# GGUF file types that hold no quantised tensor: F32, F16, BF16.
_GGUF_FLOATS = (0, 1, 32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Card:
  """What a model card says of where a model comes from.

  Attributes:
    base_model: the models it derives from, as users know them: a hub name, or
      the last part of a path; empty for one that was trained from scratch.
    data: what it was trained on; empty where it was only converted.
    license: identifier as on the Hugging Face hub; empty where none is stated.
    license_name: of a licence that the hub has no identifier for.
    license_link: where its text is: a URL, or a name of `license_files`.
    license_files: files of terms to pass on, by name.
    notes: sentences to add.
  """

  base_model: tuple[str, ...] = ()
  data: tuple[str, ...] = ()
  license: str = ''
  license_name: str = ''
  license_link: str = ''
  license_files: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
  notes: tuple[str, ...] = ()


def read(source: str | Mapping[str, Any]) -> Card:
  """Returns the card of a model that derives from a checkpoint.

  Args:
    source: folder of the checkpoint, or the metadata of a GGUF file.
  """
  if isinstance(source, str):
    return _of_folder(source)
  return _of_gguf(source)


def files(
  card: Card, *, name: str, architecture: str, parameters: int, dtype: str
) -> dict[str, bytes]:
  """Returns what an export's folder needs besides weights and tokenizer.

  The model card `README.md`, the files of terms, and for models under the
  Gemma Terms of Use the notice that these ask for.

  Args:
    card: where the model comes from.
    name: of the model.
    architecture: name of its transformers class.
    parameters: their number.
    dtype: of the weights in the folder.
  """
  found = dict(card.license_files)
  if card.license == 'gemma' and not _has_notice(found):
    own = found.get('NOTICE', b'')
    found['NOTICE'] = (own + b'\n' if own else b'') + (
      f'{_GEMMA_NOTICE}\n\nThe files of this folder were modified: they were '
      f'written by wcse_jax {wcse_jax.__version__} from the weights that '
      'README.md names.\n'
    ).encode()
  text = render(
    dataclasses.replace(card, license_files=found),
    name=name,
    architecture=architecture,
    parameters=parameters,
    dtype=dtype,
  )
  return {'README.md': text.encode(), **found}


def render(
  card: Card, *, name: str, architecture: str, parameters: int, dtype: str
) -> str:
  """Returns the text of README.md; see `files` for the arguments."""
  version = wcse_jax.__version__
  lines = [
    '---',
    _front(card).rstrip(),
    '---',
    f'# {markdown.plain(name)}',
    '',
    f'A causal language model: {markdown.plain(architecture)}, '
    f'{parameters:,} parameters in {markdown.plain(dtype)}. This folder was '
    f'written by wcse_jax {version} and loads with transformers.',
    '',
    '## Origin',
    '',
  ]
  bases = ', '.join(markdown.code(base) for base in card.base_model)
  match bool(bases), bool(card.data):
    case True, True:
      lines += [f'Base model: {bases}. Its weights were trained further on:']
    case True, False:
      lines += [
        f'Base model: {bases}. Its weights were not trained further; they '
        f'were stored anew, in {markdown.plain(dtype)}.'
      ]
    case False, True:
      lines += ['It was trained from scratch on:']
  if card.data:
    lines += ['', *(f'- {markdown.code(data)}' for data in card.data)]
  for note in card.notes:
    lines += ['', markdown.plain(note)]
  lines += ['', '## Licence', '', *_terms(card, architecture)]
  return '\n'.join(lines) + '\n'


def _front(card: Card) -> str:
  """Returns the YAML front matter, without its fences.

  Source: Hugging Face hub, documentation of model cards (metadata).
  """
  fields: dict[str, Any] = {}
  if card.license:
    fields['license'] = card.license
    for field in ('license_name', 'license_link'):
      if getattr(card, field):
        fields[field] = getattr(card, field)
  bases = [base for base in card.base_model if _HUB_ID.fullmatch(base)]
  if bases:
    fields['base_model'] = bases
  # Other names of data stand in the text alone: the hub refuses them.
  datasets = [data for data in card.data if _HUB_ID.fullmatch(data)]
  if datasets:
    fields['datasets'] = datasets
  fields |= {'library_name': 'transformers', 'tags': ['wcse_jax']}
  return yaml.safe_dump(
    fields, sort_keys=False, allow_unicode=True, width=10**6
  )


def _terms(card: Card, architecture: str) -> list[str]:
  """Returns the paragraphs on the licence."""
  found = []
  if card.license == 'gemma':
    copies = [n for n in card.license_files if not _is_notice(n)]
    found += [
      f'Gemma Terms of Use: {GEMMA_TERMS}. They bind models that derive from '
      'Gemma. Section 3.1 asks of whoever passes these weights on: to pass on '
      'the use restrictions of section 3.2 with the Prohibited Use Policy '
      f'({GEMMA_POLICY}), to give a copy of the terms, to mark modified files '
      'as modified, and to keep the notice that lies beside this card.'
    ]
    if not copies:
      found += [
        'No copy of the terms was found beside the base model: add one before '
        'you pass these weights on.'
      ]
  elif card.license:
    called = card.license_name or card.license
    link = (
      f' ({markdown.plain(card.license_link)})' if card.license_link else ''
    )
    found += [
      f'The base model states the licence {markdown.code(called)}{link}. It is '
      'passed on with these weights.'
    ]
  else:
    found += [
      'The files of the base model state no licence. Look it up where the base '
      'model was published, before you use these weights or pass them on.'
    ]
    if architecture in GEMMA_ARCHITECTURES:
      found += [
        "The architecture is that of Gemma: weights that derive from Google's "
        'Gemma 1, 2 or 3 are bound by the Gemma Terms of Use, '
        f'{GEMMA_TERMS}.'
      ]
  if card.license_files:
    names = ', '.join(
      markdown.code(name) for name in sorted(card.license_files)
    )
    found += [f'Terms in this folder: {names}.']
  return [line for text in found for line in (text, '')][:-1]


def _of_folder(folder: str) -> Card:
  path = storage.absolute(folder).rstrip('/')
  name = markdown.plain(path.rpartition('/')[2])
  if os.path.dirname(path) == _EMBEDDED:
    return Card(
      base_model=(name,),
      license=_OWN_LICENSE,
      license_link=_OWN_LICENSE_LINK,
      notes=(f'{name} was trained from scratch by wcse_jax.',),
    )
  terms = _license_files(folder)
  fields = _front_matter(storage.join(folder, 'README.md'))
  older = ', '.join(
    markdown.code(base) for base in fields.get('base_model', [])
  )
  notes = (
    f'The card of {markdown.code(name)} names as its base model: {older}.',
  )
  return Card(
    base_model=(name,),
    license_files=terms,
    notes=notes if older else (),
    **_license(
      fields.get('license', []),
      ''.join(fields.get('license_name', [])[:1]),
      ''.join(fields.get('license_link', [])[:1]),
      terms,
    ),
  )


def _of_gguf(metadata: Mapping[str, Any]) -> Card:
  def text(key: str) -> str:
    value = metadata.get(f'general.{key}')
    return markdown.plain(value) if isinstance(value, str) else ''

  count = metadata.get('general.base_model.count')
  count = min(count, _ENTRIES) if isinstance(count, int) else 0
  bases = []
  for i in range(count):
    url = text(f'base_model.{i}.repo_url')
    organization = text(f'base_model.{i}.organization').replace(' ', '-')
    name = text(f'base_model.{i}.name')
    hub = url.removeprefix('https://huggingface.co/').strip('/')
    if hub != url and _HUB_ID.fullmatch(hub):
      bases.append(hub)
    elif name and organization:
      bases.append(f'{organization}/{name.replace(" ", "-")}')
    elif name:
      bases.append(name)
  if not bases and text('name'):
    bases.append(text('name'))
  license_ = text('license')
  notes = []
  if metadata.get('general.file_type', 0) not in _GGUF_FLOATS:
    notes.append(
      'The weights were read from a quantised GGUF file; what that rounded '
      'away stays lost.'
    )
  return Card(
    base_model=tuple(bases),
    notes=tuple(notes),
    **_license(
      [license_] if license_ else [],
      text('license.name'),
      text('license.link'),
      {},
    ),
  )


def _license(
  stated: list[str], name: str, link: str, terms: Mapping[str, bytes]
) -> dict[str, str]:
  """Returns the fields of a card on the licence, as a source states it."""
  if not stated:
    return {}
  one = stated[0].lower()
  if len(stated) > 1 or not _LICENSE_ID.fullmatch(one):
    one, name = 'other', name or ', '.join(stated)
  if link and not _URL.fullmatch(link) and link not in terms:
    logging.warning('model card: license_link %r leads nowhere.', link)
    link = ''
  if one == 'gemma':
    link = link or GEMMA_TERMS
  return {'license': one, 'license_name': name, 'license_link': link}


def _license_files(folder: str) -> dict[str, bytes]:
  found = {}
  for name in storage.names(folder):
    if not _TERMS.fullmatch(name):
      continue
    path = storage.join(folder, name)
    data = _start(path, _TERMS_BYTES + 1) if _inside(path, folder) else None
    if data is None or len(data) > _TERMS_BYTES or len(found) == _TERMS_FILES:
      logging.warning('model card: %s of %s is left out.', name, folder)
      continue
    found[name] = data
  return found


def _inside(path: str, folder: str) -> bool:
  """Returns whether a file lies in the folder, whatever links lead to it.

  A link out of the folder would pass on any file of this machine.  In a cache
  of the hub the files of a snapshot are links to blobs two folders above.
  """
  if '://' in path:
    return True
  root = os.path.realpath(folder)
  blobs = os.path.join(os.path.dirname(os.path.dirname(root)), 'blobs')
  return os.path.dirname(os.path.realpath(path)) in (root, blobs)


def _front_matter(path: str) -> dict[str, list[str]]:
  """Returns the texts and lists of texts of a README's front matter, by key.

  Composed, not loaded: no alias is expanded and no value is made but strings.
  """
  data = _start(path, _FRONT_BYTES)
  if data is None:
    return {}
  try:
    text = data.decode('utf-8-sig', errors='ignore')
    head, *lines = text.splitlines()[:2000] or ['']
    if head.rstrip() != '---':
      return {}
    end = next(i for i, line in enumerate(lines) if line.rstrip() == '---')
    front = '\n'.join(lines[:end])
    if _DEEP.search(front):
      raise ValueError('nested too deep')
    root = yaml.compose(front, Loader=yaml.BaseLoader)
  except (yaml.YAMLError, StopIteration, RecursionError, ValueError) as error:
    reason = ' '.join(str(error).split())[:100] or 'it has no end'
    logging.warning('%s: front matter ignored: %s', path, reason)
    return {}
  if not isinstance(root, yaml.MappingNode):
    return {}
  found = {}
  for key, value in root.value:
    several = isinstance(value, yaml.SequenceNode)
    nodes = value.value[:_ENTRIES] if several else [value]
    texts = [
      markdown.plain(node.value)
      for node in nodes
      if isinstance(node, yaml.ScalarNode)
    ]
    texts = [one for one in texts if one not in ('', '~', 'null')]
    if isinstance(key, yaml.ScalarNode) and texts:
      found[key.value] = texts
  return found


def _start(path: str, limit: int) -> bytes | None:
  """Returns the first bytes of a file; None where there is no regular one."""
  if not storage.exists(path) or storage.is_folder(path):
    return None
  with storage.local(path) as copy:
    # Opening a pipe would wait for its writer.
    if not os.path.isfile(copy):
      return None
    with open(copy, 'rb') as file:
      return file.read(limit)


def _is_notice(name: str) -> bool:
  return name.lower().startswith('notice')


def _has_notice(terms: Mapping[str, bytes]) -> bool:
  wanted = _GEMMA_NOTICE.encode()
  return any(wanted in data for n, data in terms.items() if _is_notice(n))
