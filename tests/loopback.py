"""A server on this machine that speaks as OpenAI's does, by a test's rules."""

import collections
import contextlib
import dataclasses
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any


@dataclasses.dataclass
class Answer:
  """What the server says: a status, a body, and headers.

  Of the body, `cut` bytes are left out at the end, and the connection closed;
  `drip` seconds are between any two bytes.
  """

  status: int
  body: Any
  headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
  cut: int = 0
  drip: float = 0.0


@dataclasses.dataclass
class Loopback:
  """A running server.

  Attributes:
    url: where it begins.
    requests: bodies of all requests so far.
    paths: where they went.
    keys: their Authorization headers.
    most: requests that were under way at once.
  """

  url: str
  requests: list[dict[str, Any]] = dataclasses.field(default_factory=list)
  paths: list[str] = dataclasses.field(default_factory=list)
  keys: list[str] = dataclasses.field(default_factory=list)
  most: int = 0


def said(
  text: Any,
  prompt: Any = 7,
  completion: Any = 3,
  finish: Any = 'stop',
  chat: bool = True,
) -> Answer:
  """Returns a chat completion, or a completion."""
  content = (
    {'message': {'role': 'assistant', 'content': text}}
    if chat
    else {'text': text}
  )
  return Answer(
    200,
    {
      'id': 'x',
      'object': 'chat.completion' if chat else 'text_completion',
      'created': 0,
      'model': 'm',
      'choices': [{'index': 0, 'finish_reason': finish, **content}],
      'usage': {
        'prompt_tokens': prompt,
        'completion_tokens': completion,
        'total_tokens': 0,
      },
    },
  )


@contextlib.contextmanager
def serving(
  rule: Callable[..., Answer | str],
  *,
  whole: bool = False,
) -> Iterator[Loopback]:
  """Runs a server of chats and of plain completions.

  Args:
    rule: (what the user said, or what is to be completed, how often each text
      came before) -> an answer, or the text of one.
    whole: whether the rule takes the request instead, as the server got it.
  """
  lock = threading.Lock()
  seen: collections.Counter = collections.Counter()
  under_way = 0

  class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
      nonlocal under_way
      length = int(self.headers['Content-Length'])
      body = json.loads(self.rfile.read(length))
      chat = 'messages' in body
      text = body['messages'][-1]['content'] if chat else body['prompt']
      with lock:
        under_way += 1
        server.most = max(server.most, under_way)
        server.requests.append(body)
        server.paths.append(self.path)
        server.keys.append(self.headers.get('Authorization', ''))
        before = seen.copy()
        seen[text] += 1
      answer = rule(body) if whole else rule(text, before)
      if self.path != ('/v1/chat' if chat else '/v1') + '/completions':
        answer = Answer(404, {'error': {'message': 'no such path'}})
      if isinstance(answer, str):
        answer = said(answer, chat=chat)
      data = answer.body
      if not isinstance(data, bytes):
        data = json.dumps(data).encode()
      with lock:
        under_way -= 1
      # Who asked may have given up.
      with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        self.send_response(answer.status)
        headers = {'Content-Type': 'application/json', **answer.headers}
        for name, value in headers.items():
          self.send_header(name, value)
        self.send_header('Content-Length', str(len(data)))
        self.end_headers()
        data = data[: len(data) - answer.cut]
        if not answer.drip:
          self.wfile.write(data)
          return
        for i in range(len(data)):
          self.wfile.write(data[i : i + 1])
          time.sleep(answer.drip)

    def log_message(self, *_) -> None:
      pass

  class Quiet(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_) -> None:
      """A connection that the other side reset is no event."""

  with Quiet(('127.0.0.1', 0), Handler) as listener:
    server = Loopback(f'http://127.0.0.1:{listener.server_port}/v1')
    thread = threading.Thread(target=listener.serve_forever, args=(0.02,))
    thread.start()
    try:
      yield server
    finally:
      listener.shutdown()
      thread.join()
