"""What a fine-tuning run is asked for.  No jax here."""

import dataclasses

from wcse_jax import errors
from wcse_jax import selection as selections
from wcse_jax.sampler import settings as sampler_settings


OPTIMIZERS = ('adamw', 'adafactor')
SCHEDULES = ('constant', 'linear', 'cosine')


@dataclasses.dataclass(kw_only=True)
class OptimizerConfig:
  """An Optax chain.

  Attributes:
    name: one of `OPTIMIZERS`.
    learning_rate: its peak.
    schedule: one of `SCHEDULES`; linear and cosine fall to 0 at the last step.
    warmup_steps: steps of linear rise from 0.
    weight_decay: decoupled, of AdamW, on matrices only.
    clip: largest global gradient norm; 0 for none.
  """

  name: str = 'adamw'
  learning_rate: float = 1e-5
  schedule: str = 'cosine'
  warmup_steps: int = 0
  weight_decay: float = 0.0
  clip: float = 1.0

  def validate(self) -> None:
    """Raises InputError for the first field that is out of range."""
    for field, known in (('name', OPTIMIZERS), ('schedule', SCHEDULES)):
      if getattr(self, field) not in known:
        raise errors.InputError(
          f'optimizer.{field}: wanted one of {", ".join(known)}; '
          f'got {getattr(self, field)!r}.'
        )
    for field in ('learning_rate', 'warmup_steps', 'weight_decay', 'clip'):
      if not getattr(self, field) >= 0:
        raise errors.InputError(
          f'optimizer.{field}: wanted a number >= 0; '
          f'got {getattr(self, field)}.'
        )


@dataclasses.dataclass(kw_only=True)
class SftConfig:
  """A fine-tuning run.

  Attributes:
    checkpoint: the model to start from.
    train: a JSONL of `{"prompt", "completion"}`, or a run folder with samples
      and grades of one model, of which `selection` takes some.
    task: the task of a run folder, and of the validation by accuracy.
    data: the folder or file of that task's set.
    bad_rows: as in `sampler.run.SampleConfig`.
    selection: which samples of a run folder are trained on.
    validation: a JSONL as `train`, for validation by loss; or empty.
    validation_problems: problems of the task's validation split on which
      accuracy chooses the checkpoint; 0 for none.
    validation_size: training problems that are held out for that split.
    steps: optimiser steps; 0 to count by `epochs`.
    epochs: passes over the data, where `steps` is 0.
    batch_size: sequences of a step.
    accumulate: micro-batches that a step is worked on in, one after another;
      the result is that of the whole batch.
    max_length: tokens of a sequence; longer ones are dropped and counted.
    checkpoints: how many, evenly spaced; the best is exported.
    optimizer: the Optax chain.
    sampler: for the validation by accuracy, drawn greedily.
    seed: of the data order.
    dtype: of the compute; weights and optimiser state are float32.
    mesh: as `sharding.make_mesh` reads it.
  """

  checkpoint: str = ''
  train: str = ''
  task: str = ''
  data: str = ''
  bad_rows: str = 'refuse'
  selection: selections.Selection = dataclasses.field(
    default_factory=selections.Selection
  )
  validation: str = ''
  validation_problems: int = 0
  validation_size: int = 500
  steps: int = 0
  epochs: float = 1.0
  batch_size: int = 32
  accumulate: int = 1
  max_length: int = 512
  checkpoints: int = 10
  optimizer: OptimizerConfig = dataclasses.field(
    default_factory=OptimizerConfig
  )
  sampler: sampler_settings.SamplerConfig = dataclasses.field(
    default_factory=sampler_settings.SamplerConfig
  )
  seed: int = 0
  dtype: str = 'float32'
  mesh: str = ''

  def validate(self) -> None:
    """Raises InputError for the first field that is out of range."""
    for field in ('checkpoint', 'train'):
      if not getattr(self, field):
        raise errors.InputError(f'{field}: wanted a path; got nothing.')
    if self.steps <= 0 and self.epochs <= 0:
      raise errors.InputError(
        'steps: wanted steps or epochs above 0; '
        f'got steps={self.steps}, epochs={self.epochs}.'
      )
    for field in ('batch_size', 'accumulate', 'max_length', 'checkpoints'):
      if getattr(self, field) < 1:
        raise errors.InputError(
          f'{field}: wanted a count >= 1; got {getattr(self, field)}.'
        )
    if self.batch_size % self.accumulate:
      raise errors.InputError(
        f'accumulate: wanted a divisor of batch_size={self.batch_size}; '
        f'got {self.accumulate}.'
      )
    if self.validation_problems and not self.task:
      raise errors.InputError(
        'task: wanted a task for validation_problems='
        f'{self.validation_problems}; got nothing.'
      )
    if self.dtype not in ('float32', 'bfloat16'):
      raise errors.InputError(
        f'dtype: wanted float32 or bfloat16; got {self.dtype!r}.'
      )
    self.selection.validate()
    self.optimizer.validate()
    self.sampler.validate()
