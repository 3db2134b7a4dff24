"""The tokenizer of a GGUF file, as the files of a Hugging Face folder.

A GGUF file holds a vocabulary, not a tokenizer: pieces, their scores or merges,
and the name of a way to cut text.  What belongs to each name is written here
once, as the model's own published tokenizer.json has it.

Source: keys, token types and defaults: the GGUF specification of ggml
(docs/gguf.md) and llama.cpp (src/llama-vocab.cpp, conversion scripts); pieces
of the pipelines: the published tokenizers of the models, and transformers 5,
models/{gemma,llama,qwen2,gpt2} and convert_slow_tokenizer (merges of a
SentencePiece vocabulary).
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from wcse_jax import pieces as vocabularies


# Bounds on what a hostile SentencePiece vocabulary can cost: characters of its
# pieces (Gemma 3: 1.5 million) and of the merges that follow (3.1 million).
_MAX_CHARACTERS = 4_000_000
_MAX_MERGED = 40_000_000

# How a byte-level vocabulary cuts text before its merges apply.
_QWEN2_SPLIT = (
  r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
  r'| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+'
)
_LLAMA3_SPLIT = (
  r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
  r'| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+'
)

# What ends a document in the training data of some family.  A chat model whose
# own end is the end of a turn still draws these now and then, and nothing of
# use follows.  It does not matter that a file may name one of them as padding
# or as a start too (Qwen, SmolLM2): in what a model draws it is an end.  What
# separates *parts* of a document (`<|file_sep|>`, `<repo_name>`) is none, nor
# is `<pad>`, which no model is trained to draw.
_TEXT_ENDS = ('<eos>', '</s>', '<|endoftext|>', '<|end_of_text|>')


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Cut:
  """How a byte-level vocabulary is used.

  Attributes:
    split: pattern that finds the words; empty for GPT-2's, which the backend
      has built in.
    digits: every digit is cut out first.
    compose: text is brought to Unicode's normal form C.
    whole_words: a word that is a piece is that piece, whatever the merges say.
    starts: texts start with BOS unless the file says otherwise.
  """

  split: str = ''
  digits: bool = False
  compose: bool = False
  whole_words: bool = False
  starts: bool = False


_LLAMA3 = _Cut(split=_LLAMA3_SPLIT, whole_words=True, starts=True)
_DIGITS = _Cut(digits=True)
# By `tokenizer.ggml.pre`.
_CUTS = {
  'default': _Cut(),
  'gpt-2': _Cut(),
  'llama-bpe': _LLAMA3,
  'llama-v3': _LLAMA3,
  'llama3': _LLAMA3,
  'qwen2': _Cut(split=_QWEN2_SPLIT, compose=True),
  'smollm': _DIGITS,
  'starcoder': _DIGITS,
}
KINDS = ('gemma4', 'gpt2', 'llama')


def build(
  metadata: Mapping[str, Any], *, label: str = 'checkpoint'
) -> dict[str, bytes]:
  """Returns a tokenizer's files by name, for `tokenizer.from_files`.

  They are tokenizer.json, tokenizer_config.json, generation_config.json and,
  where the file holds a chat template, chat_template.jinja.

  Args:
    metadata: of the GGUF file: numbers, strings, numpy arrays, lists of str.
    label: what messages call the file.

  Raises:
    InputError: if the metadata is malformed or of a kind that is not known;
      the message names the key.
  """
  fields = vocabularies.Fields(metadata, label)
  kind = fields.text('tokenizer.ggml.model')
  if kind not in KINDS:
    raise fields.wrong(
      'tokenizer.ggml.model', vocabularies.one_of(KINDS), repr(kind)
    )
  pieces = vocabularies.Pieces(fields, kind)
  if kind == 'gpt2':
    parts, starts = _byte_level(fields, pieces)
  else:
    parts, starts = _sentence_piece(fields, pieces, kind)
  around = {}
  for name, default in (('bos', starts), ('eos', False)):
    if fields.flag(f'add_{name}_token', default):
      around[name] = pieces.ids[name]
      if pieces.ids[name] is None:
        raise fields.wrong(
          f'tokenizer.ggml.{name}_token_id', 'an id, to put to texts', 'none'
        )
  whole = {
    'version': '1.0',
    'truncation': None,
    'padding': None,
    'added_tokens': pieces.added(),
    'normalizer': parts['normalizer'],
    'pre_tokenizer': parts['pre_tokenizer'],
    'post_processor': _around(pieces.tokens, **around),
    'decoder': parts['decoder'],
    'model': parts['model'],
  }
  template = fields.text('tokenizer.chat_template', required=False)
  files = {
    # Compact: an indented one takes Python's slow encoder.
    'tokenizer.json': json.dumps(whole, ensure_ascii=False).encode(),
    'tokenizer_config.json': _dump(_config(pieces)),
    'generation_config.json': _dump(_generation(pieces, bool(template))),
  }
  if template:
    files['chat_template.jinja'] = template.encode()
  return files


def _dump(fields: Mapping[str, Any]) -> bytes:
  return (json.dumps(fields, indent=2, ensure_ascii=False) + '\n').encode()


def _config(pieces: vocabularies.Pieces) -> dict[str, Any]:
  """Returns tokenizer_config.json.

  The class is the general one, which takes tokenizer.json as it stands; the
  classes of the families build the pipeline anew.
  """
  named = {
    f'{name}_token': pieces.tokens[i]
    for name, i in pieces.ids.items()
    if i is not None and name in ('bos', 'eos', 'unk', 'pad', 'mask')
  }
  return {
    'tokenizer_class': 'PreTrainedTokenizerFast',
    **named,
    'padding_side': 'left',
    'clean_up_tokenization_spaces': False,
  }


def _generation(pieces: vocabularies.Pieces, chat: bool) -> dict[str, Any]:
  """Returns generation_config.json: the ends that the file states.

  Those of a turn (eot, eom) stand there by their ids.  For a chat model the
  ends of documents count too, as in the published configurations.
  """
  ends = [pieces.ids[name] for name in ('eos', 'eot', 'eom')]
  if chat:
    ends += [
      i
      for i in map(pieces.index.get, _TEXT_ENDS)
      if i is not None and pieces.is_control(i)
    ]
  ends = list(dict.fromkeys(i for i in ends if i is not None))
  fields = {
    'bos_token_id': pieces.ids['bos'],
    'eos_token_id': ends[0] if len(ends) == 1 else ends or None,
    'pad_token_id': pieces.ids['pad'],
  }
  return {name: value for name, value in fields.items() if value is not None}


def _around(
  tokens: Sequence[str], bos: int | None = None, eos: int | None = None
) -> dict[str, Any]:
  """Returns the post-processor: what stands before and after each text."""

  def sequence(name: str, type_id: int) -> list[dict[str, Any]]:
    def special(i):
      return {'SpecialToken': {'id': tokens[i], 'type_id': type_id}}

    return [
      *([special(bos)] if bos is not None else []),
      {'Sequence': {'id': name, 'type_id': type_id}},
      *([special(eos)] if eos is not None else []),
    ]

  return {
    'type': 'TemplateProcessing',
    'single': sequence('A', 0),
    'pair': sequence('A', 0) + sequence('B', 1),
    'special_tokens': {
      tokens[i]: {'id': tokens[i], 'ids': [i], 'tokens': [tokens[i]]}
      for i in sorted({bos, eos} - {None})
    },
  }


def _model(vocab: Mapping[str, int], merges: Iterable, **fields):
  return {
    'type': 'BPE',
    'dropout': None,
    'unk_token': None,
    'continuing_subword_prefix': None,
    'end_of_word_suffix': None,
    'fuse_unk': False,
    'byte_fallback': False,
    'ignore_merges': False,
    **fields,
    'vocab': vocab,
    'merges': merges,
  }


def _byte_level(
  fields: vocabularies.Fields, pieces: vocabularies.Pieces
) -> tuple[dict[str, Any], bool]:
  """Returns (pipeline, BOS by default?) of GPT-2's kind."""
  key = 'tokenizer.ggml.pre'
  name = fields.text(key, required=False)
  if name not in _CUTS:
    raise fields.wrong(
      key, vocabularies.one_of(_CUTS), repr(name) if name else 'none'
    )
  cut = _CUTS[name]
  to_bytes = {
    'type': 'ByteLevel',
    'add_prefix_space': False,
    'trim_offsets': True,
    'use_regex': not cut.split,
  }
  steps = [to_bytes]
  if cut.split:
    pattern = {'Regex': cut.split}
    split = {'type': 'Split', 'pattern': pattern, 'behavior': 'Isolated'}
    steps = [{**split, 'invert': False}, to_bytes]
  if cut.digits:
    steps = [{'type': 'Digits', 'individual_digits': True}, *steps]
  vocab = pieces.vocab(with_added=False)
  parts = {
    'normalizer': {'type': 'NFC'} if cut.compose else None,
    'pre_tokenizer': steps[0]
    if len(steps) == 1
    else {'type': 'Sequence', 'pretokenizers': steps},
    'decoder': {**to_bytes, 'add_prefix_space': True, 'use_regex': True},
    'model': _model(
      vocab, _stated_merges(fields, vocab), ignore_merges=cut.whole_words
    ),
  }
  return parts, cut.starts


def _sentence_piece(
  fields: vocabularies.Fields, pieces: vocabularies.Pieces, kind: str
) -> tuple[dict[str, Any], bool]:
  """Returns (pipeline, BOS by default?) of SentencePiece's kinds.

  They are pieces of whole characters, with bytes for what no piece covers.
  """
  # No Gemma was trained with a space before the text; older files do not say.
  gemma = fields.text('general.architecture', required=False) or kind
  prefix = fields.flag('add_space_prefix', not gemma.startswith('gemma'))
  vocab = pieces.vocab(with_added=True)
  unknown = pieces.ids['unk']
  if unknown is None and len(pieces.of_type(vocabularies.BYTE)) < 256:
    # Or characters without a piece would be dropped in silence.
    raise fields.wrong(
      'tokenizer.ggml.token_type',
      'an unknown token or 256 byte tokens',
      f'none and {len(pieces.of_type(vocabularies.BYTE))}',
    )
  merges = (
    _stated_merges(fields, vocab)
    if kind == 'gemma4'
    else _implied_merges(fields, pieces)
  )
  marked = {
    'type': 'Replace',
    'pattern': {'String': ' '},
    'content': vocabularies.SPACE,
  }
  steps = [
    {**marked, 'pattern': {'String': vocabularies.SPACE}, 'content': ' '},
    {'type': 'ByteFallback'},
    {'type': 'Fuse'},
  ]
  if prefix:
    prepend = {'type': 'Prepend', 'prepend': vocabularies.SPACE}
    normalizer = {'type': 'Sequence', 'normalizers': [prepend, marked]}
    steps.append({'type': 'Strip', 'content': ' ', 'start': 1, 'stop': 0})
    split = None
  else:
    normalizer = marked
    # Finds nothing behind the normalizer; the published files have it.
    split = {
      'type': 'Split',
      'pattern': {'String': ' '},
      'behavior': 'MergedWithPrevious',
      'invert': False,
    }
  parts = {
    'normalizer': normalizer,
    'pre_tokenizer': split,
    'decoder': {'type': 'Sequence', 'decoders': steps},
    'model': _model(
      vocab,
      merges,
      unk_token=None if unknown is None else pieces.tokens[unknown],
      fuse_unk=True,
      byte_fallback=True,
    ),
  }
  return parts, True


def _stated_merges(
  fields: vocabularies.Fields, vocab: Mapping[str, int]
) -> list[tuple[str, str]]:
  """Returns the file's merges, each held against the vocabulary."""
  key = 'tokenizer.ggml.merges'
  found = []
  for merge in fields.texts(key):
    # A piece may be a space: the one that separates has something before it.
    at = merge.find(' ', 1)
    left, right = merge[:at], merge[at + 1 :]
    if at < 0 or not right:
      raise fields.wrong(key, 'two pieces with a space between', repr(merge))
    for piece in (left, right, left + right):
      if piece not in vocab:
        raise fields.wrong(
          key, 'pieces of tokenizer.ggml.tokens', f'{piece!r} in {merge!r}'
        )
    found.append((left, right))
  return found


def _implied_merges(
  fields: vocabularies.Fields, pieces: vocabularies.Pieces
) -> list[tuple[str, str]]:
  """Returns the merges that do what SentencePiece does with its scores.

  SentencePiece joins the pair of neighbours that makes the piece of highest
  score.  So a merge is any split of a piece into two pieces, and its rank that
  of the piece.  Control and byte tokens never come of text.

  User defined pieces come first.  Most are found in the text before it is cut,
  but runs of spaces are not.
  """
  key = 'tokenizer.ggml.scores'
  scores = fields.numbers(key, 'f', len(pieces.tokens))
  if not np.isfinite(scores).all():
    raise fields.wrong(key, 'finite scores', 'one that is not')
  normal = pieces.of_type(vocabularies.NORMAL)
  normal = normal[np.argsort(-scores[normal], kind='stable')]
  order = [
    pieces.tokens[i] for i in (*pieces.of_type(vocabularies.USER), *normal)
  ]
  key = 'tokenizer.ggml.tokens'
  size = sum(map(len, order))
  if size > _MAX_CHARACTERS:
    wanted = f'at most {_MAX_CHARACTERS:,} characters in all'
    raise fields.wrong(key, wanted, f'{size:,}')
  known = set(order)
  found: list[tuple[str, str]] = []
  size = 0
  for piece in order:
    before = len(found)
    # The longest left part first, as in the published files.
    for at in range(len(piece) - 1, 0, -1):
      if piece[:at] in known and piece[at:] in known:
        found.append((piece[:at], piece[at:]))
    size += len(piece) * (len(found) - before)
    if size > _MAX_MERGED:
      wanted = f'merges of at most {_MAX_MERGED:,} characters in all'
      raise fields.wrong(key, wanted, 'more')
  return found
