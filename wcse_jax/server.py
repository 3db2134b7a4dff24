"""A language model behind an OpenAI-compatible server.

Texts go out as chats of one message, several at a time; what a busy server
refuses is asked again by the package `openai` itself, which waits as long as
the server says (up to two minutes).
"""

import os
import queue
import threading
import urllib.parse
from collections.abc import Callable, Sequence
from typing import Any

from wcse_jax import errors


_INSTALL = 'pip install wcse_jax[api]'


class Server:
  """A model of a server.  Close it, or use it in a `with`.

  Attributes:
    url: where the server's interface begins, as `http://localhost:8000/v1`.
    model: the name by which the server knows the model.
    prompt_tokens: tokens read so far, as the server counts them.
    completion_tokens: tokens written so far.
    requests: replies so far.
  """

  def __init__(
    self,
    url: str,
    model: str,
    *,
    key_variable: str = 'OPENAI_API_KEY',
    concurrency: int = 8,
    retries: int = 5,
    timeout: float = 120.0,
    temperature: float = 0.0,
    top_p: float = 1.0,
    max_tokens: int = 512,
    seed: int | None = None,
  ):
    """Connects to nothing yet.

    Args:
      url: http or https, without user name, password or query, since it is
        written into the run folder.
      model: name of the model.
      key_variable: environment variable with the key, which is sent to `url`
        and kept nowhere else; one that is not set means no key.
      concurrency: requests under way at a time.
      retries: of a request that failed in a way that may pass.
      timeout: seconds that the server may be silent for.
      temperature: of the draws; 0 takes the most probable token.
      top_p: probability mass kept, in (0, 1].
      max_tokens: tokens of a reply at most.
      seed: of the draws, for servers that know one; None to send none.

    Raises:
      InputError: if an argument does not fit, or `openai` is not installed.
    """
    check_url(url)
    if not model:
      raise errors.InputError(
        'model: wanted the name of a model of the server; got nothing.'
      )
    for name, value, least in (
      ('concurrency', concurrency, 1),
      ('retries', retries, 0),
      ('max_tokens', max_tokens, 1),
    ):
      if value < least:
        raise errors.InputError(
          f'{name}: wanted a count >= {least}; got {value}.'
        )
    if not timeout > 0:
      raise errors.InputError(f'timeout: wanted seconds > 0; got {timeout}.')
    try:
      import openai
    except ImportError:
      raise errors.InputError(
        'server: wanted the package `openai`, which is not installed; '
        f'{_INSTALL}'
      ) from None
    self.url = url
    self.model = model
    self.prompt_tokens = 0
    self.completion_tokens = 0
    self.requests = 0
    self._concurrency = concurrency
    self._openai = openai
    self._draws: dict[str, Any] = {'temperature': temperature, 'top_p': top_p}
    if seed is not None:
      self._draws['seed'] = seed
    self._max_tokens = max_tokens
    # How the server calls the limit: newer models refuse the older name.
    self._limit = 'max_tokens'
    key = os.environ.get(key_variable, '').strip() if key_variable else ''
    if not (key.isascii() and key.isprintable()):
      raise errors.InputError(
        f'key_variable: wanted a key of printable ASCII in {key_variable}; '
        'got something else.'
      )
    self._hide = _hider(key)
    try:
      self._client = openai.OpenAI(
        # The package insists on a key, and would look for one itself.
        api_key=key or 'none',
        base_url=url,
        max_retries=retries,
        timeout=timeout,
      )
    except (openai.OpenAIError, ValueError, TypeError) as error:
      raise errors.InputError(
        f'server: wanted a server to ask; got {self._told(error)}.'
      ) from None

  def __repr__(self) -> str:
    return f'Server({self.url!r}, {self.model!r})'

  def __enter__(self) -> 'Server':
    return self

  def __exit__(self, *exception: object) -> None:
    self.close()

  def close(self) -> None:
    """Ends the connections."""
    self._client.close()

  def complete(
    self,
    texts: Sequence[str],
    each: Callable[[int], object] = lambda done: None,
  ) -> list[str | None]:
    """Returns the reply to each text, in order.

    Args:
      texts: what the user says.
      each: called with the number of replies whenever one has come.

    Returns:
      The replies; None for a text that is longer than the model's context, and
      an empty text where the model said nothing.

    Raises:
      InputError: if the server cannot be reached, refuses a request, or
        answers with something else than a chat completion.
      Stopped: if it has replied before and then failed in a way that may pass.
    """
    # Not an executor: its threads would be waited for when the run is stopped,
    # for as long as a server that hangs may take.
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    came: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
    stop = threading.Event()
    for i in range(len(texts)):
      waiting.put(i)

    def work() -> None:
      while not stop.is_set():
        try:
          i = waiting.get_nowait()
        except queue.Empty:
          return
        try:
          came.put((i, self._one(texts[i])))
        except BaseException as error:  # Raised again by who waits.
          came.put((i, error))

    for _ in range(min(self._concurrency, len(texts))):
      threading.Thread(target=work, name='server-request', daemon=True).start()
    found: list[str | None] = [None] * len(texts)
    try:
      for done in range(1, len(texts) + 1):
        i, reply = came.get()
        if isinstance(reply, BaseException):
          raise reply
        found[i] = self._counted(reply)
        each(done)
    finally:
      stop.set()
    return found

  def _one(self, text: str) -> Any:
    """Returns the completion of one text; None where it is too long."""
    known = self._openai
    while True:
      limit = self._limit
      try:
        found = self._client.chat.completions.create(
          model=self.model,
          messages=[{'role': 'user', 'content': text}],
          **{limit: self._max_tokens},
          **self._draws,
        )
        break
      except known.BadRequestError as error:
        if _too_long(error):
          return None
        if limit != 'max_tokens' or error.param != 'max_tokens':
          raise self._failed(error, passes=False) from None
        self._limit = 'max_completion_tokens'
      except known.APIStatusError as error:
        passes = error.status_code in (408, 409, 429)
        passes = passes or error.status_code >= 500
        raise self._failed(error, passes=passes) from None
      except known.APIConnectionError as error:
        raise self._failed(error, passes=True) from None
      except (known.OpenAIError, ValueError) as error:
        # ValueError: a body that is not JSON, or an URL that is none.
        raise self._failed(error, passes=False) from None
    choices = getattr(found, 'choices', None)
    if not isinstance(choices, list) or not choices:
      raise self._failed(TypeError(f'{found!r}'), passes=False)
    return found

  def _counted(self, found: Any) -> str | None:
    """Returns the text of a completion, and counts its tokens."""
    self.requests += 1
    if found is None:
      return None
    usage = getattr(found, 'usage', None)
    for name in ('prompt_tokens', 'completion_tokens'):
      count = getattr(usage, name, None)
      if type(count) is int and count > 0:
        setattr(self, name, getattr(self, name) + count)
    message = getattr(found.choices[0], 'message', None)
    content = getattr(message, 'content', None)
    return self._hide(content) if isinstance(content, str) else ''

  def _failed(self, error: Exception, *, passes: bool) -> Exception:
    """Returns the error that says what a request came to."""
    text = (
      f'server: wanted a chat completion of {self.model!r} from {self.url}; '
      f'got {self._told(error)}.'
    )
    if passes and self.requests:
      return errors.Stopped(text)
    return errors.InputError(text)

  def _told(self, error: Exception) -> str:
    """Returns an error on one line, without the key."""
    kind = type(error).__name__
    if isinstance(error, self._openai.APIStatusError):
      kind = f'status {error.status_code}'
      body = error.body
      said = body.get('message') if isinstance(body, dict) else body
      said = error.message if not isinstance(said, str) else said
    else:
      said = f'{error} {error.__cause__ or ""}'
    # Whole before it is cut: a part of the key is not found.
    said = ' '.join(self._hide(said).split())
    said = said if len(said) <= 200 else f'{said[:196]} ...'
    return f'{kind}: {said.rstrip(" .")}' if said else kind


def check_url(url: str) -> None:
  """Raises InputError if it is no URL that may be written down."""
  try:
    parts = urllib.parse.urlsplit(url)
    fine = parts.scheme in ('http', 'https') and bool(parts.hostname)
    _ = parts.port
  except ValueError:
    fine = False
  # What came is not shown where it may hold a password.
  secret = '@' in url or '?' in url or '#' in url
  if secret or not fine:
    raise errors.InputError(
      'server: wanted http://HOST/v1 or https://HOST/v1 without user name, '
      f'password or query; got {"one with them" if secret else repr(url)}.'
    )


def _hider(key: str) -> Callable[[str], str]:
  """Returns what takes a key out of a text."""

  def hide(text: str) -> str:
    return text.replace(key, '[key]') if key else text

  return hide


def _too_long(error: Any) -> bool:
  """Returns whether a request was refused for the length of its text.

  Source: error codes of OpenAI's reference; the wording of vLLM's server.
  """
  return (
    error.code == 'context_length_exceeded'
    or 'maximum context length' in str(error.message)
  )
