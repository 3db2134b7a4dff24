"""The client, against a real server on this machine."""

import dataclasses
import json
import logging
import subprocess
import sys
import time

import loopback
import pytest

from wcse_jax import errors
from wcse_jax import server as servers


KEY = 'sk-planted-7d1f0c9a'


@pytest.fixture(autouse=True)
def _no_key(monkeypatch):
  monkeypatch.delenv('OPENAI_API_KEY', raising=False)


def client(url, **arguments):
  arguments = {'retries': 2, 'timeout': 5.0, **arguments}
  return servers.Server(url, 'm', **arguments)


def test_replies_in_order_and_at_once():
  """The first text is answered last; all are under way together."""

  def rule(text, _):
    time.sleep(0.2 if text == 'text 0' else 0.02)
    return f'reply to {text}'

  texts = [f'text {i}' for i in range(12)]
  done = []
  with loopback.serving(rule) as server, client(server.url) as asked:
    replies = asked.complete(texts, done.append)
  assert replies == [f'reply to {text}' for text in texts]
  assert done == list(range(1, 13))
  assert 2 <= server.most <= 8
  assert (asked.prompt_tokens, asked.completion_tokens) == (12 * 7, 12 * 3)
  assert asked.requests == 12


def test_one_at_a_time():
  with (
    loopback.serving(lambda *_: 'x') as server,
    client(server.url, concurrency=1) as asked,
  ):
    assert asked.complete(list('abc')) == ['x'] * 3
    assert server.most == 1
    assert asked.complete([]) == []


def test_what_is_sent():
  with (
    loopback.serving(lambda *_: 'x') as server,
    client(server.url, temperature=0.5, max_tokens=9, seed=3) as asked,
  ):
    asked.complete(['hello'])
  assert server.requests == [
    {
      'model': 'm',
      'messages': [{'role': 'user', 'content': 'hello'}],
      'max_tokens': 9,
      'temperature': 0.5,
      'top_p': 1.0,
      'seed': 3,
    }
  ]


def test_a_busy_server_is_asked_again():
  def rule(text, before):
    if before[text] < 2:
      headers = {'Retry-After': '0.05'}
      return loopback.Answer(429, {'error': {'message': 'slowly'}}, headers)
    return 'at last'

  with loopback.serving(rule) as server, client(server.url) as asked:
    assert asked.complete(['a', 'b']) == ['at last'] * 2
  assert len(server.requests) == 6


BROKEN = loopback.Answer(
  500, {'error': {'message': 'out of order'}}, {'Retry-After': '0.01'}
)


def test_a_broken_server_is_an_error():
  with loopback.serving(lambda *_: BROKEN) as server:
    with client(server.url) as asked:
      with pytest.raises(errors.InputError, match='status 500: out of order'):
        asked.complete(['a'])
  assert len(server.requests) == 3


def test_a_server_that_breaks_later_can_be_gone_on_with():
  def rule(text, _):
    return 'fine' if text == 'a' else BROKEN

  with loopback.serving(rule) as server, client(server.url) as asked:
    assert asked.complete(['a']) == ['fine']
    with pytest.raises(errors.Stopped, match='status 500'):
      asked.complete(['b'])


@pytest.fixture
def quick(monkeypatch):
  """Waits of the client are short."""
  monkeypatch.setattr(servers, '_WAIT_S', 0.01)


@pytest.mark.parametrize(
  ('answer', 'got'),
  [
    (loopback.Answer(200, b'{nonsense'), 'no JSON: "{nonsense"'),
    (loopback.Answer(200, b''), 'an empty body'),
    (loopback.Answer(200, b'[]'), 'no list "choices" of a message'),
    (
      loopback.Answer(200, b'<html>', {'Content-Type': 'text/html'}),
      'no JSON: "<html>"',
    ),
    (
      loopback.Answer(200, b'x' * 2_000_000),
      'a reply of more than 1089536 bytes',
    ),
    (
      dataclasses.replace(loopback.said('x'), cut=9),
      'a reply that broke off: RemoteProtocolError',
    ),
  ],
  ids=['broken', 'empty', 'list', 'html', 'huge', 'cut'],
)
def test_what_is_no_reply_is_asked_for_again(answer, got, quick):
  """As often as configured; then it is an error that names all."""

  def rule(text, before):
    return answer if text == 'a' or before[text] < 2 else 'at last'

  with loopback.serving(rule) as server:
    with client(server.url, max_tokens=500) as asked:
      with pytest.raises(errors.InputError) as caught:
        asked.complete(['a'])
      assert len(server.requests) == 3
      assert str(caught.value).startswith(
        f"server: wanted a chat completion of 'm' from {server.url}; got {got}"
      )
      assert asked.complete(['b']) == ['at last']
      # It has replied before: what goes wrong now may pass.
      with pytest.raises(errors.Stopped, match='wanted a chat completion'):
        asked.complete(['a'])


def test_a_reply_that_drips_has_an_end(monkeypatch, quick):
  """Though the server is never silent for long."""
  monkeypatch.setattr(servers, '_DRIP', 2)
  answer = dataclasses.replace(loopback.said('x'), drip=0.02)
  with loopback.serving(lambda *_: answer) as server:
    with client(server.url, timeout=0.1, retries=1) as asked:
      with pytest.raises(
        errors.InputError, match=r'no end of a reply in 0\.2 s'
      ):
        asked.complete(['a'])


def test_texts_to_complete_with_all_that_may_be_sent():
  with (
    loopback.serving(lambda text, _: f'{text}!') as server,
    client(
      server.url, chat=False, stop=['\nQ:'], extra={'top_k': 3}, max_tokens=9
    ) as asked,
  ):
    requests = [servers.Request('a', seed=5), servers.Request('b')]
    kept = {}
    found = dict(asked.ask(requests, kept.__setitem__))
  assert found == kept
  assert [found[i].text for i in (0, 1)] == ['a!', 'b!']
  assert found[0].prompt_tokens == 7
  assert set(server.paths) == {'/v1/completions'}
  common = {
    'model': 'm',
    'max_tokens': 9,
    'temperature': 0.0,
    'top_p': 1.0,
    'stop': ['\nQ:'],
    'top_k': 3,
  }
  assert sorted(server.requests, key=lambda r: r['prompt']) == [
    {**common, 'prompt': 'a', 'seed': 5},
    {**common, 'prompt': 'b'},
  ]


def test_a_server_that_refuses_stop_strings_is_not_sent_any():
  refusal = {'message': "Unsupported parameter: 'stop'", 'param': 'stop'}

  def rule(*_):
    if 'stop' in server.requests[-1]:
      return loopback.Answer(400, {'error': refusal})
    return 'x'

  with loopback.serving(rule) as server:
    with client(server.url, concurrency=1, stop=['Q:']) as asked:
      assert asked.complete(['a', 'b']) == ['x', 'x']
  assert ['stop' in r for r in server.requests] == [True, False, False]


def test_what_is_under_way_at_an_error_is_kept():
  def rule(text, _):
    if text == 'refused':
      return loopback.Answer(403, {'error': {'message': 'no'}})
    time.sleep(0.3)
    return text

  kept = {}
  with loopback.serving(rule) as server, client(server.url) as asked:
    texts = ['slow', 'refused', *'abcdefgh']
    came = asked.ask([*map(servers.Request, texts)], kept.__setitem__)
    with pytest.raises(errors.InputError, match='403: no'):
      list(came)
  # All that was begun, and nothing is begun any more.
  assert len(kept) == len(server.requests) - 1 < len(texts) - 1
  assert kept[0].text == 'slow'


def test_what_is_under_way_when_it_is_left_is_kept():
  def rule(text, _):
    time.sleep(0 if text == 'quick' else 0.3)
    return text

  kept = {}
  with loopback.serving(rule) as server, client(server.url) as asked:
    came = asked.ask(
      [*map(servers.Request, ['quick', *'abcdefghijkl'])], kept.__setitem__
    )
    next(came)
    came.close()
  assert 8 <= len(kept) == len(server.requests) <= 9


def test_what_cannot_be_kept_is_an_error():
  def keep(i, reply):
    raise OSError('disk full')

  with loopback.serving(lambda *_: 'x') as server, client(server.url) as asked:
    with pytest.raises(OSError, match='disk full'):
      list(asked.ask([servers.Request('a')], keep))


def test_a_model_that_says_nothing():
  with (
    loopback.serving(lambda *_: loopback.said(None)) as server,
    client(server.url) as asked,
  ):
    assert asked.complete(['a']) == ['']


def test_a_slow_server_is_an_error_in_time():
  def rule(*_):
    time.sleep(1.0)
    return 'late'

  with loopback.serving(rule) as server:
    with client(server.url, timeout=0.1, retries=0) as asked:
      began = time.monotonic()
      with pytest.raises(errors.InputError, match='timed out'):
        asked.complete(['a', 'b'])
      assert time.monotonic() - began < 0.9


@pytest.mark.parametrize(
  'refusal',
  [
    {'message': 'too long', 'code': 'context_length_exceeded'},
    {
      'message': "This model's maximum context length is 8 tokens.",
      'code': 400,
    },
  ],
)
def test_a_text_beyond_the_context_has_no_reply(refusal):
  def rule(text, _):
    if text == 'long':
      return loopback.Answer(400, {'error': refusal})
    return 'x'

  with loopback.serving(rule) as server, client(server.url) as asked:
    assert asked.complete(['a', 'long', 'b']) == ['x', None, 'x']


def test_the_newer_name_of_the_limit():
  refusal = {'message': 'Unsupported parameter', 'param': 'max_tokens'}

  def rule(*_):
    if 'max_tokens' in server.requests[-1]:
      return loopback.Answer(400, {'error': refusal})
    return 'x'

  with loopback.serving(rule) as server:
    with client(server.url, concurrency=1, max_tokens=5) as asked:
      assert asked.complete(['a', 'b']) == ['x', 'x']
  sent = [r.get('max_completion_tokens') for r in server.requests]
  assert sent == [None, 5, 5]


def test_no_such_model_path_or_server():
  def rule(*_):
    return loopback.Answer(404, {'error': {'message': 'no model m'}})

  with loopback.serving(rule) as server, client(server.url) as asked:
    with pytest.raises(errors.InputError, match='404: no model m'):
      asked.complete(['a'])
  with loopback.serving(lambda *_: 'x') as server:
    with client(f'{server.url}/other') as asked:
      with pytest.raises(errors.InputError, match='no such path'):
        asked.complete(['a'])
  # Nobody listens there any more.
  with client(server.url, retries=0) as asked:
    with pytest.raises(errors.InputError, match='Connection error'):
      asked.complete(['a'])
  with client('http://nowhere.invalid/v1', retries=0) as asked:
    with pytest.raises(errors.InputError, match=r'nowhere\.invalid'):
      asked.complete(['a'])


def test_the_key_is_sent_and_seen_nowhere(monkeypatch, capfd, caplog):
  """Also where the server itself gives it back, in an error or a reply."""
  monkeypatch.setenv('OTHER_KEY', KEY)
  caplog.set_level(logging.DEBUG)

  def rule(text, _):
    if text == 'rubbish':
      body = json.dumps({'choices': [], 'x' * 40 + KEY: KEY})
      return loopback.Answer(200, body.encode())
    if text == 'html':
      return loopback.Answer(200, b'x' * 50 + KEY.encode())
    if text == 'refuse':
      message = f'Incorrect API key provided: {KEY}. ' + 'x' * 300
      return loopback.Answer(401, {'error': {'message': message}})
    return f'your key is {KEY}'

  with loopback.serving(rule) as server:
    with client(server.url, key_variable='OTHER_KEY', retries=0) as asked:
      assert asked.complete(['tell']) == ['your key is [key]']
      with pytest.raises(errors.InputError) as caught:
        asked.complete(['refuse'])
      shown = [repr(asked), str(asked), str(caught.value), repr(caught.value)]
      for text in ('rubbish', 'html'):
        with pytest.raises(errors.Stopped) as other:
          asked.complete([text])
        shown += [str(other.value), repr(other.value.__context__)]
  assert server.keys == [f'Bearer {KEY}'] * 4
  shown += [*capfd.readouterr(), caplog.text]
  shown.append(repr(caught.value.__cause__))
  assert '[key]' in shown[2]
  assert not any(KEY in text for text in shown)
  # Nor a part of it.
  assert not any(KEY[3:] in text or KEY[:5] in text for text in shown)


def test_a_key_that_no_header_can_hold(monkeypatch):
  monkeypatch.setenv('OPENAI_API_KEY', f'{KEY}\nX-Other: 1')
  with pytest.raises(errors.InputError, match='printable') as caught:
    client('http://localhost/v1')
  assert KEY not in str(caught.value)


def test_no_key_is_fine():
  with loopback.serving(lambda *_: 'x') as server:
    with client(server.url, key_variable='NOT_SET_ANYWHERE') as asked:
      asked.complete(['a'])
  assert server.keys == ['Bearer none']


@pytest.mark.parametrize(
  ('url', 'hidden'),
  [
    ('', ''),
    ('localhost:8000/v1', ''),
    ('ftp://host/v1', ''),
    ('http://', ''),
    ('http://host:port/v1', ''),
    (f'http://user:{KEY}@host/v1', KEY),
    (f'http://host/v1?key={KEY}', KEY),
  ],
)
def test_urls_that_are_refused(url, hidden):
  with pytest.raises(errors.InputError, match='server: wanted http') as caught:
    client(url)
  assert not hidden or hidden not in str(caught.value)


@pytest.mark.parametrize(
  'arguments',
  [
    {'concurrency': 0},
    {'retries': -1},
    {'timeout': 0},
    {'max_tokens': 0},
    {'key_variable': 'sk-one-of-mine'},
  ],
)
def test_arguments_that_are_refused(arguments):
  with pytest.raises(errors.InputError, match=next(iter(arguments))) as caught:
    client('http://localhost/v1', **arguments)
  assert 'sk-one' not in str(caught.value)
  with pytest.raises(errors.InputError, match='model: wanted'):
    servers.Server('http://localhost/v1', '')


def test_without_the_package():
  code = (
    'import sys; sys.modules["openai"] = None\n'
    'from wcse_jax import errors, server\n'
    'try: server.Server("http://localhost/v1", "m")\n'
    'except errors.InputError as error: print(error)'
  )
  out = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert 'pip install wcse_jax[api]' in out.stdout
