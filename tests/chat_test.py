import datetime
import subprocess
import sys
import time

import pytest

from wcse_jax import chat, errors


_HI = [{'role': 'user', 'content': 'hi'}]


def _render(template, *conversations, **variables):
  rows = conversations or (_HI,)
  return chat.render(template, rows, variables, label='model')


def _refused(template, *conversations):
  with pytest.raises(errors.InputError) as caught:
    _render(template, *conversations)
  message = str(caught.value)
  assert message.startswith('model: the chat template ')
  assert '\n' not in message
  return message


def test_a_template_sees_what_the_reference_shows_it():
  template = (
    '{{ bos_token }}|{{ eos_token }}|{{ add_generation_prompt }}|{{ tools }}|'
    '{{ documents }}|{{ strftime_now("%Y") }}|'
    '{% for m in messages %}{{ m.role }}: {{ m["content"] | trim }};'
    '{% endfor %}'
  )
  years = {datetime.date.today().year}
  (text,) = _render(template, bos_token='<s>')
  years.add(datetime.date.today().year)
  assert text in {f'<s>||True|None|None|{year}|user: hi;' for year in years}


def test_blocks_leave_no_line_behind():
  template = 'a\n  {% if true %}\nb\n  {% endif %}\n  c\n'
  assert _render(template) == ['a\nb\n  c']


def test_json_is_written_as_it_is():
  template = (
    '{{ messages[0] | tojson }} {{ {"b": 1, "a": 2} | tojson(indent=1) }}'
  )
  messages = [{'role': 'user', 'content': "<é> & 'x'"}]
  assert _render(template, messages) == [
    '{"role": "user", "content": "<é> & \'x\'"} {\n "b": 1,\n "a": 2\n}'
  ]


def test_loop_controls_and_marks_of_generation():
  template = (
    '{% for i in range(9) %}{% if i == 1 %}{% continue %}{% endif %}'
    '{% if i == 4 %}{% break %}{% endif %}{{ i }}{% endfor %}'
    '{% generation %}[{{ messages[0].content }}]{% endgeneration %}'
  )
  assert _render(template) == ['023[hi]']


def test_many_conversations_come_back_in_order():
  rows = [
    [{'role': 'user', 'content': f'{i}\n\u2028\x00\x85é😀'}] for i in range(50)
  ]
  texts = _render('{{ messages[0].content }}', *rows)
  assert texts == [row[0]['content'] for row in rows]
  assert chat.render('x', [], {}, label='') == []


def test_renders_as_transformers_does():
  utils = pytest.importorskip('transformers.utils.chat_template_utils')
  template = (
    '{%- if messages[0].role == "system" -%}\n'
    '  {%- set ns = namespace(first=messages[0].content ~ "\\n") -%}\n'
    '{%- else -%}\n  {%- set ns = namespace(first="") -%}\n{%- endif -%}\n'
    '{% for m in messages %}\n'
    '    {%- if (m.role == "user") != (loop.index0 % 2 == 0) '
    'and not ns.first %}\n{{ raise_exception("roles must alternate") }}\n'
    '    {%- endif %}\n'
    '  {% if loop.first %}{{ ns.first }}{% endif %}<{{ m.role | upper }}>\n'
    '{{ m | tojson }}{{ undefined }}{{ m.content.split("\\n")[-1] | trim }}\n'
    '{% endfor %}\n{{ dict(a=1) }}{{ messages | length }}\n\n'
  )
  rows = [
    _HI,
    [{'role': 'system', 'content': ' s '}, *_HI],
    [*_HI, {'role': 'assistant', 'content': 'a\n b '}, *_HI],
  ]
  want, _ = utils.render_jinja_template(
    rows, chat_template=template, add_generation_prompt=True
  )
  assert _render(template, *rows) == want


@pytest.mark.parametrize(
  ('template', 'named'),
  [
    ('{% for %}', 'TemplateSyntaxError: Expected an expression'),
    ('{{ a.b.c }}', "UndefinedError: 'a' is undefined"),
    ('{{ raise_exception("no\nsystem role") }}', 'no system role.'),
    ('{{ "".__class__.__mro__ }}', 'SecurityError'),
    ('{% set _ = messages.append(1) %}', 'SecurityError'),
    ('{% include "/etc/passwd" %}', 'no loader'),
    # In the compiler, in one operation, by doubling.
    ('{{ "a" * 10 ** 11 }}', 'MemoryError'),
    ('{{ "{:>9999999999}".format(1) }}', 'MemoryError'),
    (
      '{% set ns = namespace(x="a") %}{% for i in range(64) %}'
      '{% set ns.x = ns.x ~ ns.x %}{% endfor %}',
      # Whichever limit it meets first: a slow machine takes 1 s for 1 GiB.
      ('MemoryError', 'took more than 1 s or 1024 MiB'),
    ),
    ('{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}', 'RecursionError'),
    ('{{' + '(' * 50_000 + '1' + ')' * 50_000 + '}}', 'RecursionError'),
    (
      '{% for i in range(99999) %}0123456789{% endfor %}',
      'wrote 999,990 characters, of at most',
    ),
    (
      '{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}'
      '{% endfor %}',
      'took more than 1 s',
    ),
  ],
  ids=lambda value: value[:24],
)
def test_a_template_that_fails_or_does_not_end(template, named):
  start = time.perf_counter()
  refused = _refused(template)
  assert any(
    one in refused for one in ([named] if isinstance(named, str) else named)
  ), refused
  # Far above what it takes, on a busy machine too, and far below for ever.
  assert time.perf_counter() - start < 30


_IGNORING = """
import signal
from wcse_jax import chat, errors

signal.signal(signal.SIGPROF, signal.SIG_IGN)
endless = '{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}'
try:
  hi = [{'role': 'user', 'content': 'Hi'}]
  chat.render(endless + '{% endfor %}', [hi], {}, label='model')
except errors.InputError as error:
  print(error)
"""


def test_a_parent_that_ignores_the_timer_changes_nothing():
  done = subprocess.run(
    [sys.executable, '-c', _IGNORING],
    capture_output=True,
    text=True,
    check=True,
  )
  assert 'took more than 1 s' in done.stdout


def test_one_bad_conversation_is_refused_for_all():
  template = '{{ raise_exception("odd") if messages|length == 2 else "x" }}'
  assert _render(template, _HI, _HI * 3) == ['x', 'x']
  assert 'TemplateError: odd.' in _refused(template, _HI, _HI * 2, _HI)


@pytest.mark.parametrize(
  'messages',
  [
    [],
    'hi',
    {'role': 'user'},
    [{'role': 'user'}],
    [{'role': 'user', 'content': None}],
    [{'role': 'user', 'content': [{'type': 'text', 'text': 'hi'}]}],
    [{'role': 'user', 'content': 'hi', 'name': 'Sam'}],
    ['hi'],
    None,
  ],
  ids=str,
)
def test_messages_that_are_none_are_refused(messages):
  with pytest.raises(errors.InputError, match='messages: wanted'):
    chat.check(messages)


def test_what_spells_a_control_token_is_shielded():
  controls = ['<eot>', '<e', '[x]', 'aba']
  rows, undo = chat.shield(
    [[{'role': 'user', 'content': '1 <eot> [x] <f> ababa [y]'}]], controls, ''
  )
  text = rows[0][0]['content']
  assert not any(control in text for control in controls)
  assert text.translate(str.maketrans(undo)) == '1 <eot> [x] <f> ababa [y]'
  # Lengths stay, and so does what spells nothing.
  assert len(text) == len('1 <eot> [x] <f> ababa [y]')
  assert '<f>' in text
  assert '[y]' in text


def test_stand_ins_are_characters_that_occur_nowhere():
  message = {'role': '<eot>', 'content': '\U000f0000<eot>'}
  rows, undo = chat.shield([[message]], ['<eot>'], '\U000f0001')
  assert undo == {'\U000f0002': '<'}
  assert rows == [
    [{'role': '\U000f0002eot>', 'content': '\U000f0000\U000f0002eot>'}]
  ]


def test_nothing_to_shield():
  rows, undo = chat.shield([_HI], ['<eot>'], '<eot>')
  assert rows == [_HI]
  assert undo == {}
