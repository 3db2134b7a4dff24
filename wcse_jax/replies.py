"""What an OpenAI-compatible server replied, read with distrust.

Servers differ, and what stands between may cut, wrap or replace a reply.  A
reply counts if it says what was drawn, why that ended, and what it took;
anything else is none.  No jax here.
"""

import dataclasses
import json
import re
from collections.abc import Callable
from typing import Any


# Why a text ended, in OpenAI's words -> `records.FINISH_REASONS`.  A filter
# cuts a text as the limit does.
_FINISHES = {
  'stop': 'stop',
  'tool_calls': 'stop',
  'function_call': 'stop',
  'length': 'length',
  'content_filter': 'length',
}
# A count above it is no count: ten times the longest context known.
_MOST_TOKENS = 10**8
# Halves of a character, which a cut may leave and UTF-8 cannot hold.
_SURROGATE = re.compile('[\ud800-\udfff]')
# Characters of what came that a message shows.
_SHOWN = 60


class NoReply(ValueError):
  """What came is no reply; the message says what came."""


@dataclasses.dataclass(frozen=True)
class Reply:
  """One text of a server's model.

  Attributes:
    text: what was said.
    finish_reason: one of `records.FINISH_REASONS`.
    prompt_tokens: tokens read, as the server counts them.
    completion_tokens: tokens drawn, likewise; hidden ones may be among them.
    filtered: whether the server's filter cut the text.
  """

  text: str
  finish_reason: str
  prompt_tokens: int
  completion_tokens: int
  filtered: bool = False


def read(
  body: bytes,
  *,
  chat: bool = True,
  hide: Callable[[str], str] = lambda text: text,
) -> Reply:
  """Returns the reply that a body holds.

  A text that is null is empty where the model drew tokens: all of them were
  hidden ones.

  Args:
    body: of a response of status 200.
    chat: whether a chat was asked for, else a completion.
    hide: takes out of any text what nobody is to see.

  Raises:
    NoReply: if it holds none.
  """

  def shown(value: Any) -> str:
    try:
      # Whole before it is cut: a part of a key would not be found.
      text = hide(json.dumps(value))
    except RecursionError:
      text = 'something very deep'
    return text if len(text) <= _SHOWN else f'{text[:_SHOWN]} ...'

  def count(name: str) -> int:
    value = usage.get(name) if isinstance(usage, dict) else None
    if type(value) is not int or not 0 <= value <= _MOST_TOKENS:
      raise NoReply(f'a reply whose "usage.{name}" is {shown(value)}')
    return value

  plain = hide(body.decode('utf-8', 'replace'))
  try:
    found = json.loads(plain)
    choice, usage = _parts(found)
    text = _text(choice, chat)
  except (ValueError, RecursionError):
    raise NoReply(
      f'no JSON: {shown(plain)}' if plain.strip() else 'an empty body'
    ) from None
  except (KeyError, TypeError):
    wanted = 'a message' if chat else 'a text'
    raise NoReply(f'no list "choices" of {wanted}: {shown(found)}') from None
  kind = choice.get('finish_reason')
  if not isinstance(kind, str) or kind not in _FINISHES:
    raise NoReply(f'a reply whose "finish_reason" is {shown(kind)}')
  prompt, drawn = count('prompt_tokens'), count('completion_tokens')
  if text is None and drawn:
    text = ''
  if not isinstance(text, str):
    raise NoReply(f'a reply whose text is {shown(text)}')
  if text and not drawn:
    raise NoReply('a text of 0 "completion_tokens"')
  return Reply(
    text=_SURROGATE.sub('\ufffd', hide(text)),
    finish_reason=_FINISHES[kind],
    prompt_tokens=prompt,
    completion_tokens=drawn,
    filtered=kind == 'content_filter',
  )


def _parts(found: Any) -> tuple[dict[str, Any], Any]:
  """Returns the choice and the usage of a reply.

  Raises:
    KeyError, TypeError: if it is of another form.
  """
  # One text was asked for.
  choices = found['choices']
  if not isinstance(choices, list) or len(choices) != 1:
    raise TypeError
  if not isinstance(choices[0], dict):
    raise TypeError
  return choices[0], found.get('usage')


def _text(choice: dict[str, Any], chat: bool) -> Any:
  """Returns the text of a choice, of whatever type.

  Raises:
    KeyError, TypeError: if it is of another form.
  """
  if not chat:
    return choice['text']
  message = choice['message']
  if not isinstance(message, dict):
    raise TypeError
  # What is null may be left out.
  return message.get('content')
