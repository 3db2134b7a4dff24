"""What a fine-tuning run is asked for.  No jax here."""

import dataclasses
import math

from wcse_jax import errors
from wcse_jax import selection as selections
from wcse_jax.sampler import settings as sampler_settings


OPTIMIZERS = ('adamw', 'adafactor')
SCHEDULES = ('constant', 'linear', 'cosine')
DTYPES = ('float32', 'bfloat16')
REMAT = ('none', 'dots', 'attention', 'full')
ATTENTION = ('', 'plain', 'splash')
LORA_TARGETS = ('q', 'k', 'v', 'o', 'gate', 'up', 'down')


@dataclasses.dataclass(kw_only=True)
class OptimizerConfig:
  """An Optax chain.

  Attributes:
    name: one of `OPTIMIZERS`.
    learning_rate: its peak.
    schedule: one of `SCHEDULES`; linear and cosine fall to 0 at the last step.
    warmup_steps: steps of linear rise from 0.
    weight_decay: decoupled, of AdamW, on matrices only.
    b1: of AdamW, how much of the mean gradient is kept a step.
    b2: of AdamW, how much of the mean squared gradient is kept a step.
    eps: of AdamW, added to the root of that.
    clip: largest global gradient norm; 0 for none.
    state_dtype: what the state is kept in, float32 or bfloat16; it is worked
      on in float32.
  """

  name: str = 'adamw'
  learning_rate: float = 1e-5
  schedule: str = 'cosine'
  warmup_steps: int = 0
  weight_decay: float = 0.0
  b1: float = 0.9
  b2: float = 0.95
  eps: float = 1e-8
  clip: float = 1.0
  state_dtype: str = 'float32'

  def validate(self) -> None:
    """Raises InputError for the first field that is out of range."""
    for field, known in (
      ('name', OPTIMIZERS),
      ('schedule', SCHEDULES),
      ('state_dtype', DTYPES),
    ):
      _one_of(f'optimizer.{field}', getattr(self, field), known)
    for field in ('learning_rate', 'warmup_steps', 'weight_decay', 'clip'):
      if not getattr(self, field) >= 0:
        raise errors.InputError(
          f'optimizer.{field}: wanted a number >= 0; '
          f'got {getattr(self, field)}.'
        )
    for field in ('b1', 'b2'):
      if not 0 <= getattr(self, field) < 1:
        raise errors.InputError(
          f'optimizer.{field}: wanted a number from 0 to below 1; '
          f'got {getattr(self, field)}.'
        )
    if not self.eps > 0:
      raise errors.InputError(
        f'optimizer.eps: wanted a number > 0; got {self.eps}.'
      )
    if self.name == 'adafactor' and self.weight_decay:
      raise errors.InputError(
        'optimizer.weight_decay: wanted 0 for adafactor; '
        f'got {self.weight_decay}.'
      )


@dataclasses.dataclass(kw_only=True)
class LoraConfig:
  """Low-rank adapters.

  Attributes:
    rank: inner width; 0 for none: all weights are trained.
    alpha: what the adapters give is multiplied by alpha / rank.
    targets: the matrices that get one, with commas, of `LORA_TARGETS`.
    base: `int8` holds the matrices that are not trained in int8 (QLoRA);
      empty: they have the dtype of the compute.
  """

  rank: int = 0
  alpha: float = 16.0
  targets: str = 'q,k,v,o,gate,up,down'
  base: str = ''

  def validate(self) -> None:
    """Raises InputError for the first field that is out of range."""
    if self.rank < 0:
      raise errors.InputError(
        f'lora.rank: wanted a count >= 0; got {self.rank}.'
      )
    if not self.alpha > 0:
      raise errors.InputError(
        f'lora.alpha: wanted a number > 0; got {self.alpha}.'
      )
    for name in self.targets.split(','):
      _one_of('lora.targets', name, LORA_TARGETS)
    _one_of('lora.base', self.base, ('', 'int8'))
    if self.base and not self.rank:
      raise errors.InputError(
        f'lora.base: wanted nothing where lora.rank is 0; got {self.base!r}.'
      )


@dataclasses.dataclass(kw_only=True)
class WandbConfig:
  """Where the numbers of a run go besides: Weights & Biases.

  Attributes:
    project: its name; empty: nowhere.
    entity: user or team; empty: the user's own.
    mode: `online` or `offline`; empty: as the package is set.
  """

  project: str = ''
  entity: str = ''
  mode: str = ''

  def validate(self) -> None:
    """Raises InputError for the first field that is out of range."""
    _one_of('wandb.mode', self.mode, ('', 'online', 'offline'))
    for field in ('entity', 'mode'):
      if getattr(self, field) and not self.project:
        raise errors.InputError(
          f'wandb.{field}: wanted a wandb.project with it; got '
          f'{getattr(self, field)!r} alone.'
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
    batch_size: rows of a step: sequences, or what several are packed into.
    accumulate: micro-batches that a step is worked on in, one after another;
      the result is that of the whole batch.
    max_length: tokens of a row.
    long: what happens to longer sequences: `drop` leaves them out, `truncate`
      cuts them, both counted.
    packing: whether rows are filled with several sequences, none of which sees
      another: the same losses and slopes with less padding.
    chat: whether prompts go through the chat template: `on`, `off`, or empty
      for as the model was tuned before.
    checkpoints: how many, evenly spaced; the best is exported.
    optimizer: the Optax chain.
    learning_rates: a grid in place of the chain's own: each is trained with,
      and the one of the best validation score is taken.
    lora: adapters.
    z_loss: factor of the squared log of the softmax's denominator; 0 for none.
    nonfinite: what happens where loss or gradient is NaN or infinite: `stop`
      ends the run, `skip` leaves that step out; both name the batch.
    sampler: for the validation by accuracy, drawn greedily.
    seed: of the data order.
    dtype: of the compute.
    weights_dtype: what the trained weights are kept in.
    remat: what the backward pass works out again: one of `REMAT`: none; all
      but the outputs of products (`dots`), or of those of attention alone; or
      all but the inputs of layers (`full`).
    attention: one of `ATTENTION`; empty: what is fastest.
    profile: steps of which a profiler's trace is written, behind the third of
      this process; 0 for none.
    mesh: as `sharding.make_mesh` reads it.
    wandb: where the numbers of each step go besides.
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
  long: str = 'drop'
  packing: bool = False
  chat: str = ''
  checkpoints: int = 10
  optimizer: OptimizerConfig = dataclasses.field(
    default_factory=OptimizerConfig
  )
  learning_rates: tuple[float, ...] = ()
  lora: LoraConfig = dataclasses.field(default_factory=LoraConfig)
  z_loss: float = 0.0
  nonfinite: str = 'stop'
  sampler: sampler_settings.SamplerConfig = dataclasses.field(
    default_factory=sampler_settings.SamplerConfig
  )
  seed: int = 0
  dtype: str = 'float32'
  weights_dtype: str = 'float32'
  remat: str = 'none'
  attention: str = ''
  profile: int = 0
  mesh: str = ''
  wandb: WandbConfig = dataclasses.field(default_factory=WandbConfig)

  def validate(self) -> None:
    """Raises InputError for the first field that is out of range."""
    for field in ('checkpoint', 'train'):
      if not getattr(self, field):
        raise errors.InputError(f'{field}: wanted a path; got nothing.')
    if self.steps < 0 or not (self.steps or 0 < self.epochs < math.inf):
      raise errors.InputError(
        'steps: wanted steps or epochs above 0; '
        f'got steps={self.steps}, epochs={self.epochs}.'
      )
    if self.validation_problems < 0:
      raise errors.InputError(
        'validation_problems: wanted a count >= 0; got '
        f'{self.validation_problems}.'
      )
    if self.validation and self.validation_problems:
      raise errors.InputError(
        'validation: wanted a file or validation_problems; got both.'
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
    rates = self.learning_rates
    if len({f'{rate:g}' for rate in rates}) < len(rates) or not all(
      rate > 0 for rate in rates
    ):
      raise errors.InputError(
        f'learning_rates: wanted numbers > 0, none twice; got {rates}.'
      )
    if rates and not (self.validation or self.validation_problems):
      raise errors.InputError(
        'learning_rates: wanted validation or validation_problems to choose '
        'by; got neither.'
      )
    for field, known in (
      ('dtype', DTYPES),
      ('weights_dtype', DTYPES),
      ('remat', REMAT),
      ('attention', ATTENTION),
      ('long', ('drop', 'truncate')),
      ('nonfinite', ('stop', 'skip')),
      ('chat', ('', 'on', 'off')),
    ):
      _one_of(field, getattr(self, field), known)
    for field in ('z_loss', 'profile'):
      if not getattr(self, field) >= 0:
        raise errors.InputError(
          f'{field}: wanted a number >= 0; got {getattr(self, field)}.'
        )
    self.selection.validate()
    self.optimizer.validate()
    self.lora.validate()
    self.sampler.validate()
    self.wandb.validate()


def _one_of(field: str, value: str, known: tuple[str, ...]) -> None:
  if value not in known:
    names = ', '.join(name or 'nothing' for name in known)
    raise errors.InputError(f'{field}: wanted one of {names}; got {value!r}.')
