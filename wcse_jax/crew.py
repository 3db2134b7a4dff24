"""Several threads at one list of work, for what waits on others."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any


def results(
  one: Callable[[int, threading.Event], Any],
  count: int,
  *,
  threads: int,
  after_error: float = 0.0,
  after_stop: float = 0.0,
) -> Iterator[tuple[int, Any]]:
  """Yields (number, `one(number, stop)`) as they get done; begun in order.

  Where it ends early, by an error of `one` or as it is closed, nothing new is
  begun; what is under way goes on without being yielded.

  Args:
    one: does a piece of work, in a thread that no signal interrupts; `stop` is
      set where it need not try again.
    count: of the work.
    threads: at a time.
    after_error: seconds that what is under way is waited for after an error.
    after_stop: the same where it was left for another reason.

  Raises:
    Exception: the first that `one` raised.
  """
  # Not an executor: its threads would be waited for when the run is stopped,
  # for as long as a server that hangs may take.
  waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
  done: queue.SimpleQueue[tuple[int, Any, BaseException | None]] = (
    queue.SimpleQueue()
  )
  stop = threading.Event()
  for i in range(count):
    waiting.put(i)

  def work() -> None:
    while not stop.is_set():
      try:
        i = waiting.get_nowait()
      except queue.Empty:
        return
      try:
        done.put((i, one(i, stop), None))
      except BaseException as error:  # Raised again by who waits.
        stop.set()
        done.put((i, None, error))

  members = [
    threading.Thread(target=work, name='crew', daemon=True)
    for _ in range(min(threads, count))
  ]
  patience = after_stop
  try:
    for member in members:
      member.start()
    for _ in range(count):
      i, result, error = done.get()
      if error is not None:
        patience = after_error
        raise error
      yield i, result
  finally:
    stop.set()
    until = time.monotonic() + patience
    for member in members:
      if member.ident is not None and patience:
        member.join(max(0.0, until - time.monotonic()))
