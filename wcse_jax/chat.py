"""Chat templates: from messages to the text that a model was tuned on.

A template is a program of the checkpoint's author.  It runs in jinja2's sandbox
and, since a sandbox bounds neither time nor memory, in a process of its own
with limits on both; this process only reads the texts that come back.

Source: the environment that a template may count on: transformers 5, chat
templating (documentation, and utils/chat_template_utils.py).
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from wcse_jax import errors


# Limits of one conversation: seconds of processor time (a published template
# takes about a millisecond), bytes of memory, and characters: so many, and so
# many for each one of the messages.
_CPU_S = 1.0
_MEMORY = 1 << 30
_MAX_TEXT, _MAX_GROWTH = 1 << 18, 8
# Seconds of any time for a process to start and for a conversation, on a
# machine that is busy with other work.
_START_S, _EACH_S = 60.0, 10.0
# Where stand-ins are taken from: a plane of Unicode for private use.
_PRIVATE = range(0xF0000, 0xFFFFE)

_CHILD = (
  'import json, sys; sys.path[:] = json.loads(sys.argv[1]); '
  'from wcse_jax import chat; chat._serve()'
)


def choose(field: Any, where: str) -> str | None:
  """Returns the template in a tokenizer_config.json's `chat_template`.

  Args:
    field: a template, a list of several by name (for tools, for retrieval), of
      which the one called default is taken, or None.
    where: what messages call the file.

  Raises:
    InputError: if it is neither.
  """
  found = field
  if isinstance(field, list):
    found = {
      row['name']: row.get('template')
      for row in field
      if isinstance(row, dict) and isinstance(row.get('name'), str)
    }.get('default', field)
  if found is not None and not isinstance(found, str):
    raise errors.InputError(
      f'{where}: chat_template: wanted a string or a list of {{"name", '
      f'"template"}} with a default; got {str(field)[:80]!r}.'
    )
  return found


def check(messages: Any) -> list[dict[str, str]]:
  """Returns a conversation's messages as plain data.

  Raises:
    InputError: if they are not a list of {'role': str, 'content': str}.
  """
  if not isinstance(messages, Sequence) or not messages:
    raise errors.InputError(
      f'messages: wanted a list of messages; got {str(messages)[:80]!r}.'
    )
  for message in messages:
    if (
      not isinstance(message, Mapping)
      or set(message) != {'role', 'content'}
      or not all(isinstance(value, str) for value in message.values())
    ):
      raise errors.InputError(
        "messages: wanted {'role': str, 'content': str}; got "
        f'{str(message)[:80]!r}.'
      )
  return [dict(message) for message in messages]


def shield(
  conversations: Sequence[Sequence[Mapping[str, str]]],
  controls: Sequence[str],
  template: str,
) -> tuple[list[list[dict[str, str]]], dict[str, str]]:
  """Returns conversations that spell no control token, and how to undo it.

  The first character of each control token in a message is replaced by one
  that occurs nowhere: what the template itself writes can then be told from
  data that looks the same, and lengths are kept.

  Args:
    conversations: the messages of each.
    controls: the control tokens.
    template: must not use a stand-in either.

  Returns:
    The conversations, and the character behind each stand-in; it is empty
    where nothing had to be replaced.
  """
  known = set(controls)
  lengths: dict[str, set[int]] = {}
  for control in known:
    lengths.setdefault(control[0], set()).add(len(control))
  used = set(template).union(
    *(text for row in conversations for m in row for text in m.values())
  )
  free = (chr(i) for i in _PRIVATE if chr(i) not in used)
  stand_ins: dict[str, str] = {}

  def shielded(text: str) -> str:
    found = [
      at
      for first, sizes in lengths.items()
      for at in _places(text, first)
      if any(text[at : at + size] in known for size in sizes)
    ]
    if not found:
      return text
    characters = list(text)
    for at in found:
      first = characters[at]
      if first not in stand_ins:
        stand_ins[first] = next(free)
      characters[at] = stand_ins[first]
    return ''.join(characters)

  rows = [
    [{key: shielded(text) for key, text in m.items()} for m in row]
    for row in conversations
  ]
  return rows, {other: first for first, other in stand_ins.items()}


def _places(text: str, character: str):
  at = text.find(character)
  while at >= 0:
    yield at
    at = text.find(character, at + 1)


def render(
  template: str,
  conversations: Sequence[Sequence[Mapping[str, str]]],
  variables: Mapping[str, Any],
  *,
  label: str,
) -> list[str]:
  """Returns the text of each conversation, ready for the model's turn.

  Args:
    template: jinja source.
    conversations: the messages of each.
    variables: what else the template may use (`bos_token`, ...).
    label: what messages call the checkpoint.

  Raises:
    InputError: if the template is malformed, refuses the messages, fails, or
      exceeds its time or memory.
  """

  def failed(why: str) -> errors.InputError:
    why = ' '.join(why.split())[:200].rstrip(' .:')
    return errors.InputError(f'{label}: the chat template {why}.')

  task = [{'template': template, 'variables': dict(variables)}, *conversations]
  try:
    done = subprocess.run(
      [sys.executable, '-I', '-c', _CHILD, json.dumps([*map(str, sys.path)])],
      input='\n'.join(map(json.dumps, task)),
      capture_output=True,
      text=True,
      check=False,
      timeout=_START_S + _EACH_S * len(conversations),
    )
  except subprocess.TimeoutExpired:
    raise failed('took too long') from None
  texts = []
  # What a killed process was writing has no end of line.
  for line in done.stdout.split('\n')[:-1]:
    answer = json.loads(line)
    if 'error' in answer:
      raise failed(f'failed: {answer["error"]}')
    texts.append(answer['text'])
  if len(texts) < len(conversations):
    # Killed: by its timer, for memory, or by a deep recursion.
    raise failed(
      f'took more than {_CPU_S:.0f} s or {_MEMORY >> 20} MiB (status '
      f'{done.returncode}) {done.stderr[-100:]}'
    )
  return texts


def _serve() -> None:
  """Answers the one task on standard input; all that the child does."""
  import resource
  import signal

  resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
  resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
  # A parent may ignore or block the signal (libtpu does), and children inherit
  # that.
  signal.signal(signal.SIGPROF, signal.SIG_DFL)
  signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPROF})

  def answer(value: dict[str, str]) -> None:
    sys.stdout.write(json.dumps(value) + '\n')
    sys.stdout.flush()

  def limited() -> None:
    # The signal's default action ends the process, also inside one long
    # operation, which no handler written in Python could interrupt.
    signal.setitimer(signal.ITIMER_PROF, _CPU_S)

  task = json.loads(sys.stdin.readline())
  limited()
  try:
    template = _environment().from_string(task['template'])
    for line in sys.stdin:
      limited()
      text = template.render(
        {
          **task['variables'],
          'messages': json.loads(line),
          'tools': None,
          'documents': None,
          'add_generation_prompt': True,
        }
      )
      most = _MAX_TEXT + _MAX_GROWTH * len(line)
      if len(text) > most:
        raise ValueError(f'wrote {len(text):,} characters, of at most {most:,}')
      answer({'text': text})
  except Exception as error:  # Whatever a template may raise.
    answer({'error': f'{type(error).__name__}: {error}'[:1000]})


def _environment():
  """Returns the sandbox with what the reference offers to templates."""
  import datetime

  import jinja2
  import jinja2.ext
  import jinja2.sandbox

  class Generation(jinja2.ext.Extension):
    """`{% generation %}`, a mark around the model's turns: writes its body."""

    tags = frozenset(('generation',))

    def parse(self, parser):
      line = next(parser.stream).lineno
      body = parser.parse_statements(('name:endgeneration',), drop_needle=True)
      call = self.call_method('_body')
      return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _body(self, caller):
      return caller()

  def raise_exception(message):
    raise jinja2.TemplateError(message)

  def tojson(
    value, ensure_ascii=False, indent=None, separators=None, sort_keys=False
  ):
    # jinja2's own escapes what is special in HTML.
    return json.dumps(
      value,
      ensure_ascii=ensure_ascii,
      indent=indent,
      separators=separators,
      sort_keys=sort_keys,
    )

  environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True,
    lstrip_blocks=True,
    extensions=[Generation, jinja2.ext.loopcontrols],
  )
  environment.filters['tojson'] = tojson
  environment.globals['raise_exception'] = raise_exception
  environment.globals['strftime_now'] = lambda form: (
    datetime.datetime.now().strftime(form)
  )
  return environment
