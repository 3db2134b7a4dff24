"""Grades samples, and measures what was graded."""

import contextlib
import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from wcse_jax import errors, meter, records, runlog, shardfiles, storage, tasks
from wcse_jax.metrics import measure
from wcse_jax.tasks import base


# Raised whenever a grader changes a verdict.
VERSION = 2


@dataclasses.dataclass(kw_only=True)
class GradeConfig:
  """A grading run.

  Attributes:
    task: one of `tasks.TASKS`.
    data: folder or file of the set; empty for the task's own source.
    split: one of the task's splits, or `validation`.
    samples: a JSONL of `{"problem_id", "index", "text"}` from anywhere; empty
      for the samples in the run folder.
  """

  task: str = 'arith'
  data: str = ''
  split: str = 'train'
  samples: str = ''


def grade(config: GradeConfig, workdir: str) -> dict[str, Any]:
  """Grades what is not graded yet; returns what `measures.json` holds.

  Grades go to `workdir/grades/<model>/`, a shard for each shard of samples.

  Raises:
    InputError: if there is nothing to grade, or a sample is of no problem of
      the split.
  """
  task = tasks.load(config.task, config.data)
  problems = {
    p.id: p for _, p in base.select(task, config.split, validation_size=0)
  }
  rows = read_samples(config.samples) if config.samples else []
  root = storage.join(workdir, 'samples')
  names = [
    name
    for name in storage.names(root)
    if storage.is_folder(storage.join(root, name))
  ]
  if not names and not rows:
    raise errors.InputError(
      f'samples: wanted samples in {root}; there are none.'
    )
  with (
    contextlib.closing(task),
    runlog.writing(workdir, dataclasses.asdict(config)),
  ):
    if rows:
      measures = _grade_rows(task, problems, config.samples, rows, workdir)
    else:
      measures = {}
      for name in names:
        samples, graded = grade_model(task, problems, workdir, name)
        measures[name] = _measure(task, problems, samples, graded)
    storage.publish_json(storage.join(workdir, 'measures.json'), measures)
    runlog.merge_ledger(workdir)
  return measures


def _grade_rows(task, problems, path, rows, workdir) -> dict[str, Any]:
  """Grades samples that came from elsewhere; returns their measures."""
  name = path.rpartition('/')[2].rpartition('.')[0]
  graded = _grade(task, problems, path, rows)
  storage.publish(
    storage.join(workdir, 'grades', name, 'grades.jsonl'),
    ''.join(one.to_json() + '\n' for one in graded),
  )
  return {name: _measure(task, problems, None, graded)}


def grade_model(
  task: base.Task,
  problems: Mapping[str, records.Problem],
  workdir: str,
  name: str,
) -> tuple[list[records.Sample], list[records.Grade]]:
  """Returns one model's samples and their grades, grading what is missing."""
  samples = shardfiles.ShardFolder(storage.join(workdir, 'samples', name))
  samples.check()
  grades = shardfiles.ShardFolder(
    storage.join(workdir, 'grades', name),
    {
      'samples': samples.fingerprint,
      'task': task.name,
      'grader': VERSION,
    },
  )
  grades.check()
  shards = samples.shards
  have = set(grades.shards)
  drawn: list[records.Sample] = []
  graded: list[records.Grade] = []
  with meter.Progress(f'grade {name}', len(shards), 'shards') as progress:
    for done, shard in enumerate(shards, 1):
      rows = samples.read(shard, records.Sample)
      if shard in have:
        found = grades.read(shard, records.Grade)
      else:
        began = time.perf_counter()
        found = _grade(
          task, problems, name, [(r.problem_id, r.index, r.text) for r in rows]
        )
        seconds = time.perf_counter() - began
        grades.write(shard, found, {'chip_seconds': seconds})
      drawn += rows
      graded += found
      progress.update(done)
  runlog.book(
    workdir,
    f'grade-{name}',
    {
      'stage': 'grade',
      'model': name,
      'chips': 1,
      'chip_seconds': float(grades.cost().get('chip_seconds', 0.0)),
      'prefill_tokens': 0,
      'decode_tokens': 0,
      'flops': 0,
      'usd': None,
    },
  )
  return drawn, graded


def read_samples(path: str) -> list[tuple[str, int, str]]:
  """Returns (problem_id, index, text) of a JSONL; other fields are ignored."""
  found = []
  for number, line in enumerate(storage.read_text(path).split('\n'), 1):
    if not line.strip():
      continue
    try:
      row = json.loads(line)
      key = (row['problem_id'], row['index'], row['text'])
    except (ValueError, KeyError, TypeError, RecursionError):
      raise errors.InputError(
        f'{path}: row {number}: wanted an object with "problem_id", "index" '
        f'and "text"; got {line[:60]!r}.'
      ) from None
    kinds = [type(value) for value in key]
    if kinds != [str, int, str]:
      raise errors.InputError(
        f'{path}: row {number}: wanted a text, an integer and a text; got '
        f'{", ".join(kind.__name__ for kind in kinds)}.'
      )
    found.append(key)
  if not found:
    raise errors.InputError(f'{path}: wanted rows of samples; it is empty.')
  return found


def table(measures: Mapping[str, Any]) -> str:
  """Returns the measures as a table for the terminal."""
  lines = [f'{"model":<24}{"k":>5}{"coverage@k":>28}{"diversity@k":>14}']
  for name, m in measures.items():
    diversity = {row['k']: row['value'] for row in m['diversity']}
    for row in m['coverage']:
      value = diversity.get(row['k'])
      lines.append(
        f'{name:<24}{row["k"]:>5}{shown(row):>28}'
        + (f'{value:>14.2f}' if value is not None else f'{"-":>14}')
      )
    if m['majority']:
      last = m['majority'][-1]
      lines.append(
        f'{name:<24}pass@1 {shown(m["pass@1"])}; maj@{last["k"]} {shown(last)}'
      )
    lines.append(
      f'{name:<24}false positives {shown(m["false_positive_rate"])} of '
      f'{m["false_positive_rate"]["samples"]} judged; verdicts '
      + ', '.join(f'{k} {v}' for k, v in m['verdicts'].items() if v)
    )
  return '\n'.join(lines)


def shown(row: Mapping[str, Any]) -> str:
  """Returns an estimate with its interval and n, for the terminal."""
  if row['value'] is None:
    return 'unknown'
  if row['low'] is None:
    return f'{row["value"]:.3f} n={row["n"]}'
  return (
    f'{row["value"]:.3f} [{row["low"]:.3f}, {row["high"]:.3f}] n={row["n"]}'
  )


def _grade(task, problems, where, rows) -> list[records.Grade]:
  """Returns the grades of (problem_id, index, text) rows, in order."""
  for problem_id, _, _ in rows:
    if problem_id not in problems:
      raise errors.InputError(
        f'{where}: problem {problem_id!r} is not in the split of task '
        f'{task.name}; is --config.split the one that was sampled?'
      )
  return list(
    task.grade_many((problems[name], index, text) for name, index, text in rows)
  )


def _measure(task, problems, samples, graded) -> dict[str, Any]:
  seen = {g.problem_id for g in graded}
  whole = measure.Table.from_rows(
    [p for p in problems.values() if p.id in seen], samples, graded, task.chain
  )
  return measure.measure(whole, doubling(int(whole.n_Q.max())))


def doubling(most: int) -> Sequence[int]:
  """Returns 1, 2, 4, ... up to `most`, which is the last."""
  ks = [2**i for i in range(most.bit_length()) if 2**i < most]
  return [*ks, most] if most else [1]
