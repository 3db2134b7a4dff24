"""The tasks by name."""

from wcse_jax import errors
from wcse_jax.tasks import (
  arith,
  base,
  functional_math,
  gsm8k,
  gsm_plus,
  humaneval,
  math,
  mbpp,
  svamp,
)


TASKS = {
  task.name: task
  for task in (
    arith.Arith,
    gsm8k.Gsm8k,
    math.Math,
    math.Math500,
    functional_math.FunctionalMath,
    svamp.Svamp,
    gsm_plus.GsmPlus,
    mbpp.Mbpp,
    humaneval.HumanEval,
  )
}


def load(
  name: str, data: str = '', prompts: str = '', bad_rows: str = 'refuse'
) -> base.Task:
  """Returns a task by its name.

  Args:
    name: a key of `TASKS`.
    data: folder or file that holds the set, or `hub:ORG/NAME@REVISION`; empty
      for the task's own source.
    prompts: JSONL of worked shots; empty for the task's own.
    bad_rows: `refuse` a set with bad rows, or `skip` these: they are left out,
      told and kept in `Task.bad`.

  Raises:
    InputError: if the name or `bad_rows` is unknown.
  """
  if name not in TASKS:
    raise errors.InputError(
      f'task: wanted one of {", ".join(TASKS)}; got {name!r}.'
    )
  if bad_rows not in base.BAD_ROWS:
    raise errors.InputError(
      f'bad_rows: wanted {" or ".join(base.BAD_ROWS)}; got {bad_rows!r}.'
    )
  task = TASKS[name](data=data, prompts=prompts)
  # Not an argument, so that a user's own class need not take it.
  task.bad_rows = bad_rows
  return task
