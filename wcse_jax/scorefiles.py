"""The files of a scoring run: texts in, finished parts, one npz out.

INPUT.jsonl           rows of tokens, or of prompt and completion
OUTPUT.parts/         results of finished batches, until the npz is there
OUTPUT                the npz, the same bytes for the same results
"""

import dataclasses
import hashlib
import json
import mmap
import re
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from absl import logging

from wcse_jax import errors, storage
from wcse_jax import tokenizer as tokenizers


# From this size on a member of the npz has 64-bit sizes (bytes).
_LARGE_MEMBER = 1 << 30
# What stands in a folder of parts; nothing else is ever removed from it.
_PART = re.compile(r'key\.json|(batch|logits)-[0-9-]+')
_DIGEST_BYTES = 32


@dataclasses.dataclass(frozen=True)
class Row:
  """One line of the input.

  Attributes:
    number: of the line, from 1.
    tokens_T: int32 ids, used as given; None where there is a prompt.
    prompt, completion: texts; None where there are tokens.
  """

  number: int
  tokens_T: np.ndarray | None = None
  prompt: str | None = None
  completion: str | None = None


@dataclasses.dataclass(frozen=True)
class Text:
  """One text to score.

  Attributes:
    number: its line of the input, from 1.
    tokens_T: its ids, int32.
    completion_start: index of the first token of the completion; None where
      the row gave tokens.
  """

  number: int
  tokens_T: np.ndarray
  completion_start: int | None = None


def read(path: str) -> tuple[list[Row], str]:
  """Returns the rows of a JSONL, and the sha256 of its bytes.

  Rows have `{"tokens"}` or `{"prompt", "completion"}`; their other fields are
  ignored, and blank lines are no rows.

  Raises:
    InputError: if there is no such file, it has no row, or one is malformed.
  """
  whole = storage.read_text(path)
  rows = [
    _row(path, number, line)
    for number, line in enumerate(whole.split('\n'), 1)
    if line.strip()
  ]
  if not rows:
    raise errors.InputError(f'{path}: wanted rows of texts; it is empty.')
  return rows, hashlib.sha256(whole.encode()).hexdigest()


def encode(
  rows: Sequence[Row],
  tokenizer: tokenizers.Tokenizer,
  path: str,
  *,
  max_length: int,
  vocab_size: int,
) -> list[Text]:
  """Returns the texts of the rows.

  Prompt and completion are encoded as training encodes them (`sft.data`,
  `tasks.base.Task.completion`): apart, the start before the prompt, the
  completion a space and the stripped text, and the end token behind it.

  Args:
    rows: what `read` gave.
    tokenizer: of the model.
    path: of the input, for messages.
    max_length: the model's positions (tokens).
    vocab_size: the model's V.

  Raises:
    InputError: if a text is too long, or an id is not in the vocabulary.
  """
  pairs = [row for row in rows if row.tokens_T is None]
  prompts = iter(tokenizer.prompts([row.prompt for row in pairs]))
  completions = iter(
    tokenizer.encode_all([f' {row.completion.strip()}' for row in pairs])
  )
  texts = []
  for row in rows:
    tokens_T, start = row.tokens_T, None
    if tokens_T is None:
      prompt = next(prompts)
      start = len(prompt)
      ids = [*prompt, *next(completions), tokenizer.end_id]
      tokens_T = np.array(ids, np.int32)
    if len(tokens_T) > max_length:
      raise errors.InputError(
        f'{path}: row {row.number}: wanted at most {max_length} tokens, the '
        f"model's positions; got {len(tokens_T)}."
      )
    if tokens_T.max() >= vocab_size:
      raise errors.InputError(
        f'{path}: row {row.number}: wanted token ids below {vocab_size}, the '
        f"size of the model's vocabulary; got {tokens_T.max()}."
      )
    texts.append(Text(row.number, tokens_T, start))
  return texts


def _row(path: str, number: int, line: str) -> Row:
  where = f'{path}: row {number}'
  try:
    row = json.loads(line)
  except (ValueError, RecursionError):
    row = None
  named = set(row) if isinstance(row, dict) else set()
  given = named & {'tokens', 'prompt', 'completion'}
  if given == {'tokens'}:
    return Row(number, tokens_T=_tokens(where, row['tokens']))
  if given != {'prompt', 'completion'}:
    raise errors.InputError(
      f'{where}: wanted an object with "tokens", or with "prompt" and '
      f'"completion"; got {line[:60]!r}.'
    )
  for field in ('prompt', 'completion'):
    value = row[field]
    # Half of a surrogate pair is a string to Python and no text.
    if not isinstance(value, str) or not _is_unicode(value):
      raise errors.InputError(
        f'{where}: {field}: wanted a text; got {repr(value)[:60]}.'
      )
  if not row['completion'].strip():
    raise errors.InputError(f'{where}: completion: wanted a text; it is empty.')
  return Row(number, prompt=row['prompt'], completion=row['completion'])


def _tokens(where: str, value: Any) -> np.ndarray:
  if not isinstance(value, list) or not value:
    raise errors.InputError(
      f'{where}: tokens: wanted a list of token ids; got {repr(value)[:60]}.'
    )
  for token in value:
    # True is an integer to Python; no vocabulary reaches 2**31.
    if type(token) is not int or not 0 <= token < 2**31:
      raise errors.InputError(
        f'{where}: tokens: wanted token ids; got {repr(token)[:60]}.'
      )
  return np.array(value, np.int32)


def _is_unicode(value: str) -> bool:
  try:
    value.encode()
  except UnicodeEncodeError:
    return False
  return True


class Parts:
  """Finished pieces of a run: files, each whole or not there."""

  def __init__(self, folder: str, key: dict[str, Any]):
    """Takes over the parts of the same key; discards those of another.

    Args:
      folder: of the parts, whose lock the caller holds.
      key: all that the results depend on, as JSON values.

    Raises:
      InputError: if the folder holds anything but parts.
    """
    self._folder = folder
    path = storage.join(folder, 'key.json')
    found = storage.names(folder)
    for name in found:
      if not _PART.fullmatch(name):
        raise errors.InputError(
          f'{folder}: wanted a folder for the parts of this run alone; it '
          f'holds {name!r}.'
        )
    if found and _read_key(path) != json.loads(json.dumps(key)):
      logging.warning('%s: the parts of another run are discarded.', folder)
      for name in found:
        storage.remove(storage.join(folder, name))
      found = []
    if not found:
      storage.publish_json(path, key)

  def put(self, name: str, *pieces: np.ndarray) -> None:
    """Publishes arrays one behind another, in the machine's byte order."""
    data = b''.join(np.ascontiguousarray(piece).tobytes() for piece in pieces)
    digest = hashlib.sha256(data).digest()
    storage.publish(storage.join(self._folder, name), digest + data)

  def get(self, name: str, size: int) -> memoryview | None:
    """Returns a part's `size` bytes; None where it is missing or corrupt."""
    path = storage.join(self._folder, name)
    if not storage.exists(path):
      return None
    whole = memoryview(storage.read_bytes(path))
    digest, data = whole[:_DIGEST_BYTES], whole[_DIGEST_BYTES:]
    if len(data) != size or hashlib.sha256(data).digest() != digest:
      logging.warning('%s: corrupt; taken as missing.', path)
      return None
    return data

  def clear(self) -> None:
    """Removes the folder."""
    storage.remove_folder(self._folder)


def _read_key(path: str) -> Any:
  try:
    return storage.read_json(path)
  except errors.InputError:  # A kill came between two removals.
    return None


@dataclasses.dataclass(frozen=True)
class Member:
  """One array of an npz.

  Attributes:
    name: without `.npy`.
    dtype: of the array.
    shape: of the array.
    chunks: its bytes in C order, in pieces.
  """

  name: str
  dtype: np.dtype
  shape: tuple[int, ...]
  chunks: Iterable[Any]

  @classmethod
  def of(cls, name: str, array: np.ndarray) -> 'Member':
    return cls(name, array.dtype, array.shape, [array.tobytes()])


def write_npz(
  path: str, members: Iterable[Member], *, scratch: str | None = None
) -> None:
  """Publishes an npz of arrays that need not fit in memory.

  Its bytes follow from names and values alone: no time stamps, no compression.

  Args:
    path: of the npz, local or in a bucket.
    members: its arrays, in order.
    scratch: local folder with room for it; None for the machine's own.
  """
  # It has no name, so that a kill leaves nothing behind.
  with tempfile.TemporaryFile(dir=scratch) as file:
    with zipfile.ZipFile(file, 'w', zipfile.ZIP_STORED) as archive:
      for member in members:
        _write_member(archive, member)
    file.flush()
    # Mapped, not read: the file may be larger than the memory.
    storage.publish(path, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _write_member(archive: zipfile.ZipFile, member: Member) -> None:
  info = zipfile.ZipInfo(f'{member.name}.npy', date_time=(1980, 1, 1, 0, 0, 0))
  info.create_system = 3
  info.external_attr = 0o644 << 16
  size = member.dtype.itemsize * int(np.prod(member.shape, dtype=object))
  with archive.open(info, 'w', force_zip64=size >= _LARGE_MEMBER) as file:
    header = {
      'descr': np.lib.format.dtype_to_descr(member.dtype),
      'fortran_order': False,
      'shape': member.shape,
    }
    np.lib.format.write_array_header_1_0(file, header)
    for chunk in member.chunks:
      file.write(chunk)
      size -= memoryview(chunk).nbytes
  if size:
    raise ValueError(f'{member.name}: the chunks do not fill {member.shape}.')
