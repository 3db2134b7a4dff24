"""Text to token ids and back, by the checkpoint's own `tokenizer.json`."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import tokenizers

from wcse_jax import errors, storage


# Besides the tokenizer itself, what an exported folder needs.
FILES = (
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'chat_template.jinja',
  'tokenizer.model',
)


class Tokenizer:
  """A checkpoint's tokenizer.

  Attributes:
    size: one more than the highest id of any text, its start or its end.
      Special tokens that plain text never gives do not count: Gemma 3 has one,
      for images, that lies behind the embedding of its text models.
    start_ids: what the reference puts before a text (BOS, or nothing).
    end_id: the token that ends a training target.
    end_ids: every token that ends a sample.
    folder: where it was read from.
    sha256: of `tokenizer.json`.
  """

  def __init__(
    self,
    backend: tokenizers.Tokenizer,
    *,
    end_ids: Sequence[int],
    folder: str = '',
    sha256: str = '',
  ):
    self._backend = backend
    bare = backend.encode('a', add_special_tokens=False).ids
    full = backend.encode('a', add_special_tokens=True).ids
    self.start_ids = tuple(full[: full.index(bare[0])]) if bare else ()
    # Problem text is data: `<end_of_turn>` in it must not become the token.
    backend.encode_special_tokens = True
    self.end_ids = tuple(dict.fromkeys(end_ids))
    self.end_id = self.end_ids[0]
    added = backend.get_added_tokens_decoder()
    special = {i for i, token in added.items() if token.special}
    plain = set(backend.get_vocab(with_added_tokens=True).values()) - special
    self.size = 1 + max(plain.union(self.start_ids, self.end_ids))
    self.folder = folder
    self.sha256 = sha256

  def encode(self, text: str) -> list[int]:
    """Returns the ids of plain text: nothing is put before or after it."""
    return self._backend.encode(text, add_special_tokens=False).ids

  def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
    """Returns `encode` of each text, using all cores."""
    found = self._backend.encode_batch(list(texts), add_special_tokens=False)
    return [one.ids for one in found]

  def prompts(self, texts: Sequence[str]) -> list[list[int]]:
    """Returns the ids of each prompt, as the reference starts a text."""
    return [[*self.start_ids, *ids] for ids in self.encode_all(texts)]

  def decode(self, ids: Sequence[int]) -> str:
    """Returns the text of `ids` without special tokens."""
    return self._backend.decode(list(ids), skip_special_tokens=True)

  def decode_all(self, rows: Sequence[Sequence[int]]) -> list[str]:
    """Returns `decode` of each row, using all cores."""
    return self._backend.decode_batch(
      [list(row) for row in rows], skip_special_tokens=True
    )


def load(folder: str) -> Tokenizer:
  """Returns the tokenizer of a Hugging Face folder.

  Raises:
    InputError: if a file is missing or malformed, or no end token is named.
  """
  path = storage.join(folder, 'tokenizer.json')
  if not storage.exists(path):
    raise errors.InputError(
      f'checkpoint: {folder} has no tokenizer.json; a fast tokenizer is needed.'
    )
  data = storage.read_bytes(path)
  try:
    backend = tokenizers.Tokenizer.from_str(data.decode())
  except Exception as error:  # The binding raises bare Exception.
    raise errors.InputError(
      f'{path}: not a tokenizer: {_line(error)}'
    ) from None
  return Tokenizer(
    backend,
    end_ids=_end_ids(folder, backend),
    folder=folder,
    sha256=hashlib.sha256(data).hexdigest(),
  )


def _end_ids(folder: str, backend: tokenizers.Tokenizer) -> list[int]:
  """Returns the ids that end a text: the tokenizer's own first, then all."""
  found: list[int] = []
  path = storage.join(folder, 'tokenizer_config.json')
  if storage.exists(path):
    token = _fields(path).get('eos_token')
    token = token.get('content') if isinstance(token, dict) else token
    if token is not None:
      known = backend.token_to_id(token) if isinstance(token, str) else None
      if known is None:
        raise errors.InputError(
          f'{path}: eos_token {token!r} is not in the tokenizer.'
        )
      found.append(known)
  for name in ('generation_config.json', 'config.json'):
    path = storage.join(folder, name)
    if storage.exists(path):
      ids = _fields(path).get('eos_token_id')
      for i in ids if isinstance(ids, list) else [ids]:
        if i is None:
          continue
        if isinstance(i, bool) or not isinstance(i, int) or i < 0:
          raise errors.InputError(
            f'{path}: eos_token_id: wanted token ids; got {ids!r}.'
          )
        found.append(i)
  if not found:
    raise errors.InputError(
      f'checkpoint: {folder} names no end token (eos_token in '
      'tokenizer_config.json, eos_token_id in generation_config.json).'
    )
  return found


def save(tokenizer: Tokenizer, folder: str) -> None:
  """Copies the tokenizer's files into an exported folder, unchanged."""
  for name in FILES:
    source = storage.join(tokenizer.folder, name)
    if storage.exists(source):
      storage.publish(storage.join(folder, name), storage.read_bytes(source))


def word_tokenizer(words: Sequence[str]) -> str:
  """Returns the `tokenizer.json` of a small tokenizer of whole words.

  Every digit, and every digit behind a space, is a token; so is every word of
  `words` behind a space; anything else falls back to bytes, so that all text
  can be encoded.  As in SentencePiece, `▁` reads back as a space.

  Args:
    words: words, without spaces.
  """
  special = ['<pad>', '<eos>', '<bos>', '<unk>']
  pieces = [(piece, 0.0) for piece in special]
  pieces += [(f'<0x{byte:02X}>', -20.0) for byte in range(256)]
  single = [*'0123456789+-*/=.,?:QA', '▁', '\n']
  pieces += [(piece, -10.0) for piece in single]
  pieces += [(f'▁{digit}', -10.0) for digit in '0123456789']
  known = {piece for piece, _ in pieces}
  for word in sorted(words):
    if f'▁{word}' not in known:
      known.add(f'▁{word}')
      pieces.append((f'▁{word}', -10.0))
  backend = tokenizers.Tokenizer(
    tokenizers.models.Unigram(pieces, unk_id=3, byte_fallback=True)
  )
  backend.normalizer = tokenizers.normalizers.Replace(' ', '▁')
  # Text that spells a special token or a byte must not become one: none of
  # them is left whole.
  backend.pre_tokenizer = tokenizers.pre_tokenizers.Split('<', 'isolated')
  backend.decoder = tokenizers.decoders.Sequence(
    [
      tokenizers.decoders.Replace('▁', ' '),
      tokenizers.decoders.ByteFallback(),
      tokenizers.decoders.Fuse(),
    ]
  )
  backend.post_processor = tokenizers.processors.TemplateProcessing(
    single='<bos> $A', special_tokens=[('<bos>', 2)]
  )
  backend.add_special_tokens(special)
  return json.dumps(json.loads(backend.to_str()), ensure_ascii=False, indent=1)


def _fields(path: str) -> dict[str, Any]:
  fields = storage.read_json(path)
  if not isinstance(fields, dict):
    raise errors.InputError(
      f'{path}: wanted an object; got {str(fields)[:80]}.'
    )
  return fields


def _line(error: Exception) -> str:
  return ' '.join(str(error).split())[:200]
