"""Verdicts on programs; the cheats are wrong programs that want to pass."""

import os

import pytest

from wcse_jax import errors
from wcse_jax.grading import program, sandbox, tester


_WHY = sandbox.check()
_needs_sandbox = pytest.mark.skipif(bool(_WHY), reason=f'no sandbox: {_WHY}')
# Two answers, so that no constant is right.
_TESTS = program.Tests(
  tests='assert f(3) == 4\nassert f([1]) == [1, 1]', names=('f',)
)
_RIGHT = 'def f(x):\n  return x + 1 if isinstance(x, int) else x * 2\n'


@pytest.fixture(scope='module')
def pool():
  with program.Pool(
    sandbox.Limits(seconds=20.0, memory=256 << 20), processes=2
  ) as made:
    yield made


@_needs_sandbox
@pytest.mark.parametrize(
  ('source', 'verdict', 'why'),
  [
    (_RIGHT, 'right', ''),
    ('def f(x): return x', 'wrong', 'AssertionError in: assert f(3) == 4'),
    ('def g(x): return x', 'wrong', "NameError: name 'f' is not defined"),
    ('def f(x): return 1 / 0', 'wrong', 'ZeroDivisionError'),
    ('def f(): return 4', 'wrong', 'TypeError'),
    ('import numpy_that_is_not_there', 'wrong', 'ModuleNotFoundError'),
    ('1 / 0', 'wrong', 'ZeroDivisionError'),
    ('raise SystemExit', 'wrong', 'ended itself'),
    ('def f(x): return [0] * 10**10', 'wrong', 'MemoryError'),
    ('def f(x): return "x" * 10**8', 'wrong', 'more than'),
    ('def f(x): return f(x)', 'wrong', 'RecursionError'),
    ('import ctypes\ndef f(x): ctypes.string_at(0)', 'wrong', 'ended before'),
    ('def f(x) return x', 'unparsed', 'SyntaxError'),
    ('x = "\x00"', 'unparsed', 'null bytes'),
    ('x = "\ud800"', 'unparsed', 'surrogates'),
    ('(' * 5000, 'unparsed', 'compile'),
    (' \n', 'unparsed', 'no program'),
    ('#' * 200_000, 'unparsed', 'characters'),
  ],
)
def test_verdicts(pool, source, verdict, why):
  found = pool.judge(source, _TESTS)
  assert found.verdict == verdict, found
  assert why in found.why
  assert len(found.why) < 700


# Every one of them is wrong: f(3) is not 4, or f([1]) is not [1, 1].
_CHEATS = {
  'os._exit': 'import os\nos._exit(0)',
  'os._exit in the call': 'import os\ndef f(x): os._exit(0)',
  'sys.exit': 'import sys\ndef f(x): sys.exit(0)',
  'object with __eq__': """
class A:
  def __eq__(self, other): return True
  def __ne__(self, other): return False
  def __bool__(self): return True
def f(x): return A()
""",
  'subclass of int': """
class A(int):
  def __eq__(self, other): return True
  def __hash__(self): return 0
def f(x): return A(7)
""",
  'subclass of str': """
class A(str):
  __eq__ = lambda self, other: True
def f(x): return A('x')
""",
  'subclass of list': """
class A(list):
  __eq__ = lambda self, other: True
  def __iter__(self): return iter([1, 1])
  __class__ = property(lambda self: list)
def f(x): return A([7])
""",
  'metaclass': """
class M(type):
  def __eq__(self, other): return True
  def __hash__(self): return 0
  def __instancecheck__(self, other): return True
class A(metaclass=M): pass
def f(x): return A
""",
  'mock.ANY': 'from unittest import mock\ndef f(x): return mock.ANY',
  'nested any': """
class A:
  def __eq__(self, other): return True
def f(x): return [A(), A()] if type(x) is list else A()
""",
  'frame walk': """
import sys
def f(x):
  frame = sys._getframe()
  while frame:
    for scope in (frame.f_globals, frame.f_locals):
      for name in ('f', 'candidate', 'check', 'tests'):
        if name in scope:
          scope[name] = lambda *_: True
      for value in list(scope.values()):
        if isinstance(value, str) and 'assert' in value:
          return eval(value.split('==')[1])
    frame = frame.f_back
""",
  'patched builtins': """
import builtins
class A(int):
  def __eq__(self, other): return True
  __hash__ = int.__hash__
for name in ('AssertionError', 'isinstance', 'type', 'int', 'list', 'eval',
             'exec', 'compile', 'len', 'id'):
  try:
    setattr(builtins, name, lambda *a, **k: True)
  except Exception:
    pass
def f(x): return A(7)
""",
  'patched harness': """
import sys
for name, module in list(sys.modules.items()):
  if 'plain' in name or 'candidate' in name:
    for key in list(vars(module)):
      if key in ('dump', '_try', '_act'):
        real = getattr(module, key)
        if key == 'dump':
          module.dump = lambda v, o, k=None: real(('ok', True, '', []), [])
def f(x): return 7
""",
  'printed marker': """
print('right', 'PASSED', 'ok', '[1, "right", ""]', flush=True)
def f(x):
  print('right')
  return 7
""",
  'patched unittest': """
import unittest
unittest.TestCase.run = lambda *a, **k: None
unittest.TestCase.assertEqual = lambda *a: None
def f(x): return 7
""",
  'writes to every descriptor': """
import os
def f(x):
  for fd in range(64):
    for text in (b'[1, "right", ""]', b'\\x01\\x00\\x00\\x00T',
                 b'\\x0f\\x00\\x00\\x00[1, "right", ""]'):
      try:
        os.write(fd, text)
      except OSError:
        pass
  return 7
""",
  'answers before it is asked': """
import os
def frame(data): return len(data).to_bytes(4, 'little') + data
ok = b't\\x04\\0\\0\\0s\\x02\\0\\0\\0okT' + b's\\0\\0\\0\\0' + b'N'
for fd in range(64):
  try:
    os.write(fd, frame(ok) * 9)
  except OSError:
    pass
def f(x): return 7
""",
  'atexit': """
import atexit, os, sys
atexit.register(lambda: os._exit(0))
def f(x): sys.exit(0)
""",
  'threads': """
import os, threading, time
def run():
  time.sleep(0.05)
  os._exit(0)
threading.Thread(target=run, daemon=True).start()
def f(x):
  time.sleep(0.2)
  return 7
""",
  'signal handlers': """
import os, signal
signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
def f(x):
  signal.setitimer(signal.ITIMER_REAL, 0.01)
  while True: pass
""",
  'gc walk': """
import gc
def f(x):
  for one in gc.get_objects():
    values = one.values() if isinstance(one, dict) else one
    if isinstance(one, (dict, list, tuple)):
      for value in list(values):
        if isinstance(value, str) and 'f(3) =' in value:
          return eval(value.split('=')[2].split()[0])
  return 7
""",
  'reads /proc/self': """
import os
def f(x):
  for path in ('/proc/self/fd', '/proc/self/maps', '/dev/fd', '/proc'):
    try:
      os.listdir(path)
      return 4 if x == 3 else [1, 1]
    except OSError:
      pass
  return 7
""",
  'reads what else comes': """
import os, sys
def f(x):
  data = b''
  for fd in range(64):
    try:
      os.set_blocking(fd, False)
      data += os.read(fd, 65536) or b''
    except OSError:
      pass
  if b'==' in data or b'assert' in data:
    return 4 if x == 3 else [1, 1]
  return 7
""",
  'raises AssertionError': 'def f(x): raise AssertionError',
  'raises StopIteration': 'def f(x): raise StopIteration',
  'replaces itself': """
import os
def f(x): os.execv('/usr/bin/true', ['true'])
""",
}


@_needs_sandbox
@pytest.mark.parametrize('name', _CHEATS)
def test_a_cheat_does_not_pass(pool, name):
  found = pool.judge(_CHEATS[name], _TESTS)
  assert found.verdict == 'wrong', found


@_needs_sandbox
def test_tests_that_catch_everything_do_not_hide_an_end(pool):
  tests = program.Tests(
    tests='try:\n  assert f(1) == 2\nexcept BaseException:\n  pass',
    names=('f',),
  )
  for source in (
    'import os\ndef f(x): os._exit(0)',
    'def f(x): exit_()\nexit_ = __import__("sys").exit',
  ):
    assert pool.judge(source, tests).verdict == 'wrong'


@_needs_sandbox
def test_changes_in_place_are_seen(pool):
  tests = program.Tests(
    tests="""
a, b = [3, 1, 2], {'k': [1]}
f(a, b)
assert a == [1, 2, 3] and b == {'k': [1, 9], 'n': 0}, (a, b)
assert g(a) is a and a == [1, 2, 3, 4]
s = {1}
h(s)
assert s == {1, 2}
assert k(a, a)
""",
    names=('f', 'g', 'h', 'k'),
  )
  right = """
def f(a, b):
  a.sort()
  b['k'].append(9)
  b['n'] = 0
def g(a):
  a.append(4)
  return a
def h(s): s.add(2)
def k(a, b): return a is b
"""
  assert pool.judge(right, tests) == program.Verdict('right', '')
  assert pool.judge(right.replace('a.sort()', ''), tests).verdict == 'wrong'


@_needs_sandbox
def test_expected_exceptions_cross(pool):
  tests = program.Tests(
    tests="""
try:
  f(-1)
except ValueError as error:
  assert 'negative' in str(error)
else:
  assert False
""",
    names=('f',),
  )
  own = 'class Mine(ValueError): pass\ndef f(x): raise Mine("negative")'
  assert pool.judge(own, tests).verdict == 'right'
  assert pool.judge('def f(x): pass', tests).verdict == 'wrong'
  assert pool.judge('def f(x): raise KeyError', tests).verdict == 'wrong'
  assert (
    pool.judge('import os\ndef f(x): os._exit(1)', tests).verdict == 'wrong'
  )


@_needs_sandbox
def test_iterators_are_asked_as_they_are_used(pool):
  tests = program.Tests(
    tests="""
import itertools
assert list(itertools.islice(f(), 4)) == [0, 1, 2, 3]
it = f()
assert next(it) == 0 and next(it) == 1
assert sorted(m([1, 2])) == [2, 4]
""",
    names=('f', 'm'),
  )
  right = 'import itertools\ndef f(): return itertools.count()\n'
  right += 'def m(x): return map(lambda v: 2 * v, x)'
  assert pool.judge(right, tests).verdict == 'right'


@_needs_sandbox
def test_endless_answers_end():
  tests = program.Tests(tests='assert list(f()) == [1]', names=('f',))
  with program.Pool(sandbox.Limits(seconds=1.0), processes=1) as pool:
    found = pool.judge(
      'import itertools\ndef f(): return itertools.count()', tests
    )
    assert found.verdict in ('timeout', 'wrong')
    # The pool goes on.
    assert pool.judge('def f(): return [1]', tests).verdict == 'right'


@_needs_sandbox
def test_objects_of_the_program_stay_there(pool):
  tests = program.Tests(
    tests="""
root = Node(1)
root.left = Node(2)
root.left.left = Node(3)
assert depth(root) == 3
assert root.left.value == 2
assert truth(1) and not truth(0)
""",
    names=('Node', 'depth', 'truth'),
  )
  right = """
import re
class Node:
  def __init__(self, value):
    self.value, self.left = value, None
def depth(node): return 1 + depth(node.left) if node else 0
def truth(x): return re.match('1', str(x))
"""
  assert pool.judge(right, tests) == program.Verdict('right', '')
  wrong = right.replace('1 + depth', '2 + depth')
  assert pool.judge(wrong, tests).verdict == 'wrong'


@_needs_sandbox
@pytest.mark.parametrize(
  'tests',
  [
    'assert f(3) == 4',
    'assert f(3) != 5',
    'assert not f(3) == 5',
    'assert 4 in [f(3)]',
    'assert len(f(3)) == 1',
    'assert f(3) < 5',
    'assert {f(3)} == {4}',
    'assert isinstance(f(3), int)',
    'import math\nassert math.isclose(f(3), 4)',
    'assert abs(f(3) - 4) < 1e-6',
    'assert tuple(f(3)) == (4,)',
  ],
)
def test_an_object_has_no_value(pool, tests):
  source = """
class A:
  def any(self, *_): return True
  __eq__ = __ne__ = __lt__ = __gt__ = __contains__ = any
  __class__ = int
  __hash__ = lambda self: 4
  __len__ = lambda self: 1
  __float__ = lambda self: 4.0
  __iter__ = lambda self: iter([4])
  __sub__ = lambda self, other: 0
def f(x): return A()
"""
  found = pool.judge(source, program.Tests(tests=tests, names=('f',)))
  assert found.verdict == 'wrong', found


@_needs_sandbox
def test_the_helpers_of_the_tests_are_their_own(pool):
  tests = program.Tests(
    preamble='def poly(x): return x * x - 4\ndef root():\n  """Doc."""',
    tests='assert abs(poly(root())) < 1e-6',
    names=('root',),
  )
  lie = 'def poly(x): return 0\ndef root(): return 99'
  assert pool.judge(lie, tests).verdict == 'wrong'
  assert pool.judge('def root(): return 2', tests).verdict == 'right'


@_needs_sandbox
@pytest.mark.parametrize(
  ('tests', 'preamble', 'why'),
  [
    ('assert f(', '', 'do not load'),
    ('assert f(1) == 1', '1 / 0', 'do not load'),
    ('assert g(f(1)) == 1', '', 'tests are broken'),
    ('import nothing_there', '', 'tests are broken'),
    ('f(object())', '', 'cannot be sent'),
  ],
)
def test_broken_tests_are_an_error_and_not_wrong(pool, tests, preamble, why):
  found = pool.judge(
    'def f(x): return x',
    program.Tests(tests=tests, names=('f',), preamble=preamble),
  )
  assert found.verdict == 'error'
  assert why in found.why


@_needs_sandbox
def test_verdicts_come_in_order_and_leave_others_alone():
  sources = [
    _RIGHT,
    'def f(x): return x',
    'while True: pass',
    'def f(x',
    _RIGHT,
  ]
  with program.Pool(sandbox.Limits(seconds=1.0), processes=2) as pool:
    found = pool.judge_many((s, _TESTS) for s in sources * 3)
    want = ['right', 'wrong', 'timeout', 'unparsed', 'right'] * 3
    assert [v.verdict for v in found] == want


@_needs_sandbox
def test_a_lost_process_of_the_tests_is_an_error_and_replaced():
  with program.Pool(sandbox.Limits(seconds=20.0), processes=1) as pool:
    assert pool.judge(_RIGHT, _TESTS).verdict == 'right'
    (one,) = pool._testers
    os.kill(one.process.pid, 9)
    one.process.wait()
    assert pool.judge(_RIGHT, _TESTS).verdict == 'error'
    assert pool.judge(_RIGHT, _TESTS).verdict == 'right'


@_needs_sandbox
def test_no_process_is_left():
  import psutil

  with program.Pool(processes=2) as pool:
    list(pool.judge_many([(_RIGHT, _TESTS)] * 4))
    pids = [one.process.pid for one in pool._testers]
    assert pids
  assert not any(map(psutil.pid_exists, pids))


def test_without_a_sandbox_nothing_is_judged(monkeypatch, tmp_path):
  monkeypatch.setenv('PATH', str(tmp_path))
  with pytest.raises(errors.InputError, match='apt-get install bubblewrap'):
    program.Pool()


def test_stand_ins_are_no_values():
  remote = tester.Remote(None, 1)
  for act in (
    lambda: remote == 1,
    lambda: [remote] == [1],
    lambda: 1 in [remote],
    lambda: {remote},
    lambda: list(remote),
    lambda: len(remote),
  ):
    with pytest.raises(TypeError):
      act()
