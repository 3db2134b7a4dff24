"""The tasks by name."""

from wcse_jax import errors
from wcse_jax.tasks import (
  arith,
  base,
  code,
  functional_math,
  gsm8k,
  gsm_plus,
  math,
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
    code.Mbpp,
    code.HumanEval,
  )
}


def load(name: str, data: str = '', prompts: str = '') -> base.Task:
  """Returns a task by its name.

  Args:
    name: a key of `TASKS`.
    data: folder or file that holds the set; empty for the task's own source.
    prompts: JSONL of worked shots; empty for the task's own.

  Raises:
    InputError: if the name is unknown.
  """
  if name not in TASKS:
    raise errors.InputError(
      f'task: wanted one of {", ".join(TASKS)}; got {name!r}.'
    )
  return TASKS[name](data=data, prompts=prompts)
