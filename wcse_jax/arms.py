"""The arms of a study: which graded samples become training examples."""

import dataclasses
from collections.abc import Mapping, Sequence

from wcse_jax import errors, records
from wcse_jax.metrics import measure
from wcse_jax.sft import data
from wcse_jax.tasks import base


# Name -> what the report calls it.
LABELS = {
  'wc': 'WC data',
  'se': 'SE data',
  'wc_number_matched': 'WC data, as many samples as SE',
  'human': 'human solutions',
}
ARMS = tuple(LABELS)


@dataclasses.dataclass(frozen=True)
class Graded:
  """One model's samples on the training problems, with their grades."""

  samples: Sequence[records.Sample]
  grades: Sequence[records.Grade]
  table: measure.Table


def examples(
  arm: str,
  task: base.Task,
  problems: Sequence[records.Problem],
  graded: Mapping[str, Graded],
  pools: Mapping[str, range],
) -> list[data.Example]:
  """Returns the training examples of an arm: every right sample of its pool.

  Args:
    arm: one of `ARMS`.
    task: lays out prompt and completion.
    problems: the training problems.
    graded: samples and grades of `wc` and `se`.
    pools: the sample indices that `wc` and `se` may use at this budget.

  Raises:
    InputError: if no sample of the pool is right.
  """
  if arm == 'human':
    return [data.example(task, p, p.solution) for p in problems]
  role = 'se' if arm == 'se' else 'wc'
  pool = pools[role]
  if arm == 'wc_number_matched':
    pool = pool[: len(pools['se'])]
  source = graded[role]
  right = {
    (g.problem_id, g.index)
    for g in source.grades
    if g.correct and g.index in pool
  }
  where = {problem.id: problem for problem in problems}
  found = [
    data.example(task, where[s.problem_id], s.text)
    for s in sorted(source.samples, key=lambda s: (s.problem_id, s.index))
    if (s.problem_id, s.index) in right
  ]
  if not found:
    raise errors.InputError(
      f'arm {arm}: none of the {len(pool)} samples per problem is right; '
      'there is nothing to train on.'
    )
  return found
