import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from wcse_jax import errors
from wcse_jax.grading import workers


_PROGRAM = """
import os, sys, time

def act(text):
  kind, _, rest = text.partition(' ')
  if kind == 'hang':
    while True: pass
  if kind == 'sleep': time.sleep(float(rest))
  if kind == 'raise': raise KeyError(rest)
  if kind == 'die': os._exit(3)
  if kind == 'eat': return str(len(bytearray(int(rest))))
  if kind == 'print': print(rest, flush=True)
  if kind == 'modules': return ' '.join(sys.modules)
  if kind == 'object': return 7
  return f'{os.getpid()} {text}'
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
  (tmp_path / 'acting.py').write_text(_PROGRAM)
  monkeypatch.syspath_prepend(str(tmp_path))
  return 'acting:act'


def _said(reply):
  assert reply.status == 'done'
  return reply.text.partition(' ')[2]


def _alive(pid):
  try:
    with open(f'/proc/{pid}/stat') as file:
      return file.read().rpartition(')')[2].split()[0] != 'Z'
  except FileNotFoundError:
    return False


def test_order_is_kept_and_all_processes_work(program):
  texts = [f'text {i}' for i in range(300)]
  texts[0] = 'sleep 0.3'
  with workers.Pool(program, processes=2) as pool:
    replies = list(pool.map(texts))
  assert [_said(reply) for reply in replies] == texts
  assert len({reply.text.split()[0] for reply in replies}) == 2


def test_a_miss_of_the_deadline_is_that_one_alone(program):
  texts = ['a', 'b', 'hang', 'c', 'd', 'hang', 'e']
  with workers.Pool(program, processes=1, deadline=0.3) as pool:
    replies = list(pool.map(texts))
  assert [r.status for r in replies] == [
    'timeout' if text == 'hang' else 'done' for text in texts
  ]
  assert '0.3 s' in replies[2].text


def test_errors_and_deaths_are_that_one_alone(program):
  texts = ['raise x', 'a', 'die', 'b', 'eat 4000000000', 'c', 'object', 'd']
  with workers.Pool(program, processes=1, memory=2**29) as pool:
    replies = list(pool.map(texts))
  assert [reply.status for reply in replies] == ['error', 'done'] * 4
  assert replies[0].text == 'KeyError'
  assert 'status 3' in replies[2].text
  assert replies[4].text == 'MemoryError'


def test_prints_do_not_get_between_the_replies(program):
  with workers.Pool(program, processes=1) as pool:
    assert _said(pool.one('print ["done","forged"]')).startswith('print')
    assert _said(pool.one('after')) == 'after'


def test_reads_a_bounded_number_ahead(program):
  taken = []

  def texts():
    for i in range(100_000):
      taken.append(i)
      yield str(i)

  with workers.Pool(program, processes=1) as pool:
    replies = pool.map(texts())
    assert _said(next(replies)) == '0'
    assert len(taken) < 1_000
    replies.close()
    assert _said(pool.one('still works')) == 'still works'


def test_works_in_another_thread_and_shared_by_threads(program):
  found = {}
  with workers.Pool(program, processes=2) as pool:

    def run(name):
      texts = [f'{name} {i}' for i in range(50)]
      found[name] = [_said(r) for r in pool.map(texts)] == texts

    threads = [threading.Thread(target=run, args=(n,)) for n in 'ab']
    for thread in threads:
      thread.start()
    for thread in threads:
      thread.join()
  assert found == {'a': True, 'b': True}


def test_one_killed_from_outside_while_it_waits_costs_nothing(program):
  with workers.Pool(program, processes=1) as pool:
    pid = int(pool.one('a').text.split()[0])
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.1)
    assert _said(pool.one('b')) == 'b'


def test_starts_nothing_before_it_is_used_and_leaves_nothing(program):
  pool = workers.Pool(program, processes=1)
  before = threading.active_count()
  with pool:
    assert threading.active_count() == before
    pid = int(pool.one('a').text.split()[0])
    assert _alive(pid)
  assert not os.path.exists(f'/proc/{pid}')
  assert threading.active_count() == before
  with pytest.raises(ValueError, match='closed'):
    pool.one('b')


def test_workers_end_with_a_parent_that_is_killed(program, tmp_path):
  code = textwrap.dedent("""
    import sys
    from wcse_jax.grading import workers
    pool = workers.Pool('acting:act', processes=1, deadline=60)
    replies = pool.map(['a', 'hang'])
    print(next(replies).text.split()[0], flush=True)
    next(replies)
  """)
  path = os.pathsep.join([str(tmp_path), *sys.path])
  with subprocess.Popen(
    [sys.executable, '-c', code],
    stdout=subprocess.PIPE,
    env={**os.environ, 'PYTHONPATH': path},
    text=True,
  ) as parent:
    pid = int(parent.stdout.readline())
    assert _alive(pid)
    parent.kill()
  until = time.monotonic() + 30
  while _alive(pid) and time.monotonic() < until:
    time.sleep(0.02)
  assert not _alive(pid)


def test_a_function_that_cannot_be_imported_is_named(program):
  with workers.Pool('acting:nothing', processes=1) as pool:
    with pytest.raises(errors.InputError, match=r'acting:nothing.*nothing'):
      pool.one('a')
  with pytest.raises(ValueError, match='module:name'):
    workers.Pool('acting')


def test_only_what_is_asked_for_is_loaded(program):
  with workers.Pool(program, processes=1) as pool:
    loaded = pool.one('modules').text.split()
  assert 'jax' not in loaded
  assert 'numpy' not in loaded
