"""Work in threads: order, errors, and what is under way at the end."""

import contextlib
import threading
import time

import pytest

from wcse_jax import crew


def test_all_are_done_once():
  seen = []

  def one(i, _):
    seen.append(i)
    return i * i

  found = dict(crew.results(one, 50, threads=4))
  assert found == {i: i * i for i in range(50)}
  assert sorted(seen) == list(range(50))
  assert list(crew.results(one, 0, threads=4)) == []


def test_no_more_at_once_than_asked():
  lock, now, most = threading.Lock(), 0, 0

  def one(i, _):
    nonlocal now, most
    with lock:
      now += 1
      most = max(most, now)
    time.sleep(0.01)
    with lock:
      now -= 1

  list(crew.results(one, 20, threads=3))
  assert most == 3


@pytest.mark.parametrize('patience', [0.0, 5.0])
def test_an_error_ends_what_has_not_begun(patience):
  done = []
  begun = threading.Barrier(3)

  def one(i, stop):
    begun.wait(5)
    if i == 1:
      raise KeyError(i)
    time.sleep(0.2)
    assert stop.is_set() or i != 0
    done.append(i)

  began = time.monotonic()
  with pytest.raises(KeyError):
    list(crew.results(one, 50, threads=3, after_error=patience))
  assert time.monotonic() - began < 2
  # Waited for, or not.
  assert done in ([0, 2], [2, 0]) if patience else not done


def test_one_that_is_closed_waits_for_what_is_under_way():
  done = []

  def one(i, _):
    time.sleep(0.2 if i else 0)
    done.append(i)

  with contextlib.closing(
    crew.results(one, 50, threads=3, after_stop=5.0)
  ) as came:
    assert next(came) == (0, None)
  assert 3 <= len(done) <= 4


def test_one_that_hangs_is_not_waited_for_beyond_its_time():
  hang = threading.Event()
  with contextlib.closing(
    crew.results(lambda i, _: i and hang.wait(9), 2, threads=2, after_stop=0.2)
  ) as came:
    next(came)
    began = time.monotonic()
  assert 0.1 < time.monotonic() - began < 2
  hang.set()
