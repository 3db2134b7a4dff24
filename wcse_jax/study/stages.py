"""The stages of a study: what each makes, and when it is done."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

from wcse_jax import arms as arm_data
from wcse_jax import (
  budget,
  checkpoints,
  errors,
  evaluate,
  grade,
  runlog,
  selection,
  shardfiles,
  sharding,
  storage,
)
from wcse_jax.sampler import inputs
from wcse_jax.sampler import run as sampling
from wcse_jax.sft import data, grid, train
from wcse_jax.study import (
  design,
  exporting,
  graph,
  outcome,
  planning,
  settings,
)


# FLOPs a second of training over those of decoding, of tiny models on CPU.
_TRAINING_SPEED = 6.0


class Stages:
  """The stages of one study.

  Attributes:
    study: the study.
    all: every stage, each behind those that it needs.
  """

  def __init__(self, study: design.Study):
    self.study = study
    self._graded: dict[str, arm_data.Graded] = {}
    self._evaluators: dict[Any, evaluate.Evaluator] = {}
    self.all = graph.ordered(self._listed())

  def graded(self, name: str) -> arm_data.Graded:
    """Returns a model's graded samples, grading those that are not.

    Raises:
      InputError: if it has none.
    """
    if name not in self._graded:
      study = self.study
      problems = {problem.id: problem for problem in study.problems}
      self._graded[name] = arm_data.Graded.read(
        study.stem(name),
        study.task,
        study.problems,
        *grade.grade_missing(
          study.task, problems, study.workdir, study.stem(name)
        ),
      )
    return self._graded[name]

  def read(self, name: str) -> arm_data.Graded | None:
    """Returns a model's graded samples; None where some are missing.

    Nothing is written.
    """
    if name not in self._graded and self.is_graded(name):
      study = self.study
      self._graded[name] = arm_data.Graded.read(
        study.stem(name),
        study.task,
        study.problems,
        *(
          shardfiles.ShardFolder(
            storage.join(study.workdir, kind, study.stem(name))
          )
          for kind in ('samples', 'grades')
        ),
      )
    return self._graded.get(name)

  def _listed(self) -> list[graph.Stage]:
    study, found = self.study, []

    def add(key: str, needs, done, work, size: float = 0.0) -> str:
      found.append(
        graph.Stage(key, tuple(dict.fromkeys(needs)), done, work, size)
      )
      return key

    def there(*path: str) -> Callable[[], bool]:
      return lambda: storage.exists(storage.join(study.workdir, *path))

    for name in study.sources():
      before = []
      if study.config.models[name].student is not None:
        before = [f'train-{study.student_run(name).key}']
      add(
        f'sample-{name}',
        before,
        functools.partial(self.sampled, name),
        functools.partial(self.sample, name),
        self._decoding(name, len(study.problems) * study.drawn(name)),
      )
      add(
        f'grade-{name}',
        [f'sample-{name}'],
        functools.partial(self.is_graded, name),
        functools.partial(self.graded, name),
      )
    pair = [f'grade-{name}' for name in settings.PAIR]
    if study.config.pilot_problems:
      add('plan', pair, there('plan', 'plan.json'), self.plan)
      for replicate in self._followed():
        add(
          f'follow-r{replicate}',
          ['plan'],
          there('plan', f'followed-r{replicate}.json'),
          functools.partial(planning.follow_it, study, replicate),
          self._decoding('se', len(study.problems) * self._most()),
        )
    for budget_name, arm in study.arm_budgets():
      add(
        f'data-{budget_name}-{arm}',
        self._data_needs(arm),
        there('data', budget_name, f'{arm}.json'),
        functools.partial(self.data, budget_name, arm),
      )
      if study.config.export:
        add(
          f'export-{budget_name}-{arm}',
          [f'data-{budget_name}-{arm}'],
          functools.partial(exporting.done, study, budget_name, arm),
          functools.partial(exporting.export, self, budget_name, arm),
        )
    for setup in study.setups().values():
      name = setup.model
      needs = []
      if study.config.models[name].student is not None:
        needs = [f'train-{study.student_run(name).key}']
      if f'untuned-{name}' not in {stage.key for stage in found}:
        add(
          f'untuned-{name}',
          needs,
          functools.partial(self._evaluated, self._untuned(name)),
          functools.partial(self.untuned, name),
          self._evaluation(name),
        )
    for run in study.runs():
      self._add_student(run, add, there)
    return found

  def _add_student(self, run: design.Run, add, there) -> None:
    study = self.study
    name = study.config.setups[run.setup].model
    needs = []
    if study.config.models[name].student is not None:
      needs = [f'train-{study.student_run(name).key}']
    if not study.config.arms[run.arm].human:
      needs.append(f'data-{run.budget}-{run.arm}')
    folder = study.folder(run)
    trained = add(
      f'train-{run.key}',
      needs,
      lambda: (
        storage.exists(storage.join(folder, 'training.json'))
        and storage.exists(
          storage.join(study.workdir, 'ledger', f'train-{run.key}.json')
        )
      ),
      functools.partial(self.train, run),
      self._training(run),
    )
    add(
      f'evaluate-{run.key}',
      [trained],
      functools.partial(self._evaluated, folder),
      functools.partial(self.evaluate, run),
      self._evaluation(name),
    )

  # How much work each is, in FLOPs of decoding.

  def _decoding(self, name: str, samples: int) -> float:
    length = self.study.config.sft.max_length // 3
    model = self.study.models[name]
    if model is None:
      return 0.0
    return samples * budget.forward_flops(model, length, length)

  def _evaluation(self, name: str) -> float:
    c = self.study.config
    asked = sum(test.limit or 1000 for test in self.study.tests().values())
    votes = max(c.majority, default=0)
    return self._decoding(name, asked * (max(1, c.pass_samples) + votes))

  def _training(self, run: design.Run) -> float:
    """Training runs whole matrices where decoding runs rows: it is faster."""
    study, sft = self.study, self.sft(run)
    name = study.config.setups[run.setup].model
    step = budget.training_flops(study.models[name], sft.max_length)
    # By epochs, as if two samples of a problem were right.
    rows = sft.steps * sft.batch_size or sft.epochs * 2 * len(study.trained)
    checks = sft.checkpoints * study.config.validation_problems
    return max(1, len(sft.learning_rates)) * (
      rows * step / _TRAINING_SPEED + self._decoding(name, checks)
    )

  def _most(self) -> int:
    return max(self.study.config.budgets.values())

  # Sampling and grading.

  def sampled(self, name: str) -> bool:
    """Returns whether all samples of a model are there, and booked."""
    study = self.study
    path = storage.join(study.workdir, 'samples', study.stem(name))
    if not storage.exists(storage.join(path, shardfiles.MANIFEST)):
      return False
    folder = shardfiles.ShardFolder(path)
    positions = [position for position, _ in study.placed]
    if shardfiles.plan_shards(positions, study.drawn(name), folder.shards):
      return False
    booked = self._booked(f'sample-{study.stem(name)}')
    return booked is not None and booked['decode_tokens'] == int(
      folder.cost().get('decode_tokens', 0)
    )

  def _booked(self, key: str) -> dict[str, Any] | None:
    """Returns a row of the ledger; None where it is not there."""
    path = storage.join(self.study.workdir, 'ledger', f'{key}.json')
    return storage.read_json(path) if storage.exists(path) else None

  def is_graded(self, name: str) -> bool:
    """Returns whether all samples of a model are graded, and it is booked."""
    study = self.study
    stem = study.stem(name)
    path = storage.join(study.workdir, 'grades', stem)
    if not (
      storage.exists(storage.join(path, shardfiles.MANIFEST))
      and self.sampled(name)
    ):
      return False
    samples = storage.join(study.workdir, 'samples', stem)
    graded = shardfiles.ShardFolder(path)
    booked = self._booked(f'grade-{stem}')
    return (
      {*shardfiles.ShardFolder(samples).shards} <= {*graded.shards}
      and booked is not None
      and booked['chip_seconds']
      == float(graded.cost().get('chip_seconds', 0.0))
    )

  def sample(self, name: str) -> None:
    """Draws all samples of a model: brute force and every replicate."""
    sampling.sample(self.study.sampling(name), self.study.workdir)

  def plan(self) -> None:
    """Plans from the pilot."""
    planning.plan(
      self.study, {name: self.graded(name) for name in settings.PAIR}
    )

  def _followed(self) -> range:
    """Returns the replicates whose samples the plan draws."""
    arms = map(self.study.config.arms.get, self.study.used_arms())
    planned = any(arm.plan for arm in arms)
    return range(self.study.config.replicates if planned else 1)

  # Training data.

  def _data_needs(self, arm: str) -> list[str]:
    if self.study.config.arms[arm].plan:
      return [f'follow-r{replicate}' for replicate in self._followed()]
    return [f'grade-{name}' for name, _ in self._part_names(arm)]

  def _part_names(self, arm: str) -> list[tuple[str, float]]:
    return list(self.study.config.arms[arm].samples.items())

  def rows(
    self, budget_name: str, arm: str, replicate: int
  ) -> tuple[list[selection.Row], dict[str, int]]:
    """Returns the samples that an arm trains on, as `arms.choose` does."""
    study = self.study
    one = study.config.arms[arm]
    if one.plan:
      parts = planning.followed(study, replicate)
    else:
      parts = [
        (self.graded(name), pool)
        for name, pool in study.parts(arm, budget_name, replicate)
      ]
    return arm_data.choose(
      parts,
      study.task,
      study.problems_of(arm),
      one.selection or study.config.selection,
    )

  def data(self, budget_name: str, arm: str) -> None:
    """Writes how many samples each replicate of an arm has.

    Raises:
      InputError: if one has none: no student is trained before that is known.
    """
    found = []
    for replicate in range(self.study.config.replicates):
      counts = self.rows(budget_name, arm, replicate)[1]
      arm_data.check(
        f'arms.{arm}: budget {budget_name}, replicate {replicate}', counts
      )
      found.append(counts)
    storage.publish_json(
      storage.join(self.study.workdir, 'data', budget_name, f'{arm}.json'),
      {'arm': arm, 'budget': budget_name, 'counts': found},
    )

  # Students.

  def sft(self, run: design.Run):
    """Returns how a student is trained, but for its files."""
    return self.study.config.setups[run.setup].sft or self.study.config.sft

  def check(self, chosen: Sequence[graph.Stage]) -> None:
    """Raises InputError if some stage could not train on this machine."""
    keys = {stage.key for stage in chosen if not stage.done()}
    asked = {
      run.setup: self.sft(run)
      for run in self.study.runs()
      if f'train-{run.key}' in keys
    }
    for setup, sft in asked.items():
      model = self.study.config.setups[setup].model
      mesh = sharding.make_mesh(self.study.config.mesh)
      try:
        train.check(sft, self.study.models[model], mesh)
      except errors.InputError as error:
        raise errors.InputError(f'setups.{setup}: {error}') from None

  def train(self, run: design.Run) -> None:
    """Trains one student on its arm's data."""
    study, c = self.study, self.study.config
    folder = study.folder(run)
    name = c.setups[run.setup].model
    checkpoint = study.checkpoint(name)
    sft = self.sft(run)
    chat = inputs.by_template(checkpoints.read_tokenizer(checkpoint), sft.chat)
    rows = storage.join(folder, 'train.jsonl')
    done = storage.join(folder, 'training.json')
    if not storage.exists(done):
      if c.arms[run.arm].human:
        examples = arm_data.human(
          study.problems_of(run.arm), study.task, chat=chat
        )
      else:
        chosen, _ = self.rows(run.budget, run.arm, run.replicate)
        examples = arm_data.examples(chosen, study.task, chat=chat)
      data.write(rows, examples)
      grid.run(
        dataclasses.replace(
          sft,
          checkpoint=checkpoint,
          train=rows,
          task=c.task,
          data=c.data,
          bad_rows=c.bad_rows,
          validation_problems=c.validation_problems,
          validation_size=c.validation_size,
          sampler=c.sampler,
          # No two replicates of any two studies share a data order.
          seed=c.seed * 1000 + run.replicate,
          mesh=c.mesh,
        ),
        folder,
      )
    row = train.ledger_row(storage.read_json(done), run.key)
    runlog.book(study.workdir, f'train-{run.key}', row)

  def _evaluator(self, name: str, shots: int) -> evaluate.Evaluator:
    """Returns who asks a test set, behind so many worked examples."""
    c, test = self.study.config, self.study.tests()[name]
    if (name, shots) not in self._evaluators:
      self._evaluators[name, shots] = evaluate.Evaluator(
        evaluate.EvaluateConfig(
          task=test.task,
          data=test.data,
          bad_rows=c.bad_rows,
          split=test.split,
          limit=test.limit,
          shots=shots,
          prompts=test.prompts,
          pass_samples=c.pass_samples,
          majority=c.majority,
          temperature=c.sampler.temperature,
          validation_size=c.validation_size,
          seed=c.seed,
          dtype=c.dtype,
          mesh=c.mesh,
          sampler=c.sampler,
        )
      )
    return self._evaluators[name, shots]

  def _evaluated(self, folder: str) -> bool:
    files = outcome.files(self.study, folder)
    return all(map(storage.exists, files.values()))

  def _untuned(self, name: str) -> str:
    return storage.join(self.study.workdir, 'untuned', name)

  def untuned(self, name: str) -> None:
    """Evaluates a model before any training, few-shot."""
    shots = {
      key: self.study.config.shots if test.shots is None else test.shots
      for key, test in self.study.tests().items()
    }
    if self.study.config.models[name].student is not None:
      shots = dict.fromkeys(shots, 0)
    self._measure(
      self.study.checkpoint(name), self._untuned(name), f'untuned-{name}', shots
    )

  def evaluate(self, run: design.Run) -> None:
    """Evaluates one student on all test sets."""
    folder = self.study.folder(run)
    self._measure(
      storage.join(folder, 'model'),
      folder,
      run.key,
      dict.fromkeys(self.study.tests(), 0),
    )

  def _measure(
    self, checkpoint: str, folder: str, key: str, shots: dict[str, int]
  ) -> None:
    c = self.study.config
    mesh = sharding.make_mesh(c.mesh)
    model, tokenizer = checkpoints.load(checkpoint, dtype=c.dtype, mesh=mesh)
    for name, path in outcome.files(self.study, folder).items():
      if storage.exists(path):
        continue
      evaluator = self._evaluator(name, shots[name])
      evaluator.reset()
      result = evaluate.score(evaluator, model, tokenizer)
      own = f'{key}-{name}' if name else key
      runlog.book(
        self.study.workdir,
        f'evaluate-{own}',
        evaluate.ledger_row(evaluator, own, mesh.size),
      )
      storage.publish_json(path, result)
