"""The right samples of a model, in the order in which they are judged."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from wcse_jax import errors, records, shardfiles, storage
from wcse_jax.metrics import judged


@dataclasses.dataclass(frozen=True)
class Chosen:
  """What is judged of one model.

  Attributes:
    model: its name.
    texts: (problem id, sample index) -> text, in order.
    right: how many right samples there are in all.
    fingerprint: of the samples.
  """

  model: str
  texts: Mapping[tuple[str, int], str]
  right: int
  fingerprint: Mapping[str, Any]


def models(workdir: str) -> list[str]:
  """Returns the models that were sampled and graded in a run folder.

  Raises:
    InputError: if there are none.
  """
  root = storage.join(workdir, 'grades')
  found = [
    name
    for name in storage.names(root)
    if all(
      storage.exists(storage.join(workdir, kind, name, shardfiles.MANIFEST))
      for kind in ('grades', 'samples')
    )
  ]
  if not found:
    raise errors.InputError(
      f'grades: wanted graded samples in {root}; there are none '
      '(launch/grade.py makes them of samples of the run folder).'
    )
  return found


def choose(
  workdir: str,
  model: str,
  task: str,
  problems: Mapping[str, records.Problem],
  *,
  count: int = 0,
  least: int = 0,
  seed: int = 0,
) -> Chosen:
  """Returns the first samples of `metrics.judged.order` with their texts.

  Args:
    workdir: the run folder.
    model: one of `models`.
    task: name of the task that was graded.
    problems: those of the split, by id.
    count: samples that are wanted; 0 for all.
    least: see `metrics.judged.order`.
    seed: see `metrics.judged.order`.

  Raises:
    InputError: if samples, grades and problems do not belong together.
  """
  grades = shardfiles.ShardFolder(storage.join(workdir, 'grades', model))
  samples = shardfiles.ShardFolder(storage.join(workdir, 'samples', model))
  graded = grades.fingerprint.get('task')
  if graded != task:
    raise errors.InputError(
      f'task: wanted {graded!r}, as {grades.path} was graded; got {task!r}.'
    )
  if grades.fingerprint.get('samples') != samples.fingerprint:
    raise errors.InputError(
      f'{grades.path}: wanted the grades of the samples in {samples.path}; '
      'got those of others.'
    )
  right = []
  for row in grades.rows(records.Grade):
    if row.verdict != 'right':
      continue
    if row.problem_id not in problems:
      raise errors.InputError(
        f'{grades.path}: problem {row.problem_id!r} is not in the split of '
        f'task {task}; is --config.split the one that was sampled?'
      )
    key = (row.problem_id, row.index)
    right.append((key, problems[row.problem_id].level))
  order = judged.order(right, least=least, seed=seed)
  order = order[:count] if count else order
  wanted = set(order)
  texts = {
    (row.problem_id, row.index): row.text
    for row in samples.rows(records.Sample)
    if (row.problem_id, row.index) in wanted
  }
  for name, index in order:
    if (name, index) not in texts:
      raise errors.InputError(
        f'{samples.path}: wanted the samples that were graded; sample {index} '
        f'of problem {name!r} is not there.'
      )
  return Chosen(
    model, {key: texts[key] for key in order}, len(right), samples.fingerprint
  )
