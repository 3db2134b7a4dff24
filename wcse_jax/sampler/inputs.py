"""What a sampling run is asked: settings, problems, prompts; what fixes it."""

import dataclasses
import importlib.metadata
import math
import re
from collections.abc import Sequence
from typing import Any

import wcse_jax
from wcse_jax import budget, checkpoints, endpoint, errors, records, tasks
from wcse_jax.sampler import settings
from wcse_jax.tasks import base


# Beside a model's samples: where its checkpoint was.
SOURCE = 'source.json'
# What a run may be capped by: the sums of its shards' costs, and dollars.
CAPS = ('flops', 'chip_seconds', 'decode_tokens', 'usd')
# Those of a server's model: nobody tells what it computes.
SERVED_CAPS = ('decode_tokens', 'usd')
# What a server decides on by itself, and how a configuration leaves it to it.
_ITS_OWN = {'dtype': 'bfloat16', 'weights': '', 'mesh': ''}
# Characters of the name of a folder of samples at most.
_LONGEST_NAME = 100
_NAME = re.compile(r'[A-Za-z0-9_][A-Za-z0-9_.-]*')


@dataclasses.dataclass(kw_only=True)
class SampleConfig:
  """A sampling run.

  Attributes:
    checkpoint: whatever `checkpoints.load` takes; not used where `server` is
      set.
    name: under which its samples are kept; empty: its stem.
    server: URL of an OpenAI-compatible server, as `http://localhost:8000/v1`,
      whose model is asked; empty: none.
    model: the server's name of that model.
    key_variable: environment variable with the server's key; none is needed
      where it is not set.
    concurrency: requests under way at a time.
    retries: of a request that failed in a way that may pass.
    timeout: seconds that the server may be silent for.
    send_seed: whether each request tells the server a seed of its own.
    task: one of `tasks.TASKS`.
    data: folder or file of the set, or `hub:NAME@REVISION`; empty for the
      task's own source.
    bad_rows: of the set: `refuse` ends with a report, `skip` leaves them out.
    split: one of the task's splits, or `validation`.
    limit: problems, from the start of the split; 0 for all.
    shots: worked examples before the question.
    prompts: JSONL of those; empty for the task's own.
    chat: `on` asks by the checkpoint's chat template, `off` by the plain
      prompt; empty: as the checkpoint was trained, by its template if it has
      one.  A server's model is asked in a chat, with `off` by the plain prompt,
      which it completes.
    samples_per_problem: samples of each problem.
    validation_size: training problems that are held out of `train`.
    seed: of the draws.
    dtype: `float32` or `bfloat16`, of weights and cache.
    weights: `int8` holds the weights in int8; empty: as `dtype`.
    mesh: of the devices that decode together, as `sharding.replica` reads it.
    plan: a `plan.json` of `launch/plan.py` to follow, whose models are asked in
      place of `checkpoint`; empty: every problem is asked alike.
    plan_models: `NAME=CHECKPOINT` of the plan's models, where their pilots do
      not say it.
    cap: what all samples of the folder may cost; drawing ends with the shard
      that reaches it, samples of low index first, and of several processes
      each has an even share; 0: no cap.
    cap_in: the currency of the cap: one of `CAPS`.
    sampler: how tokens are drawn; a server is told of temperature, top_p and
      max_new_tokens, and of top_k and min_p where they are set.
  """

  checkpoint: str = 'tiny-wc'
  name: str = ''
  server: str = ''
  model: str = ''
  key_variable: str = 'OPENAI_API_KEY'
  concurrency: int = 8
  retries: int = 5
  timeout: float = 120.0
  send_seed: bool = True
  task: str = 'arith'
  data: str = ''
  bad_rows: str = 'refuse'
  split: str = 'train'
  limit: int = 0
  shots: int = 0
  prompts: str = ''
  chat: str = ''
  samples_per_problem: int = 1
  validation_size: int = 500
  seed: int = 0
  dtype: str = 'bfloat16'
  weights: str = ''
  mesh: str = ''
  plan: str = ''
  plan_models: tuple[str, ...] = ()
  cap: float = 0.0
  cap_in: str = 'flops'
  sampler: settings.SamplerConfig = dataclasses.field(
    default_factory=settings.SamplerConfig
  )

  @property
  def stem(self) -> str:
    """The name of the folder of its samples."""
    if self.name:
      return self.name
    return (
      served_name(self.model) if self.server else model_name(self.checkpoint)
    )

  def validate(self) -> None:
    """Raises InputError for the first field that is out of range."""
    if self.name and not _NAME.fullmatch(self.name):
      raise errors.InputError(
        'name: wanted letters, digits, "_", "." and "-", no dot first; got '
        f'{self.name!r}.'
      )
    for field, least in (
      ('limit', 0),
      ('shots', 0),
      ('samples_per_problem', 1),
      ('validation_size', 0),
      ('seed', 0),
    ):
      if getattr(self, field) < least:
        raise errors.InputError(
          f'{field}: wanted a count >= {least}; got {getattr(self, field)}.'
        )
    if not 0 <= self.cap < math.inf:
      raise errors.InputError(f'cap: wanted a cost >= 0; got {self.cap}.')
    if self.cap_in not in CAPS:
      raise errors.InputError(
        f'cap_in: wanted one of {", ".join(CAPS)}; got {self.cap_in!r}.'
      )
    settings.check_loading(self)
    self.sampler.validate()
    if self.server:
      self._check_server()
    elif self.model:
      raise errors.InputError(
        f'model: wanted a server that has it; got {self.model!r} alone.'
      )

  def _check_server(self) -> None:
    endpoint.check(
      self.server,
      self.model,
      self.key_variable,
      self.concurrency,
      self.retries,
      self.timeout,
    )
    if self.plan:
      raise errors.InputError(
        'plan: wanted none beside a server, as a plan names the checkpoints '
        f'that are asked; got {self.plan!r}.'
      )
    for field, own in _ITS_OWN.items():
      if getattr(self, field) != own:
        raise errors.InputError(
          f'{field}: wanted {own!r} beside a server, which cannot be told; got '
          f'{getattr(self, field)!r}.'
        )
    if self.cap and self.cap_in not in SERVED_CAPS:
      raise errors.InputError(
        f'cap_in: wanted {" or ".join(SERVED_CAPS)} beside a server, whose '
        f'{self.cap_in} nobody tells; got {self.cap_in!r}.'
      )
    if not 0 < len(served_name(self.model)) <= _LONGEST_NAME:
      raise errors.InputError(
        f'model: wanted a name that leaves 1 to {_LONGEST_NAME} letters and '
        f'digits for a folder; got {records.shorten(self.model)}.'
      )


@dataclasses.dataclass(frozen=True)
class Work:
  """What is sampled: the problems that a run takes, and the whole split.

  Attributes:
    task: the task.
    chosen: (position in the whole split, problem) of the run.
    prompts: position -> prompt text, of every problem of the split.
    questions: position -> what a chat model is asked, likewise.
    shots_sha256: of the worked examples.
    data_sha256: of the split's problems.
  """

  task: base.Task
  chosen: tuple[tuple[int, records.Problem], ...]
  prompts: dict[int, str]
  questions: dict[int, str]
  shots_sha256: str
  data_sha256: str


def prepare(config: SampleConfig) -> Work:
  """Returns the work of a run; reads the task, never the model."""
  task = tasks.load(
    config.task, config.data, config.prompts, bad_rows=config.bad_rows
  )
  whole = base.select(
    task, config.split, validation_size=config.validation_size
  )
  shots = task.shots(config.shots)
  return Work(
    task=task,
    chosen=tuple(whole[: config.limit] if config.limit else whole),
    prompts={i: task.prompt(p.question, shots) for i, p in whole},
    questions={i: task.ask(p.question, shots) for i, p in whole},
    shots_sha256=base.shots_sha256(shots),
    data_sha256=base.data_sha256(problem for _, problem in whole),
  )


def model_name(checkpoint: str) -> str:
  """Returns the stem under which a checkpoint's samples are kept."""
  name = checkpoint.rstrip('/').rpartition('/')[2].removesuffix('.gguf')
  # A hub name may have a revision behind it.
  return name.partition('@')[0]


def served_name(model: str) -> str:
  """Returns the name under which samples of a server's model are kept."""
  return re.sub(r'[^A-Za-z0-9_.-]+', '-', model_name(model)).strip('.-')


def asked(config: SampleConfig, work: Work) -> dict[str, Any]:
  """Returns what was asked, for the fingerprint: the problems, in which words.

  Of any model, whoever draws.
  """
  return {
    'task': config.task,
    'split': config.split,
    'validation_size': config.validation_size,
    'data_sha256': work.data_sha256,
    'shots': config.shots,
    'shots_sha256': work.shots_sha256,
    'prompt_sha256': base.prompt_sha256(work.task),
    'seed': config.seed,
  }


def fingerprint(config: SampleConfig, work: Work, mesh) -> dict[str, Any]:
  """Returns all that a sample depends on besides its problem and index."""
  import jax

  from wcse_jax import sharding

  return {
    **checkpoints.fingerprint(config.checkpoint),
    **asked(config, work),
    'chat': config.chat,
    'weights_in': config.weights or config.dtype,
    'stop': list(work.task.stop),
    'sampler': config.sampler.fingerprint(),
    'dtype': config.dtype,
    'mesh': sharding.describe(mesh),
    'versions': {
      'wcse_jax': wcse_jax.__version__,
      'jax': jax.__version__,
      'jaxlib': importlib.metadata.version('jaxlib'),
    },
  }


def by_template(tokenizer, chat: str = '') -> bool:
  """Returns whether a model is asked by its chat template."""
  return chat == 'on' or (not chat and tokenizer.prompt_format == 'chat')


def stop_strings(task: base.Task, tokenizer, chat: str = '') -> tuple[str, ...]:
  """Returns what ends a sample of a model that is asked in this way."""
  return stops(task, by_template(tokenizer, chat))


def stops(task: base.Task, chat: bool) -> tuple[str, ...]:
  """Returns what ends a sample, in a chat or behind the plain prompt."""
  return task.chat_stop if chat and task.chat_stop is not None else task.stop


def prompt_ids(
  work: Work, tokenizer, chat: str = ''
) -> dict[int, tuple[int, ...]]:
  """Returns position -> prompt tokens, of every problem of the split.

  Args:
    work: the problems.
    tokenizer: of the model that is asked.
    chat: see `SampleConfig`.
  """
  if by_template(tokenizer, chat):
    ids = tokenizer.chats(
      [[{'role': 'user', 'content': q}] for q in work.questions.values()]
    )
  else:
    ids = tokenizer.prompts(list(work.prompts.values()))
  return dict(zip(work.prompts, map(tuple, ids), strict=True))


def tokens(rows: Sequence[records.Sample]) -> dict[str, int]:
  """Returns the tokens of a shard's samples: prompts once each, and drawn.

  The shared prefix, once a run, is not in it: see `prefix`.
  """
  own = {r.problem_id: r.prompt_tokens - r.shared_prompt_tokens for r in rows}
  return {
    'prefill_tokens': sum(own.values()),
    'decode_tokens': sum(r.output_tokens for r in rows),
  }


def flops(model_config, rows: Sequence[records.Sample]) -> int:
  """Returns the exact FLOPs of samples as the engine draws them.

  A prompt is prefilled once for all its samples, but for its last token, which
  the first decode step takes.  The shared prefix, once a run, is not in it: see
  `prefix`.
  """
  prompts = {r.problem_id: r for r in rows}
  prefill = sum(
    budget.forward_flops(
      model_config,
      r.prompt_tokens - 1 - r.shared_prompt_tokens,
      r.shared_prompt_tokens,
      logits=0,
    )
    for r in prompts.values()
  )
  decode = sum(
    budget.forward_flops(model_config, r.output_tokens, r.prompt_tokens - 1)
    for r in rows
  )
  return prefill + decode


def prefix(model_config, row: records.Sample) -> dict[str, int]:
  """Returns tokens and FLOPs of the prefix that a run's prompts share."""
  count = row.shared_prompt_tokens
  return {
    'prefill_tokens': count,
    'flops': budget.forward_flops(model_config, count, logits=0),
  }
