"""The vocabulary in a GGUF file's metadata, checked.

Nothing is believed of a file: types, lengths, ids and repeats are all held
against each other before anything is built.

Source: keys and token types: the GGUF specification of ggml (docs/gguf.md).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from wcse_jax import errors


# Token types of the specification.
NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
TYPES = (NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE)
# SentencePiece writes a space so.
SPACE = '▁'

# Ours -> what the key calls it.
_NAMED = {
  'bos': 'bos',
  'eos': 'eos',
  'eot': 'eot',
  'eom': 'eom',
  'unk': 'unknown',
  'pad': 'padding',
  'mask': 'mask',
}
# Control tokens that some converters type as user defined: Gemma 4's, so that
# chat programs show them, and in old files Gemma's turns.  Left so, a text that
# spells one would become it.
_CONTROLS = {
  *('<start_of_turn>', '<end_of_turn>', '<|channel>', '<channel|>', '<|"|>'),
  *('<|tool_call>', '<tool_call|>', '<|tool_response>', '<tool_response|>'),
}
# Bounds on what a hostile file can cost: characters of a token (128 in the
# published vocabularies), whose splits take its square, and of all that are
# looked for in a text (78,000 in Gemma 3), from which an automaton is made.
_LONGEST = 256
_MAX_ADDED = 1_000_000


class Fields:
  """Metadata, each value checked as it is read.

  The methods raise InputError, which names the key.
  """

  def __init__(self, metadata: Mapping[str, Any], label: str):
    self._metadata = metadata
    self._label = label

  def wrong(self, key: str, wanted: str, came: Any) -> errors.InputError:
    return errors.InputError(
      f'{self._label}: {key}: wanted {wanted}; got {came}.'
    )

  def text(self, key: str, *, required: bool = True) -> str | None:
    value = self._metadata.get(key)
    if value is None and not required:
      return None
    if not isinstance(value, str):
      raise self.wrong(key, 'a string', _kind(value))
    self._check_text(key, [value])
    return value

  def texts(self, key: str) -> list[str]:
    """Returns a list of strings."""
    value = self._metadata.get(key)
    if not isinstance(value, (list, tuple)) or not all(
      isinstance(one, str) for one in value
    ):
      raise self.wrong(key, 'a list of strings', _kind(value))
    self._check_text(key, value)
    return list(value)

  def _check_text(self, key: str, texts: Sequence[str]) -> None:
    try:
      ''.join(texts).encode()
    except UnicodeEncodeError as error:
      came = f'the lone surrogate {error.object[error.start]!a}'
      raise self.wrong(key, 'Unicode text', came) from None

  def numbers(self, key: str, kinds: str, count: int) -> np.ndarray:
    """Returns `count` numbers of numpy's `kinds` ('f', 'iu')."""
    value = self._metadata.get(key)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in kinds:
      name = 'floats' if kinds == 'f' else 'integers'
      raise self.wrong(key, f'an array of {name}', _kind(value))
    if value.shape != (count,):
      wanted = f'{count:,}, one for each of tokenizer.ggml.tokens'
      raise self.wrong(key, wanted, f'{value.size:,}')
    return value

  def flag(self, name: str, default: bool) -> bool:
    """Returns the truth of tokenizer.ggml.NAME."""
    key = f'tokenizer.ggml.{name}'
    value = self._metadata.get(key, default)
    if not isinstance(value, (bool, np.bool_)):
      raise self.wrong(key, 'true or false', _kind(value))
    return bool(value)

  def token_id(self, name: str, count: int) -> int | None:
    """Returns the id in tokenizer.ggml.NAME, below `count`, if there is one."""
    key = f'tokenizer.ggml.{name}'
    value = self._metadata.get(key)
    if value is None:
      return None
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
      raise self.wrong(key, 'a token id', _kind(value))
    if not 0 <= value < count:
      raise self.wrong(key, f'an id below {count:,}', value)
    return int(value)


class Pieces:
  """The vocabulary.

  Attributes:
    tokens: piece by id.
    index: id by piece.
    ids: id of 'bos', 'eos', 'eot', 'eom', 'unk', 'pad', 'mask', or None.
  """

  def __init__(self, fields: Fields, kind: str):
    """Reads the vocabulary of one kind of `tokenizer.ggml.model`.

    Raises:
      InputError: if it contradicts itself; the message names the key.
    """
    key = 'tokenizer.ggml.tokens'
    self.tokens = fields.texts(key)
    count = len(self.tokens)
    if not count:
      raise fields.wrong(key, 'tokens', 'none')
    for token in self.tokens:
      if not 0 < len(token) <= _LONGEST:
        wanted = f'tokens of 1 to {_LONGEST:,} characters'
        raise fields.wrong(key, wanted, f'one of {len(token):,}')
    key = 'tokenizer.ggml.token_type'
    types = fields.numbers(key, 'iu', count).astype(np.int64)
    odd = types[~np.isin(types, TYPES)]
    if odd.size:
      raise fields.wrong(key, one_of(TYPES), odd[0])
    self._spaces = set()
    for i, token in enumerate(self.tokens):
      if types[i] != USER:
        continue
      if token in _CONTROLS:
        types[i] = CONTROL
      elif kind != 'gpt2' and not token.strip(' '):
        # Converters write these spaces as such, unlike those of other pieces.
        self.tokens[i] = SPACE * len(token)
        self._spaces.add(i)
    self.index = {token: i for i, token in enumerate(self.tokens)}
    if len(self.index) < count:
      twice = next(t for i, t in enumerate(self.tokens) if self.index[t] != i)
      raise fields.wrong(
        'tokenizer.ggml.tokens', 'each token once', f'{twice[:40]!r} twice'
      )
    self.ids = {
      name: fields.token_id(f'{full}_token_id', count)
      for name, full in _NAMED.items()
    }
    if self.ids['unk'] is None and UNKNOWN in types:
      self.ids['unk'] = int(np.flatnonzero(types == UNKNOWN)[0])
    for name, i in self.ids.items():
      # What starts and ends texts is no text, whatever its type says; and what
      # has a use is not unused.
      if i is not None and (
        name in ('bos', 'eos', 'eot', 'eom') or types[i] == UNUSED
      ):
        types[i] = CONTROL
    self._types = types
    size = sum(len(token['content']) for token in self.added())
    if size > _MAX_ADDED:
      wanted = f'control and user defined tokens of {_MAX_ADDED:,} characters'
      raise fields.wrong('tokenizer.ggml.tokens', wanted, f'{size:,}')

  def of_type(self, *wanted: int) -> np.ndarray:
    """Returns the ids of the tokens of some types, rising."""
    return np.flatnonzero(np.isin(self._types, wanted))

  def is_control(self, i: int) -> bool:
    return self._types[i] == CONTROL

  def added(self) -> list[dict[str, Any]]:
    """Returns the tokens that are found in a text before it is cut.

    They are matched in the text as it is written (`normalized` is false), the
    special ones only where the caller asks for it.  Runs of spaces are left to
    the merges, as in Gemma's published file: 40 spaces are 16 and 24 there,
    where SentencePiece has 31 and 9.
    """
    return [
      {
        'id': int(i),
        'content': self.tokens[i],
        'single_word': False,
        'lstrip': False,
        'rstrip': False,
        'normalized': False,
        'special': bool(self._types[i] != USER),
      }
      for i in self.of_type(UNKNOWN, CONTROL, USER)
      if i not in self._spaces
    ]

  def vocab(self, *, with_added: bool) -> dict[str, int]:
    """Returns the model's own pieces: id by piece.

    Unused ones are left out: they fill up the embedding.

    Args:
      with_added: keep the added tokens among them, as converted SentencePiece
        files have it.  Else they are left out if they are all at the end, so
        that no text can ever become one of them.
    """
    added = [token['id'] for token in self.added()]
    own = self.of_type(NORMAL, BYTE)
    # The backend numbers tokens that are no pieces of the model from the
    # number of its pieces on.
    tail = list(range(len(own), len(own) + len(added)))
    if with_added or added != tail:
      own = self.of_type(*(set(TYPES) - {UNUSED}))
    return {self.tokens[i]: int(i) for i in own}


def one_of(names: Iterable[Any]) -> str:
  return f'one of {", ".join(map(str, names))}'


def _kind(value: Any) -> str:
  if value is None:
    return 'none'
  if isinstance(value, np.ndarray):
    return f'an array of {value.dtype}'
  if isinstance(value, (list, tuple)):
    kinds = sorted({type(one).__name__ for one in value})
    return f'a list of {" and ".join(kinds) or "nothing"}'
  return f'{type(value).__name__} {str(value)[:40]!r}'
