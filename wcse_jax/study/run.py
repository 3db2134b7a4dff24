"""A study from beginning to end, or the report of what there is."""

import concurrent.futures
import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from wcse_jax import arms as arm_data
from wcse_jax import errors, runlog, shardfiles, storage, tasks
from wcse_jax.report import browser, html
from wcse_jax.sft import tracking
from wcse_jax.study import (
  design,
  dry,
  findings,
  graph,
  planning,
  settings,
)
from wcse_jax.study import stages as staging


def run(
  config: settings.StudyConfig, workdir: str, *, only: str = ''
) -> dict[str, Any] | None:
  """Runs a study to its end, or some stages of it.

  Args:
    config: the settings.
    workdir: the run folder.
    only: names of stages, as `graph.matching` reads them; several processes
      may run different ones of one folder at a time.  Empty: all of them, and
      the report.

  Returns:
    What `results.json` holds; None where only some stages ran.

  Raises:
    InputError: if the configuration does not fit, or the folder holds another
      study; nothing is written before that.
  """
  study = design.Study(config, workdir)
  _check(study)
  stages = staging.Stages(study)
  study.check()
  if only:
    chosen = graph.matching(stages.all, only)
    stages.check(chosen)
    if not storage.exists(storage.join(workdir, shardfiles.MANIFEST)):
      shardfiles.claim(workdir, study.fingerprint())
    graph.run(stages.all, chosen, 'study', _holder(study, apart=True))
    return None
  stages.check(stages.all)
  with runlog.writing(workdir, study.described()):
    shardfiles.claim(workdir, study.fingerprint())
    graph.run(stages.all, stages.all, 'study', _holder(study, apart=False))
    return report(stages)


def dry_run(
  config: settings.StudyConfig,
  workdir: str,
  *,
  topologies: Sequence[str] = (),
  replicas: int = 1,
) -> str:
  """Returns what a study would cost and could find, as text.

  Arguments are those of `run` and of `dry.foretell`; nothing is written.
  """
  study = design.Study(config, workdir, dry=True)
  _check(study)
  staging.Stages(study)
  return dry.text(dry.foretell(study, topologies=topologies, replicas=replicas))


def _check(study: design.Study) -> None:
  """Raises InputError for what would fail hours later."""
  planning.check(study)
  setups = study.config.setups.values()
  for sft in (study.config.sft, *(setup.sft for setup in setups)):
    if sft is not None:
      tracking.check(sft.wandb)


def _holder(study: design.Study, *, apart: bool):
  """Returns stage -> a context that holds it for this process."""

  @contextlib.contextmanager
  def hold(key: str) -> Iterator[None]:
    with runlog.part(study.workdir, key, study.described(), alone=not apart):
      yield

  return hold


def report(stages: staging.Stages) -> dict[str, Any]:
  """Writes `results.json` and `report/`; returns the results."""
  study = stages.study
  folder = storage.join(study.workdir, 'report')
  # The pages of samples are written by workers while the samples are measured.
  with concurrent.futures.ThreadPoolExecutor(1) as thread:
    pages = thread.submit(write_samples, stages, folder)
    results = snapshot(stages)
    pages.result()
  runlog.merge_ledger(study.workdir)
  html.write(results, folder)
  storage.publish_json(storage.join(study.workdir, 'results.json'), results)
  return results


def snapshot(stages: staging.Stages) -> dict[str, Any]:
  """Returns the results so far; reads finished stages, and writes nothing."""
  study = stages.study
  graded: dict[str, arm_data.Graded] = {}
  for name in study.sources():
    found = stages.read(name)
    if found is not None:
      graded[name] = found
  done = {stage.key: stage.done() for stage in stages.all}
  results = shardfiles.plain(findings.collect(study, graded, done))
  results['samples_shown'] = sum(
    int(one.table.rows_Q.sum()) for one in graded.values()
  )
  return results


def write_samples(stages: staging.Stages, folder: str) -> None:
  """Writes the pages of the samples of the models that are graded."""
  study = stages.study
  names = {
    name: study.stem(name) for name in study.sources() if stages.is_graded(name)
  }
  if names:
    browser.write(
      study.placed,
      browser.sources(
        study.workdir,
        names,
        {
          name: study.config.models[name].label
          for name in names
          if name not in settings.PAIR
        },
      ),
      storage.join(folder, 'samples'),
      lambda problem, text: study.task.sound(problem, text)[1],
      # A worker makes the same task, where it is one of the project's own.
      task=(study.config.task, study.config.data)
      if tasks.TASKS.get(study.task.name) is type(study.task)
      else None,
    )


def rebuild(config: settings.StudyConfig, workdir: str) -> dict[str, Any]:
  """Rebuilds results and report from the files of a run folder.

  Raises:
    InputError: if the folder holds no study, or another one.
  """
  stages = staging.Stages(design.Study(config, workdir))
  stages.study.check()
  if not storage.exists(storage.join(workdir, shardfiles.MANIFEST)):
    raise errors.InputError(
      f'{workdir}: wanted the run folder of a study; there is none.'
    )
  with runlog.writing(workdir, stages.study.described()):
    return report(stages)
