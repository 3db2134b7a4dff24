"""Replies of servers: what counts as one, and what never does."""

import json

import hostile
import loopback
import pytest

from wcse_jax import records, replies


def body(*said, **named):
  return json.dumps(loopback.said(*said, **named).body).encode()


@pytest.mark.parametrize('chat', [True, False])
def test_what_a_reply_says(chat):
  found = replies.read(body('x y', 11, 4, 'length', chat), chat=chat)
  assert found == replies.Reply('x y', 'length', 11, 4)
  # What was not asked for is none.
  with pytest.raises(replies.NoReply, match='no list "choices" of a'):
    replies.read(body('x', chat=chat), chat=not chat)


@pytest.mark.parametrize(
  ('finish', 'reason'),
  [
    ('stop', 'stop'),
    ('length', 'length'),
    ('content_filter', 'length'),
    ('tool_calls', 'stop'),
    ('function_call', 'stop'),
  ],
)
def test_why_a_text_ended(finish, reason):
  found = replies.read(body('x', finish=finish))
  assert found.finish_reason == reason
  assert reason in records.FINISH_REASONS
  assert found.filtered == (finish == 'content_filter')


def test_a_text_of_hidden_tokens_alone_is_empty():
  assert replies.read(body(None, completion=5)).text == ''
  assert replies.read(body('', completion=0)).text == ''
  with pytest.raises(replies.NoReply, match='whose text is null'):
    replies.read(body(None, completion=0))


@pytest.mark.parametrize('text', hostile.TEXTS)
def test_texts_are_data(text):
  assert replies.read(body(text)).text == text


def test_half_a_character_can_be_written():
  text = replies.read(body('a\ud83d b \U0001f600')).text
  assert text == 'a\ufffd b \U0001f600'
  text.encode()


def usage(**counts):
  found = loopback.said('x').body
  found['usage'] = {**found['usage'], **counts}
  return json.dumps(found).encode()


def without(*path):
  found = loopback.said('x').body
  part = found
  for key in path[:-1]:
    part = part[key]
  del part[path[-1]]
  return json.dumps(found).encode()


DEEP = b'[' * 100_000 + b']' * 100_000


@pytest.mark.parametrize(
  ('data', 'said'),
  [
    (b'', 'an empty body'),
    (b' \n', 'an empty body'),
    (b'<html>502</html>', 'no JSON: "<html>502</html>"'),
    (b'{"choices": [', 'no JSON'),
    (b'\xff\xfe', 'no JSON'),
    (DEEP, 'no JSON'),
    (b'1' * 5000, 'no JSON'),
    (b'null', 'no list "choices" of a message: null'),
    (b'"text"', 'no list "choices"'),
    (b'7', 'no list "choices"'),
    (b'[]', 'no list "choices"'),
    (b'{}', 'no list "choices"'),
    (b'{"error": {"message": "busy"}}', 'busy'),
    (b'{"choices": {}}', 'no list "choices"'),
    (b'{"choices": []}', 'no list "choices"'),
    (b'{"choices": [null]}', 'no list "choices"'),
    (b'{"choices": [{}, {}]}', 'no list "choices"'),
    (b'{"choices": [' + DEEP + b']}', 'no JSON'),
    (without('choices'), 'no list "choices"'),
    (without('usage'), '"usage.prompt_tokens" is null'),
    (without('usage', 'completion_tokens'), 'completion_tokens" is null'),
    (without('choices', 0, 'message'), 'no list "choices" of a message'),
    (without('choices', 0, 'finish_reason'), '"finish_reason" is null'),
    (body('x', finish=None), '"finish_reason" is null'),
    (body('x', finish='error'), '"finish_reason" is "error"'),
    (body('x', finish=['stop']), '"finish_reason" is ["stop"]'),
    (body(['x']), 'whose text is ["x"]'),
    (body(7), 'whose text is 7'),
    (body({'text': 'x'}), 'whose text is {"text": "x"}'),
    (usage(completion_tokens=-1), 'completion_tokens" is -1'),
    (usage(prompt_tokens=-7), 'prompt_tokens" is -7'),
    (usage(completion_tokens=3.0), 'is 3.0'),
    (usage(completion_tokens='3'), 'is "3"'),
    (usage(completion_tokens=True), 'is true'),
    (usage(completion_tokens=10**12), 'is 1000000000000'),
    (usage(prompt_tokens=1e999), 'is Infinity'),
    (usage(completion_tokens=0), 'a text of 0'),
  ],
)
def test_what_is_no_reply(data, said):
  with pytest.raises(replies.NoReply) as caught:
    replies.read(data)
  message = str(caught.value)
  assert said in message
  assert len(message) < 150
  assert '\n' not in message


def test_what_nobody_is_to_see_is_in_no_message_and_no_text():
  """Not even its beginning, where a message is cut."""

  def hide(text):
    return text.replace('sk-secret', '[key]')

  found = replies.read(body('a sk-secret b'), hide=hide)
  assert found.text == 'a [key] b'
  escaped = body('a sk-secret b').replace(b'sk-', b'\\u0073k-')
  assert replies.read(escaped, hide=hide).text == 'a [key] b'
  for size in range(40, 60):
    for data in (
      b'x' * size + b'sk-secret',
      json.dumps(['x' * size + 'sk-secret']).encode(),
      json.dumps(['x' * size + 'sk-secret'])
      .encode()
      .replace(b'sk-', b'\\u0073k-'),
    ):
      with pytest.raises(replies.NoReply) as caught:
        replies.read(data, hide=hide)
      assert 'sk' not in str(caught.value)
