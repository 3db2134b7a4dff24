"""The card of a data set: front matter and text of its README.md.

Names, settings and texts in it may be anybody's; `markdown` sees to it that
none of them acts, and front matter is written by the YAML package.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import yaml

import wcse_jax
from wcse_jax import markdown
from wcse_jax.exports import facts, quality, table, terms


LINES = 'train.jsonl'
_SIZES = (
  (10**3, 'n<1K'),
  (10**4, '1K<n<10K'),
  (10**5, '10K<n<100K'),
  (10**6, '100K<n<1M'),
  (10**7, '1M<n<10M'),
  (10**8, '10M<n<100M'),
)
_COSTS = (
  ('decode_tokens', 'tokens drawn'),
  ('prefill_tokens', 'tokens read'),
  ('flops', 'FLOPs'),
  ('chip_seconds', 'chip-seconds'),
)


def render(
  known: facts.Facts, tally: table.Tally, counts: Mapping[str, int] | None
) -> str:
  """Returns the text of README.md.

  Args:
    known: where the rows come from.
    tally: of all rows.
    counts: see `exports.write`.
  """
  sections = (
    [f'# {_title(known)}'],
    _about(known, tally),
    ['## Loading', '', *_loading(known)],
    ['## Columns', '', *_columns()],
    ['## Models', '', *_models(known, tally)],
    ['## Terms', '', *terms.paragraphs(known)],
    ['## Prompts', '', *_prompts(known)],
    ['## Selection', '', *quality.selected(known, counts)],
    ['## Grading', '', *quality.graded(known, tally)],
    ['## Overlap with test problems', '', *quality.overlapping(known)],
    ['## Versions', '', *_versions(known)],
  )
  lines = ['---', front(known, tally.rows).rstrip(), '---']
  for section in sections:
    lines += ['', *section]
  return '\n'.join(lines) + '\n'


def front(known: facts.Facts, rows: int) -> str:
  """Returns the YAML front matter, without its fences.

  Source: Hugging Face hub, documentation of dataset cards (metadata, and
  manual configuration of data files).
  """
  features = [
    {'name': field.name, 'dtype': _dtype(field.type)} for field in table.SCHEMA
  ]
  fields: dict[str, Any] = {
    **terms.metadata(known),
    'pretty_name': markdown.plain(_named(known)),
    'task_categories': ['text-generation'],
    'size_categories': [
      next((name for most, name in _SIZES if rows < most), 'n>100M')
    ],
    'tags': ['wcse_jax', 'synthetic', 'reasoning'],
    # One for Parquet alone: all configurations of a folder are read by the one
    # module that its first kind of file calls for.
    'configs': [
      {
        'config_name': 'default',
        'data_files': [{'split': 'train', 'path': 'data/train-*.parquet'}],
      }
    ],
    'dataset_info': {'features': features},
  }
  return yaml.safe_dump(
    fields, sort_keys=False, allow_unicode=True, width=10**6
  )


def _dtype(kind: pa.DataType) -> str:
  return 'bool' if pa.types.is_boolean(kind) else str(kind)


def _named(known: facts.Facts) -> str:
  """Returns the title as plain text."""
  if known.title:
    return known.title
  names = ', '.join(model.name for model in known.models)
  return f'Solutions of {known.problems.task}' + (f' by {names}' * bool(names))


def _title(known: facts.Facts) -> str:
  return markdown.escaped(_named(known)) or 'Solutions'


def _about(known: facts.Facts, tally: table.Tally) -> list[str]:
  problems = known.problems
  split = f', split {markdown.code(problems.split)}' if problems.split else ''
  if known.models:
    made = 'They were drawn from language models, graded, and chosen by rules.'
  else:
    made = 'They are those of the set itself; no model was sampled.'
  lines = [
    f'{markdown.count(tally.rows, "row")} to train on: worked solutions of '
    f'{markdown.count(tally.problems, "problem")} of the task '
    f'{markdown.code(problems.task)}{split}. {made} Written by wcse_jax '
    f'{wcse_jax.__version__}.'
  ]
  for note in known.notes:
    lines += ['', markdown.escaped(note)]
  return lines


def _loading(known: facts.Facts) -> list[str]:
  chat = ' --config.chat=on' if known.chat else ''
  return [
    '`FOLDER` is this folder; for the first line its name on the hub does, '
    'too.',
    '',
    *markdown.fence(
      'import datasets\n\n'
      "rows = datasets.load_dataset('FOLDER', split='train')  # Parquet\n"
      f"rows = datasets.load_dataset('json', data_files='FOLDER/{LINES}',\n"
      "                             split='train')             # JSON lines",
      'python',
    ),
    '',
    'A student is tuned on it by',
    '',
    *markdown.fence(
      'python launch/sft.py --workdir=runs/tuned --config.checkpoint=MODEL '
      f'\\\n  --config.train=FOLDER/{LINES}{chat}',
      'sh',
    ),
    '',
    '`manifest.json` has the sha256 of every file.',
  ]


def _columns() -> list[str]:
  return markdown.table(
    ['column', 'type', 'what'],
    [
      [markdown.code(name), markdown.code(_dtype(kind)), markdown.escaped(what)]
      for name, kind, what in table.COLUMNS
    ],
  )


def _models(known: facts.Facts, tally: table.Tally) -> list[str]:
  if not known.models:
    return ['None: the solutions are those of the set.']
  rows = []
  for model in known.models:
    found = model.checkpoint or 'a checkpoint that is not published as such'
    rows.append(
      [
        markdown.code(model.name),
        markdown.code(found) if model.checkpoint else found,
        markdown.number(model.samples),
        markdown.number(model.problems) if model.problems else '-',
        markdown.number(tally.models[model.name]),
      ]
    )
  lines = markdown.table(
    ['model', 'checkpoint', 'samples', 'of problems', 'rows here'],
    rows,
    numbers=3,
  )
  own = tally.models[None]
  if own:
    lines += [
      '',
      f"{markdown.count(own, 'row')} of the set's own solutions besides.",
    ]
  lines += ['', 'What decides a sample, by its sha256:', '']
  for model in known.models:
    lines += [
      f'- {markdown.code(model.name)}: weights {_digest(model.weights)}, '
      f'tokenizer {_digest(model.tokenizer)}'
    ]
  if known.budget:
    lines += ['', f'Budget: {markdown.escaped(known.budget)}']
  lines += ['', 'How they were sampled:', '', *_settings(known.models)]
  costs = [
    [markdown.code(model.name)]
    + [
      markdown.number(model.cost[key]) if key in model.cost else 'unknown'
      for key, _ in _COSTS
    ]
    for model in known.models
  ]
  head = ['model', *(label for _, label in _COSTS)]
  return [
    *lines,
    '',
    'What drawing all of their samples cost, also of those not here:',
    '',
    *markdown.table(head, costs, numbers=len(_COSTS)),
  ]


def _settings(models: Sequence[facts.Model]) -> list[str]:
  names = dict.fromkeys(name for model in models for name in model.settings)
  if not names:
    return ['unknown']
  return markdown.table(
    ['setting', *(markdown.code(model.name) for model in models)],
    [
      [markdown.code(name), *(_setting(m.settings, name) for m in models)]
      for name in names
    ],
  )


def _setting(settings: Mapping[str, Any], name: str) -> str:
  if name not in settings:
    return 'unknown'
  return markdown.code(json.dumps(settings[name], ensure_ascii=False))


def _prompts(known: facts.Facts) -> list[str]:
  kind = 'what a user says to a chat model' if known.chat else 'a plain prompt'
  lines = [
    f'The column `prompt` is {kind}, without worked examples; with '
    '`completion` behind it, it is what a student trains on. Who trains adds '
    'the end token'
    + (' and the chat template.' if known.chat else '.')
    + ' The models were asked otherwise:'
    * any(model.prompt != facts.Prompt() for model in known.models)
  ]
  asked: dict[facts.Prompt, list[str]] = {}
  for model in known.models:
    asked.setdefault(model.prompt, []).append(markdown.code(model.name))
  for prompt, names in asked.items():
    lines += ['', f'{", ".join(names)}: {_asked(prompt)}']
    if prompt.plain:
      lines += ['', *_shown(prompt)]
  return lines


def _asked(prompt: facts.Prompt) -> str:
  """Returns how a model was asked, as a sentence."""
  if prompt.shots is None:
    return 'how it was asked is unknown.'
  template = {
    'on': 'by the chat template',
    'off': 'by the plain prompt',
    '': 'by the chat template if the checkpoint has one that it was tuned on, '
    'else by the plain prompt',
  }.get(prompt.template, 'in an unknown way')
  text = f'asked {template}, '
  if prompt.shots:
    shots = markdown.count(prompt.shots, 'worked example')
    text += f'with {shots} before the question, sha256 {_digest(prompt.sha256)}'
  else:
    text += 'without worked examples'
  return text + ('.' if prompt.plain else '. The text is not at hand.')


def _shown(prompt: facts.Prompt) -> list[str]:
  """Returns the whole prompt in a fold."""
  lines = [
    f'sha256 of this text: {_digest(_sha256(prompt.plain))}',
    '',
    *markdown.fence(prompt.plain, 'text'),
  ]
  if prompt.template != 'off' and prompt.chat != prompt.plain:
    lines += [
      '',
      'What a chat model is told instead, before its template is applied:',
      '',
      *markdown.fence(prompt.chat, 'text'),
    ]
  return markdown.fold('The prompt', lines)


def _versions(known: facts.Facts) -> list[str]:
  lines = [
    f'- this folder: wcse_jax {wcse_jax.__version__}, pyarrow {pa.__version__}'
  ]
  for model in known.models:
    held = ', '.join(f'{k} {v}' for k, v in model.versions.items())
    lines += [
      f'- samples of {markdown.code(model.name)}: '
      + (markdown.code(held) if held else 'unknown')
    ]
  return lines


def _sha256(text: str) -> str:
  return hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()


def _digest(sha256: str) -> str:
  return markdown.code(sha256) if sha256 else 'unknown'
