"""Grades many samples of one task on all cores."""

import collections
import functools
import itertools
import json
from collections.abc import Iterable, Iterator

from wcse_jax import records, tasks
from wcse_jax.grading import workers
from wcse_jax.tasks import base


# Starting workers takes a second; as many samples are graded here meanwhile.
FEW = 2000


def grade_many(
  task: base.Task,
  rows: Iterable[tuple[records.Problem, int, str]],
  *,
  processes: int = 0,
  few: int = FEW,
) -> Iterator[records.Grade]:
  """Yields the grade of each (problem, index, text), in order.

  A task with a pool of its own uses that; others are graded by worker
  processes that make the same task, where it is one of `tasks.TASKS`.  There a
  text that takes 5 s gets the verdict `timeout`, one whose worker dies `error`.

  Args:
    task: what grades.
    rows: what is graded; read a bounded number of rows ahead.
    processes: number of workers; 0 for one a core.
    few: rows up to which no worker is started.
  """
  own = type(task).grade_many is not base.Task.grade_many
  if own or tasks.TASKS.get(task.name) is not type(task):
    yield from task.grade_many(rows)
    return
  rows = iter(rows)
  head = list(itertools.islice(rows, few + 1))
  if len(head) <= few:
    yield from task.grade_many(head)
    return
  asked: collections.deque[tuple[str, int]] = collections.deque()

  def lines() -> Iterator[str]:
    for problem, index, text in itertools.chain(head, rows):
      asked.append((problem.id, index))
      yield json.dumps([task.name, task.data, problem.to_json(), index, text])

  with workers.Pool(f'{__name__}:grade_line', processes=processes) as pool:
    # The numbers of rows that wait are few: the pool reads little ahead.
    for reply in pool.map(lines()):
      problem_id, index = asked.popleft()
      if reply.status == 'done':
        yield records.Grade(**json.loads(reply.text))
        continue
      yield records.Grade(
        problem_id=problem_id,
        index=index,
        answer=None,
        correct=None,
        verdict=reply.status,
        sound=None,
        why=reply.text,
      )


def grade_line(line: str) -> str:
  """Returns the grade of one sample; both are JSON.  Runs in a worker."""
  name, data, problem, index, text = json.loads(line)
  return _task(name, data).grade(_problem(problem), index, text).to_json()


@functools.cache
def _task(name: str, data: str) -> base.Task:
  return tasks.load(name, data)


# The samples of one problem mostly come one after another.
@functools.lru_cache(maxsize=256)
def _problem(line: str) -> records.Problem:
  return records.Problem(**json.loads(line))
