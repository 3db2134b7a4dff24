"""A language model behind an OpenAI-compatible server.

Texts go out one a request, as chats of one message or to be completed, several
at a time.  What a busy server refuses is asked again by the package `openai`
itself, which waits as long as the server says (up to two minutes); what is no
reply, or breaks off, is asked again here.
"""

import contextlib
import dataclasses
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from wcse_jax import crew, endpoint, errors, replies


_INSTALL = 'pip install wcse_jax[api]'
# Waits before a request is made again: the first one doubles up to the last.
_WAIT_S, _LONGEST_WAIT_S = 0.5, 8.0
# A reply that drips may take this many times the silence that is allowed.
_DRIP = 10
# Bytes of a reply at most: a token is 128 characters at the longest, and each
# may be escaped.
_BYTES, _BYTES_A_TOKEN = 1 << 16, 1 << 11
# What is under way when a run is stopped has so long to be kept; the process
# ends after 8 seconds.
_GRACE_S = 6.0


@dataclasses.dataclass(frozen=True)
class Request:
  """One text that is asked for.

  Attributes:
    text: what the user says, or what is to be completed.
    seed: of its draws; None: as the server's.
  """

  text: str
  seed: int | None = None


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
    chat: bool = True,
    temperature: float = 0.0,
    top_p: float = 1.0,
    max_tokens: int = 512,
    stop: Sequence[str] = (),
    seed: int | None = None,
    extra: Mapping[str, Any] | None = None,
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
      chat: whether texts are what a user says, else what is to be completed.
      temperature: of the draws; 0 takes the most probable token.
      top_p: probability mass kept, in (0, 1].
      max_tokens: tokens of a reply at most.
      stop: strings that end a text; a server that refuses them is not sent any.
      seed: of the draws, for servers that know one; None to send none.
      extra: fields of a request that are not OpenAI's.

    Raises:
      InputError: if an argument does not fit, or `openai` is not installed.
    """
    endpoint.check(url, model, key_variable, concurrency, retries, timeout)
    if max_tokens < 1:
      raise errors.InputError(
        f'max_tokens: wanted a count >= 1; got {max_tokens}.'
      )
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
    # Whether it is known to be a server of this model, by any thread.
    self._replied = False
    self._concurrency = concurrency
    self._retries = retries
    self._timeout = timeout
    self._chat = chat
    self._openai = openai
    self._draws: dict[str, Any] = {'temperature': temperature, 'top_p': top_p}
    self._seed = seed
    self._extra = dict(extra or {})
    self._max_tokens = max_tokens
    # What servers may know by another name, or refuse.
    self._limit = 'max_tokens'
    self._stop = list(stop)
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
      InputError, Stopped: as `ask`.
    """
    found: list[str | None] = [None] * len(texts)
    with contextlib.closing(self.ask([*map(Request, texts)])) as came:
      for done, (i, reply) in enumerate(came, 1):
        found[i] = None if reply is None else reply.text
        each(done)
    return found

  def ask(
    self,
    requests: Sequence[Request],
    keep: Callable[[int, replies.Reply], object] | None = None,
  ) -> Iterator[tuple[int, replies.Reply | None]]:
    """Yields (number of the request, reply) as they come.

    Close it where it is left before its end.

    Args:
      requests: what is asked, the first ones first.
      keep: called with number and reply before they are yielded, by several
        threads at once, which no signal interrupts.  Where it is given, what is
        under way at an error or a stop is waited for and kept: as long as the
        server may be silent, or for some seconds.

    Yields:
      None for a text that is longer than the model's context.

    Raises:
      InputError: if the server cannot be reached, refuses a request, or
        answers with something else than a reply.
      Stopped: if it has replied before and then failed in a way that may pass.
    """

    def one(i: int, stop: threading.Event) -> replies.Reply | None:
      reply = self._one(requests[i], stop)
      if reply is not None and keep is not None:
        keep(i, reply)
      return reply

    with contextlib.closing(
      crew.results(
        one,
        len(requests),
        threads=self._concurrency,
        after_error=self._timeout if keep else 0.0,
        after_stop=_GRACE_S if keep else 0.0,
      )
    ) as came:
      for i, reply in came:
        self._count(reply)
        yield i, reply

  def _one(
    self, request: Request, stop: threading.Event
  ) -> replies.Reply | None:
    """Returns the reply to a request; None where its text is too long."""
    for attempt in range(self._retries + 1):
      if attempt and stop.wait(
        min(_WAIT_S * 2 ** (attempt - 1), _LONGEST_WAIT_S)
      ):
        break
      try:
        body = self._body(request)
        if body is None:
          return None
        reply = replies.read(body, chat=self._chat, hide=self._hide)
        self._replied = True
        return reply
      except replies.NoReply as error:
        failed = error
    raise self._failed(failed, passes=True) from None

  def _body(self, request: Request) -> bytes | None:
    """Returns what the server answers; None where the text is too long."""
    known = self._openai
    while True:
      limit, stop = self._limit, self._stop
      try:
        with self._send(request, limit, stop) as response:
          return self._whole(response)
      except known.BadRequestError as error:
        if _too_long(error):
          return None
        if error.param == limit == 'max_tokens':
          # Newer models call it so.
          self._limit = 'max_completion_tokens'
        elif error.param == 'stop' and stop:
          self._stop = []
        else:
          raise self._failed(error, passes=False) from None
      except known.APIStatusError as error:
        passes = error.status_code in (408, 409, 429)
        passes = passes or error.status_code >= 500
        raise self._failed(error, passes=passes) from None
      except known.APIConnectionError as error:
        raise self._failed(error, passes=True) from None
      except replies.NoReply:
        raise
      except (known.OpenAIError, ValueError) as error:
        # ValueError: an URL that is none.
        raise self._failed(error, passes=False) from None

  def _send(self, request: Request, limit: str, stop: Sequence[str]) -> Any:
    """Returns what sends a request when it is entered."""
    fields: dict[str, Any] = {limit: self._max_tokens, **self._draws}
    seed = self._seed if request.seed is None else request.seed
    if seed is not None:
      fields['seed'] = seed
    if stop:
      fields['stop'] = stop
    if self._extra:
      fields['extra_body'] = self._extra
    # Read as it comes: the package would read on however much comes.
    if not self._chat:
      return self._client.completions.with_streaming_response.create(
        model=self.model, prompt=request.text, **fields
      )
    return self._client.chat.completions.with_streaming_response.create(
      model=self.model,
      messages=[{'role': 'user', 'content': request.text}],
      **fields,
    )

  def _whole(self, response: Any) -> bytes:
    """Returns the body of a response; raises NoReply if it has no end."""
    most = _BYTES + _BYTES_A_TOKEN * self._max_tokens
    until = time.monotonic() + _DRIP * self._timeout
    found = bytearray()
    try:
      for part in response.iter_bytes():
        found += part
        if len(found) > most:
          raise replies.NoReply(f'a reply of more than {most} bytes')
        if time.monotonic() > until:
          raise replies.NoReply(
            f'no end of a reply in {_DRIP * self._timeout:g} s'
          )
    except replies.NoReply:
      raise
    except Exception as error:  # Of the package's package for HTTP.
      raise replies.NoReply(
        f'a reply that broke off: {type(error).__name__}: {error}'
      ) from None
    return bytes(found)

  def _count(self, reply: replies.Reply | None) -> None:
    self.requests += 1
    if reply is not None:
      self.prompt_tokens += reply.prompt_tokens
      self.completion_tokens += reply.completion_tokens

  def _failed(self, error: Exception, *, passes: bool) -> Exception:
    """Returns the error that says what a request came to."""
    what = 'chat completion' if self._chat else 'completion'
    text = (
      f'server: wanted a {what} of {self.model!r} from {self.url}; '
      f'got {self._told(error)}.'
    )
    if passes and self._replied:
      return errors.Stopped(text)
    return errors.InputError(text)

  def _told(self, error: Exception) -> str:
    """Returns an error on one line, without the key."""
    kind = f'{type(error).__name__}: '
    if isinstance(error, self._openai.APIStatusError):
      kind = f'status {error.status_code}: '
      body = error.body
      said = body.get('message') if isinstance(body, dict) else body
      said = error.message if not isinstance(said, str) else said
    elif isinstance(error, replies.NoReply):
      kind, said = '', str(error)
    else:
      said = f'{error} {error.__cause__ or ""}'
    # Whole before it is cut: a part of the key is not found.
    said = ' '.join(self._hide(said).split())
    said = said if len(said) <= 200 else f'{said[:196]} ...'
    return f'{kind}{said}'.rstrip(' .:')


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
