"""An arm's training set, written for others to load."""

from typing import Any

from wcse_jax import exports, grade, shardfiles, storage
from wcse_jax.exports import facts
from wcse_jax.sft import data


def folder(budget_name: str, arm: str) -> str:
  """Returns the folder of an arm's training set, under the run folder."""
  return storage.join('exports', f'{budget_name}-{arm}')


def done(study, budget_name: str, arm: str) -> bool:
  """Returns whether it is there."""
  path = storage.join(study.workdir, folder(budget_name, arm))
  return storage.exists(storage.join(path, exports.MANIFEST))


def export(stages, budget_name: str, arm: str) -> dict[str, Any]:
  """Writes what an arm of replicate 0 trains on; returns its manifest.

  The prompts are plain ones, whatever a student is asked by.

  Args:
    stages: the `stages.Stages` of the study.
    budget_name: the budget.
    arm: the arm.
  """
  study = stages.study
  rows, counts = stages.rows(budget_name, arm, 0)
  one = study.config.arms[arm]
  where = study.planned(0) if one.plan else study.workdir
  names = list(dict.fromkeys(row.source for row in rows))
  models = [facts.of_model(where, name, study.task) for name in names]
  strong = study.config.budgets[budget_name]
  known = facts.Facts(
    problems=facts.of_problems(
      study.task, 'train', _data_sha256(where, names[0])
    ),
    models=models,
    title=f'{study.config.title} {one.label}',
    rules=one.selection or study.config.selection,
    budget=f'What {strong} samples a problem of '
    f'{study.stem("se")} cost; {one.label}.',
    grader=grade.VERSION,
    judges=_judges(stages, names),
    overlap=study.overlap.summary(),
    decontaminate=study.config.decontaminate,
    decontaminated=len(study.problems) - len(study.trained),
    notes=[
      'One replicate of a study; the others drew samples of their own.',
    ],
  )
  return exports.write(
    storage.join(study.workdir, folder(budget_name, arm)),
    rows=rows,
    examples=(
      data.example(study.task, row.problem, row.sample.text) for row in rows
    ),
    facts=known,
    counts=counts,
    models=[row.source for row in rows],
    chain=study.task.chain,
  )


def listed(study) -> list[dict[str, Any]]:
  """Returns the training sets that are there, for the report."""
  found = []
  for budget_name, arm in study.arm_budgets():
    if done(study, budget_name, arm):
      path = folder(budget_name, arm)
      manifest = storage.read_json(
        storage.join(study.workdir, path, exports.MANIFEST)
      )
      found.append(
        {
          'arm': arm,
          'budget': budget_name,
          'label': study.config.arms[arm].label,
          'rows': manifest['rows'],
          'folder': path,
        }
      )
  return found


def _judges(stages, names) -> dict[str, list[dict[str, Any]]]:
  """Returns what is said of the reasoning of models that are measured."""
  study, found = stages.study, {}
  for name in study.sources():
    if study.stem(name) in names:
      table = stages.graded(name).table
      found[study.stem(name)] = grade.reasoning(
        table, study.workdir, study.stem(name)
      )
  return found


def _data_sha256(where: str, name: str) -> str:
  """Returns the sha256 of the problems of a model's samples."""
  samples = shardfiles.ShardFolder(storage.join(where, 'samples', name))
  return str(samples.fingerprint.get('data_sha256', ''))
