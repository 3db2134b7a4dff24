"""Text to token ids and back, by the checkpoint's own `tokenizer.json`."""

import hashlib
import itertools
import json
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import tokenizers

from wcse_jax import chat, errors, storage


# How the model is asked, where training has settled it: {"format": ...}.
PROMPT_FORMAT = 'prompt_format.json'
_FORMATS = ('chat', 'plain')
# What an exported folder needs.
FILES = (
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'chat_template.jinja',
  'tokenizer.model',
  PROMPT_FORMAT,
)
# What else says where a text ends.
_END_FILES = ('generation_config.json', 'config.json')

# What ends a turn.  A model whose chat template writes one of them was tuned to
# draw it, also where no file counts it among the ends.
_TURN_ENDS = (
  '<end_of_turn>',  # Gemma 1 to 3
  '<turn|>',  # Gemma 4
  '<|tool_response>',  # Gemma 4: it waits for a tool, which never comes
  '<|im_end|>',  # ChatML: Qwen, SmolLM2
  '<|eot_id|>',  # Llama 3
  '<|eom_id|>',  # Llama 3: it waits for a tool
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
    chat_template: jinja source of the chat template, or None.
    prompt_format: how the model is asked unless told otherwise: `chat`, by its
      template, or `plain`.
    files: what an exported folder needs of it, by name.
    folder: where it was read from; empty if it was made in memory.
    label: what messages call the checkpoint.
    sha256: of `tokenizer.json`.
  """

  def __init__(
    self,
    backend: tokenizers.Tokenizer,
    *,
    end_ids: Sequence[int],
    files: Mapping[str, bytes],
    chat_template: str | None = None,
    prompt_format: str = 'plain',
    variables: Mapping[str, str] | None = None,
    label: str = '',
    folder: str = '',
  ):
    """Takes over the backend.

    Args:
      variables: what the chat template may use by name (`bos_token`, ...).
    """
    # A text that is cut or filled up is another text.
    backend.no_truncation()
    backend.no_padding()
    self._backend = backend
    # Whether control tokens in a text are found is a state of the backend.
    self._lock = threading.Lock()
    bare = backend.encode('a', add_special_tokens=False).ids
    full = backend.encode('a', add_special_tokens=True).ids
    self.start_ids = tuple(full[: full.index(bare[0])]) if bare else ()
    # Problem text is data: `<end_of_turn>` in it must not become the token.
    backend.encode_special_tokens = True
    self.end_ids = tuple(dict.fromkeys(end_ids))
    self.end_id = self.end_ids[0]
    added = backend.get_added_tokens_decoder()
    self._controls = {
      i: token.content for i, token in added.items() if token.special
    }
    vocabulary = backend.get_vocab(with_added_tokens=True)
    plain = set(vocabulary.values()) - set(self._controls)
    self.size = 1 + max(plain.union(self.start_ids, self.end_ids))
    self.chat_template = chat_template
    self.prompt_format = prompt_format
    self._variables = dict(variables or {})
    self.files = dict(files)
    self.folder = folder
    self.label = label
    self.sha256 = hashlib.sha256(files['tokenizer.json']).hexdigest()

  def encode(self, text: str) -> list[int]:
    """Returns the ids of plain text: nothing is put before or after it."""
    return self.encode_all([text])[0]

  def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
    """Returns `encode` of each text, using all cores."""
    with self._lock:
      found = self._backend.encode_batch(list(texts), add_special_tokens=False)
    return [one.ids for one in found]

  def prompts(self, texts: Sequence[str]) -> list[list[int]]:
    """Returns the ids of each prompt, as the reference starts a text."""
    return [[*self.start_ids, *ids] for ids in self.encode_all(texts)]

  def chat(
    self,
    messages: Sequence[Mapping[str, str]],
    variables: Mapping[str, Any] | None = None,
  ) -> list[int]:
    """Returns the ids of one conversation, as `chats` does."""
    return self.chats([messages], variables)[0]

  def chats(
    self,
    conversations: Sequence[Sequence[Mapping[str, str]]],
    variables: Mapping[str, Any] | None = None,
  ) -> list[list[int]]:
    """Returns the ids of each conversation, up to the start of the next turn.

    They are those of the reference: of the text that the chat template writes,
    with its control tokens, and no BOS but the template's own.  A message that
    spells a control token stays text.

    Args:
      conversations: of each, its messages {'role': str, 'content': str}.
      variables: more for the template, as `date_string` or `enable_thinking`.

    Raises:
      InputError: if there is no chat template, it fails, or a message is
        malformed.
    """
    if self.chat_template is None:
      raise errors.InputError(
        f'{self.label}: wanted a chat template (chat_template.jinja, or '
        'chat_template in tokenizer_config.json); got none.'
      )
    rows, originals = chat.shield(
      [chat.check(messages) for messages in conversations],
      self._controls.values(),
      self.chat_template,
    )
    texts = chat.render(
      self.chat_template,
      rows,
      {**self._variables, **(variables or {})},
      label=self.label,
    )
    with self._lock:
      self._backend.encode_special_tokens = False
      try:
        found = self._backend.encode_batch(texts, add_special_tokens=False)
      finally:
        self._backend.encode_special_tokens = True
    table = str.maketrans(originals)
    return [
      one.ids
      if originals.keys().isdisjoint(text)
      else self._around_controls(text, one, table)
      for text, one in zip(texts, found, strict=True)
    ]

  def turn_end(self) -> int:
    """Returns the token by which the chat template ends a turn of the model.

    Raises:
      InputError: if it ends none by a token that ends a sample.
    """
    asked = {'role': 'user', 'content': 'a'}
    before = self.chat([asked])
    whole = self.chat([asked, {'role': 'assistant', 'content': 'b'}])
    pairs = zip(before, whole)
    shared = sum(1 for _ in itertools.takewhile(lambda p: p[0] == p[1], pairs))
    for token in whole[shared:]:
      if token in self.end_ids:
        return token
    raise errors.InputError(
      f'{self.label}: wanted a chat template that ends a turn by one of the '
      f'end tokens {list(self.end_ids)}; got none behind an answer.'
    )

  def _around_controls(
    self, text: str, found: tokenizers.Encoding, table: Mapping[int, str]
  ) -> list[int]:
    """Returns the ids of a text with stand-ins.

    What lies between the template's own control tokens is plain text, for the
    reference too: here it is encoded as such, with what the stand-ins stand
    for.
    """
    ids: list[int] = []
    at = 0
    for i, (start, stop) in zip(found.ids, found.offsets, strict=True):
      # An unknown token may be special too, without being in the text.
      if self._controls.get(i) == text[start:stop].strip():
        ids += [*self.encode(text[at:start].translate(table)), i]
        at = stop
    return ids + self.encode(text[at:].translate(table))

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
  paths = {name: storage.join(folder, name) for name in (*FILES, *_END_FILES)}
  files = {
    name: storage.read_bytes(path)
    for name, path in paths.items()
    if storage.exists(path)
  }
  return from_files(files, label=f'checkpoint: {folder}', folder=folder)


def from_files(
  files: Mapping[str, bytes], *, label: str, folder: str = ''
) -> Tokenizer:
  """Returns the tokenizer of a Hugging Face folder's files.

  Args:
    files: contents by name; others than those of a tokenizer, of the
      configuration and of the generation configuration are not looked at.
    label: what messages call the checkpoint.
    folder: where they are from; empty if from nowhere.

  Raises:
    InputError: if a file is missing or malformed, or no end token is named.
  """
  made = _Files(files, label=label, folder=folder)
  backend = made.backend()
  template = made.chat_template()
  return Tokenizer(
    backend,
    end_ids=made.end_ids(backend, template),
    files={name: files[name] for name in FILES if name in files},
    chat_template=template,
    prompt_format=made.prompt_format(template),
    variables=made.variables(),
    label=label,
    folder=folder,
  )


def save(tokenizer: Tokenizer, folder: str) -> None:
  """Writes the tokenizer's files into an exported folder, unchanged."""
  for name in FILES:
    path = storage.join(folder, name)
    if name in tokenizer.files:
      storage.publish(path, tokenizer.files[name])
    else:
      # Of an older export; a reader would take it for this one's.
      storage.remove(path)


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


class _Files:
  """The files of a checkpoint, read as what they state of its tokenizer."""

  def __init__(self, files: Mapping[str, bytes], *, label: str, folder: str):
    self._files = files
    self._label = label
    self._folder = folder
    if 'tokenizer.json' not in files:
      raise errors.InputError(
        f'{label} has no tokenizer.json; a fast tokenizer is needed.'
      )
    self._config = self._fields('tokenizer_config.json')

  def backend(self) -> tokenizers.Tokenizer:
    try:
      found = tokenizers.Tokenizer.from_buffer(self._files['tokenizer.json'])
      # Some faults show only in use.
      found.encode('a')
      return found
    except BaseException as error:
      # The binding raises bare Exception, and a panic of it is not even one.
      panic = type(error).__name__ == 'PanicException'
      if not (panic or isinstance(error, Exception)):
        raise
      raise errors.InputError(
        f'{self._where("tokenizer.json")}: not a tokenizer: {_line(error)}'
      ) from None

  def variables(self) -> dict[str, str]:
    """Returns the special tokens by name, as chat templates use them."""
    found = {}
    for fields in (self._fields('special_tokens_map.json'), self._config):
      for name, token in fields.items():
        content = token.get('content') if isinstance(token, dict) else token
        if name.endswith('_token') and isinstance(content, str):
          found[name] = content
    return found

  def chat_template(self) -> str | None:
    """Returns the template: a file of its own, or in the configuration."""
    data = self._files.get('chat_template.jinja')
    if data is not None:
      try:
        return data.decode()
      except UnicodeDecodeError:
        raise errors.InputError(
          f'{self._where("chat_template.jinja")}: wanted UTF-8 text.'
        ) from None
    where = self._where('tokenizer_config.json')
    return chat.choose(self._config.get('chat_template'), where)

  def prompt_format(self, template: str | None) -> str:
    """Returns what the file says, else `chat` where there is a template."""
    if PROMPT_FORMAT not in self._files:
      return 'plain' if template is None else 'chat'
    found = self._fields(PROMPT_FORMAT).get('format')
    known = _FORMATS if template is not None else ('plain',)
    if found not in known:
      raise errors.InputError(
        f'{self._where(PROMPT_FORMAT)}: format: wanted {" or ".join(known)}, '
        f'as there is {"a" if template else "no"} chat template; got '
        f'{str(found)[:40]!r}.'
      )
    return found

  def end_ids(
    self, backend: tokenizers.Tokenizer, template: str | None
  ) -> list[int]:
    """Returns the ids that end a text: the tokenizer's own first, then all."""
    found: list[int] = []
    token = self._config.get('eos_token')
    token = token.get('content') if isinstance(token, dict) else token
    if token is not None:
      known = backend.token_to_id(token) if isinstance(token, str) else None
      if known is None:
        raise errors.InputError(
          f'{self._where("tokenizer_config.json")}: eos_token {token!r} is not '
          'in the tokenizer.'
        )
      found.append(known)
    for name in _END_FILES:
      ids = self._fields(name).get('eos_token_id')
      for i in ids if isinstance(ids, list) else [ids]:
        if i is None:
          continue
        if isinstance(i, bool) or not isinstance(i, int) or i < 0:
          raise errors.InputError(
            f'{self._where(name)}: eos_token_id: wanted token ids; got {ids!r}.'
          )
        found.append(i)
    if not found:
      raise errors.InputError(
        f'{self._label} names no end token (eos_token in '
        'tokenizer_config.json, eos_token_id in generation_config.json).'
      )
    if template is not None:
      controls = {
        token.content: i
        for i, token in backend.get_added_tokens_decoder().items()
        if token.special
      }
      found += [
        controls[end]
        for end in _TURN_ENDS
        if end in template and end in controls
      ]
    return found

  def _where(self, name: str) -> str:
    if self._folder:
      return storage.join(self._folder, name)
    return f'{self._label}: {name}'

  def _fields(self, name: str) -> dict[str, Any]:
    """Returns the object in a JSON file; empty where there is no file."""
    if name not in self._files:
      return {}
    try:
      fields = json.loads(self._files[name])
    except (ValueError, RecursionError) as error:
      raise errors.InputError(
        f'{self._where(name)}: wanted JSON; got {_line(error)}.'
      ) from None
    if not isinstance(fields, dict):
      raise errors.InputError(
        f'{self._where(name)}: wanted an object; got {str(fields)[:80]}.'
      )
    return fields


def _line(error: Exception) -> str:
  return ' '.join(str(error).split())[:200]
