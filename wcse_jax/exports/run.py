"""An export: what a student would train on, of a run folder, as a data set."""

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from wcse_jax import (
  contamination,
  errors,
  exports,
  records,
  runlog,
  shardfiles,
  storage,
  tasks,
)
from wcse_jax import selection as selections
from wcse_jax.exports import facts
from wcse_jax.sft import data
from wcse_jax.tasks import base


# Of the run folder, what is passed on.
FOLDER = 'dataset'
ALL = 'all'
# Raised whenever the same rows give another data set.
VERSION = 1


@dataclasses.dataclass(kw_only=True)
class ExportConfig:
  """An export.

  Attributes:
    train: a run folder with samples and grades.
    model: which of its models; `all` for each of them; empty where there is
      one.
    task: the task that was sampled; empty for what the grades say.
    data: the folder or file of that task's set, or `hub:NAME@REVISION`; empty
      for the task's own source.
    bad_rows: as in `sampler.run.SampleConfig`.
    prompts: JSONL of the worked examples of the sampling prompt, for the card;
      empty for the task's own.
    selection: which samples are taken, as for a student.
    decontaminate: problems that have this share or more of some test problem's
      8-grams are left out; 0: none are.
    chat: whether a prompt is what a user says to a chat model.
    title: of the card; empty for one made of task and models.
  """

  train: str = ''
  model: str = ''
  task: str = ''
  data: str = ''
  bad_rows: str = 'refuse'
  prompts: str = ''
  selection: selections.Selection = dataclasses.field(
    default_factory=selections.Selection
  )
  decontaminate: float = 0.0
  chat: bool = False
  title: str = ''

  def validate(self) -> None:
    """Raises InputError for the first field that is out of range."""
    if not self.train:
      raise errors.InputError('train: wanted a run folder; got nothing.')
    if not 0 <= self.decontaminate <= 1:
      raise errors.InputError(
        'decontaminate: wanted a share from 0 to 1, 0 for none; got '
        f'{self.decontaminate}.'
      )
    self.selection.validate()


@dataclasses.dataclass(frozen=True)
class _Source:
  """The folders of one model."""

  name: str
  samples: shardfiles.ShardFolder
  grades: shardfiles.ShardFolder


def export(config: ExportConfig, workdir: str) -> dict[str, Any]:
  """Writes `workdir/dataset/`; returns its manifest.

  A finished export returns at once; a killed one is written anew.

  Raises:
    InputError: if the configuration does not fit the run folder, nothing is
      chosen, or `workdir` holds something else; nothing is written before that.
  """
  config.validate()
  found = _sources(config)
  graded = _common(found, 'task', of=lambda s: s.grades)
  name = config.task or graded
  if graded not in ('', name):
    raise errors.InputError(
      f'task: wanted {graded!r}, as {config.train} was graded; got {name!r}.'
    )
  if not name:
    raise errors.InputError(
      f'task: wanted the task that was sampled, of which {config.train} says '
      'nothing; got nothing.'
    )
  task = tasks.load(name, config.data, config.prompts, bad_rows=config.bad_rows)
  folder = storage.join(workdir, FOLDER)
  with contextlib.closing(task):
    identity = _identity(config, found, task)
    shardfiles.check_owner(workdir, identity, 'export')
    ours = storage.exists(storage.join(workdir, shardfiles.MANIFEST))
    held = storage.names(folder)
    if held and not ours:
      raise errors.InputError(
        f'{folder}: wanted an empty folder; it holds {held[0]}, which is of no '
        'export.'
      )
    if ours and exports.whole(folder):
      return storage.read_json(storage.join(folder, exports.MANIFEST))
    return _write(config, found, task, identity, workdir)


def _write(
  config: ExportConfig,
  found: Sequence[_Source],
  task: base.Task,
  identity: Mapping[str, Any],
  workdir: str,
) -> dict[str, Any]:
  split = _common(found, 'split')
  problems = _problems(task, split)
  _check_set(found, task, split)
  test = _test_problems(task, split, problems)
  without: set[str] = set()
  if config.decontaminate:
    if not test:
      raise errors.InputError(
        f'decontaminate: wanted 0, as task {task.name} has no other problems '
        f'to keep apart from; got {config.decontaminate}.'
      )
    every = list(problems.values())
    overlap = contamination.overlap(every, test)
    _, gone = contamination.clean(every, overlap, config.decontaminate)
    without = {problem.id for problem in gone}
  rows: list[selections.Row] = []
  names: list[str] = []
  models = []
  counts: Counter[str] = Counter()
  for source in found:
    model = facts.of_model(config.train, source.name, task)
    if config.prompts and not model.prompt.plain:
      raise errors.InputError(
        f'prompts: wanted the worked examples of {source.samples.path}; '
        f'{config.prompts!r} holds others.'
      )
    chosen, dropped = data.chosen(
      config.train,
      source.name,
      task,
      problems,
      config.selection,
      without=without,
    )
    counts.update(dropped)
    rows += chosen
    names += [source.name] * len(chosen)
    models.append(
      dataclasses.replace(model, problems=_asked(source, model.samples))
    )
  if not rows:
    dropped_by = ', '.join(f'{r} {counts[r]}' for r in selections.RULES)
    raise errors.InputError(
      f'train: {config.train} holds no sample that fits the selection. Dropped '
      f'by rule: {dropped_by} of {counts["rows"]} rows.'
    )
  used = {row.problem.id: row.problem for row in rows}
  known = facts.Facts(
    problems=facts.of_problems(task, split, _common(found, 'data_sha256')),
    models=models,
    title=config.title,
    rules=config.selection,
    chat=config.chat,
    grader=_common(found, 'grader', 0, of=lambda s: s.grades),
    judges=_judges(config.train, found),
    overlap=contamination.overlap(used.values(), test).summary()
    if test
    else None,
    decontaminate=config.decontaminate,
    decontaminated=len(without),
    notes=_notes(task, split, test),
  )
  with runlog.writing(workdir, dataclasses.asdict(config)):
    shardfiles.claim(workdir, identity)
    return exports.write(
      storage.join(workdir, FOLDER),
      rows=rows,
      examples=(
        data.example(task, row.problem, row.sample.text, chat=config.chat)
        for row in rows
      ),
      facts=known,
      counts=counts,
      models=names,
      chain=task.chain,
    )


def _sources(config: ExportConfig) -> list[_Source]:
  """Returns the folders of the models that were asked for.

  Raises:
    InputError: if there are none, or it is not said which of several.
  """
  root = storage.join(config.train, 'samples')
  names = [
    name
    for name in storage.names(root)
    if storage.exists(storage.join(root, name, shardfiles.MANIFEST))
  ]
  if not names:
    raise errors.InputError(
      f'train: wanted a run folder with samples and grades; {config.train!r} '
      'has no samples.'
    )
  known = ', '.join(names)
  if len(names) > 1 and not config.model:
    raise errors.InputError(
      f'model: wanted one of {known}, or {ALL}, as {config.train} has several '
      'models; got nothing.'
    )
  if config.model and config.model not in (*names, ALL):
    raise errors.InputError(
      f'model: wanted one of {known}, or {ALL}; got {config.model!r}.'
    )
  chosen = [config.model] if config.model in names else names
  found = []
  for name in chosen:
    path = storage.join(config.train, 'grades', name)
    if not storage.exists(storage.join(path, shardfiles.MANIFEST)):
      raise errors.InputError(
        f'train: wanted grades in {path}; there are none (launch/grade.py '
        'makes them).'
      )
    samples = shardfiles.ShardFolder(storage.join(root, name))
    found.append(_Source(name, samples, shardfiles.ShardFolder(path)))
  return found


def _common(
  found: Sequence[_Source],
  key: str,
  default: Any = '',
  *,
  of=lambda source: source.samples,
) -> Any:
  """Returns a value of all fingerprints; the default where they have none.

  Raises:
    InputError: if they differ.
  """
  values = {source.name: of(source).fingerprint.get(key) for source in found}
  first = next(iter(values.values()))
  for name, value in values.items():
    if value != first:
      raise errors.InputError(
        f'model: wanted models of one {key}; {found[0].name} has '
        f'{records.shorten(first)}, {name} has {records.shorten(value)}.'
      )
  return first if type(first) is type(default) else default


def _identity(
  config: ExportConfig, found: Sequence[_Source], task: base.Task
) -> dict[str, Any]:
  """Returns all that the data set follows from."""
  return {
    'export': VERSION,
    'task': task.name,
    'models': {
      source.name: {
        'samples': source.samples.digest(),
        'grades': source.grades.digest(),
      }
      for source in found
    },
    'judges': _judges(config.train, found),
    'selection': dataclasses.asdict(config.selection),
    'decontaminate': config.decontaminate,
    'chat': config.chat,
    'title': config.title,
  }


def _problems(task: base.Task, split: str) -> dict[str, records.Problem]:
  """Returns the problems that may have been sampled, by id."""
  splits = task.splits
  if split in splits:
    splits = (split,)
  elif split == 'validation':
    splits = ('train',)
  return {p.id: p for name in splits for p in task.problems(name)}


def _check_set(found: Sequence[_Source], task: base.Task, split: str) -> None:
  """Raises InputError if other problems were sampled than are at hand."""
  size = _common(found, 'validation_size', 0)
  wanted = _common(found, 'data_sha256')
  if not wanted or not split:
    return
  whole = base.select(task, split, validation_size=size)
  if base.data_sha256(problem for _, problem in whole) != wanted:
    raise errors.InputError(
      f'data: wanted the set that was sampled, whose split {split} has sha256 '
      f'{wanted[:16]}; got another.'
    )


def _test_problems(
  task: base.Task, split: str, problems: Mapping[str, records.Problem]
) -> list[records.Problem]:
  """Returns what is kept for tests; nothing where that is not other problems.

  A file of problems serves every split that it is asked for.
  """
  if not split or split == 'test' or 'test' not in task.splits:
    return []
  try:
    test = task.problems('test')
  except errors.InputError:
    return []
  asked = [problem.question for problem in problems.values()]
  return [] if [problem.question for problem in test] == asked else test


def _notes(
  task: base.Task, split: str, test: Sequence[records.Problem]
) -> list[str]:
  if split == 'test' or (split and split in task.splits and not test):
    return [
      f'The problems are those of the split {split}. Who trains on these rows '
      'cannot measure a student on them.'
    ]
  return []


def _asked(source: _Source, samples: int) -> int:
  """Returns how many problems were asked, as far as shards tell: 0 is unknown.

  A shard has as many rows as problems times sample indices.
  """
  at_first = [s for s in source.samples.shards if s.first_index == 0]
  count = sum(
    source.samples.size(s) // (s.last_index - s.first_index + 1)
    for s in at_first
  )
  return count if samples else 0


def _judges(
  train: str, found: Sequence[_Source]
) -> dict[str, list[dict[str, Any]]]:
  """Returns the rates of false positives, if they are of these samples."""
  path = storage.join(train, 'measures.json')
  measures = storage.read_json(path) if storage.exists(path) else {}
  rates = {}
  for source in found:
    one = measures.get(source.name) if isinstance(measures, dict) else None
    samples = sum(map(source.grades.size, source.grades.shards))
    if not isinstance(one, dict) or one.get('samples') != samples:
      continue
    rows = one.get('judges')
    if isinstance(rows, list):
      rates[source.name] = [row for row in rows if isinstance(row, dict)]
  return rates
