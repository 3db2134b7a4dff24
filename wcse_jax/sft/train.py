"""A fine-tuning run: resumable from its checkpoints, the best one exported."""

import contextlib
import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx

from wcse_jax import (
  checkpoints,
  errors,
  machine,
  processes,
  runlog,
  sharding,
  storage,
)
from wcse_jax.kernels import train as kernels
from wcse_jax.sampler import inputs
from wcse_jax.sft import (
  batches,
  data,
  judge,
  loop,
  lora,
  settings,
  tracking,
)
from wcse_jax.sft import step as steps
from wcse_jax.sft import store as stores


# Of the configuration what decides neither which run it is nor its numbers
# beyond rounding.
_FREE = (
  'train',
  'checkpoint',
  'data',
  'validation',
  'mesh',
  'profile',
  'learning_rates',
  'nonfinite',
  'remat',
  'accumulate',
  'attention',
  'wandb',
)


def run(config: settings.SftConfig, workdir: str) -> dict[str, Any]:
  """Fine-tunes one model; returns what `workdir/training.json` holds.

  The best of the evenly spaced checkpoints goes to `workdir/model/`: by
  accuracy on validation problems, else by validation loss, else the last; of
  equals the first.  A finished run returns at once; a killed one goes on from
  its newest good checkpoint and ends with the same weights.

  Raises:
    InputError: if the configuration or the data does not fit, or the folder
      holds another run; nothing is compiled or written before that.
    Stopped: if a stop was asked for; what was done is saved.
  """
  config.validate()
  tracking.check(config.wandb)
  if config.profile:
    machine.check_profiler()
  mesh = sharding.make_mesh(config.mesh)
  tokenizer = checkpoints.read_tokenizer(config.checkpoint)
  architecture = checkpoints.read_config(checkpoints.resolve(config.checkpoint))
  check(config, architecture, mesh)
  given = read(config, tokenizer)
  stream, dropped = given.stream, given.dropped
  rows = stream.sequences
  judged = judge.Judge(config, tokenizer, given.chat)
  what = 'validation' if config.validation else 'validation_problems'
  data.check_apart(given.examples, judged.prompts, what)
  identity = _identity(config, rows, judged)
  done = storage.join(workdir, 'training.json')
  if storage.exists(done):
    result = storage.read_json(done)
    stores.check(workdir, identity, result['fingerprint'])
    if processes.first():
      # Left by a run that was killed as it ended.
      storage.remove_folder(storage.join(workdir, 'checkpoints'))
    return result
  total = config.steps or max(
    1, -(-stream.rows(config.epochs) // config.batch_size)
  )
  asked = recipe(config, architecture, mesh, total)
  store = stores.Store(
    storage.join(workdir, 'checkpoints'), identity, loop.best
  )
  model = load(config, mesh)
  devices = [str(device) for device in mesh.devices.flat]
  with _writing(config, workdir, devices):
    trained = loop.Loop(config, model, stream, store, judged, workdir, asked)
    params, chosen = trained.run()
    _export(config, trained, params, tokenizer, workdir, given.chat)
    seen = stream.between(0, total, config.batch_size)
    result = {
      'fingerprint': identity,
      'steps': total,
      'best_step': chosen,
      'chosen_by': judged.metric,
      'scores': stores.plain(trained.scores),
      'examples': len(rows),
      'selection': given.selected,
      'dropped': dropped['empty'] + dropped['long'],
      'truncated': dropped['truncated'],
      'epochs': len(seen) / len(rows),
      'tokens': sum(len(row.tokens) for row in seen),
      'flops': trained.speed.flops(seen),
      'chips': mesh.size,
      'chip_seconds': trained.seconds * mesh.size,
    }
    if processes.first():
      runlog.book(workdir, 'train', ledger_row(result, 'model'))
      runlog.merge_ledger(workdir)
      storage.publish_json(done, result)
      store.clear()
    processes.meet('sft-done')
  return result


@dataclasses.dataclass(frozen=True)
class Given:
  """What a run trains on.

  Attributes:
    stream: its rows.
    examples: as text, those that were dropped too.
    chat: whether prompts went through the chat template.
    selected: counts of the rules, of a run folder; None of a file.
    dropped: counts of `data.encode`.
  """

  stream: batches.Stream
  examples: Sequence[data.Example]
  chat: bool
  selected: dict[str, int] | None
  dropped: dict[str, int]


def read(config: settings.SftConfig, tokenizer) -> Given:
  """Returns what a run trains on.

  Raises:
    InputError: if there is nothing, or it is malformed.
  """
  chat = inputs.by_template(tokenizer, config.chat)
  examples, selected = data.read(
    config.train,
    config.task,
    config.data,
    config.selection,
    bad_rows=config.bad_rows,
    chat=chat,
  )
  rows, dropped = data.encode(
    examples, tokenizer, config.max_length, chat=chat, long=config.long
  )
  stream = batches.Stream(
    rows,
    max_length=config.max_length,
    seed=config.seed,
    packing=config.packing,
  )
  return Given(stream, examples, chat, selected, dropped)


@contextlib.contextmanager
def _writing(
  config: settings.SftConfig, workdir: str, devices: Sequence[str]
) -> Iterator[None]:
  """Holds the run folder for all processes; the first one writes its files."""
  if not processes.first():
    yield
    return
  with runlog.writing(workdir, dataclasses.asdict(config), devices=devices):
    yield


def load(config: settings.SftConfig, mesh):
  """Returns the model that is trained, with its adapters."""
  c = config.lora
  # A base that is not trained is kept in what it computes in.
  dtype = config.dtype if c.rank else config.weights_dtype
  model, _ = checkpoints.load(
    config.checkpoint, dtype=dtype, mesh=mesh, weights=c.base
  )
  if c.rank:
    lora.add(
      model,
      rank=c.rank,
      alpha=c.alpha,
      targets=tuple(c.targets.split(',')),
      seed=config.seed,
    )
  return model


def recipe(
  config: settings.SftConfig, architecture, mesh, total: int
) -> steps.Recipe:
  """Returns what decides the steps of a run of `total` of them.

  Raises:
    InputError: if a kernel is asked for that does not take such shapes.
  """
  attention = kernels.chosen(
    config.attention,
    mesh,
    config.max_length,
    {layer.head_dim for layer in architecture.layers},
  )
  return steps.Recipe.of(config, total, attention)


def _export(config, trained, params, tokenizer, workdir, chat: bool) -> None:
  """Writes the best model, adapters merged, as a Hugging Face folder."""
  model = nnx.merge(trained.graph, params, trained.frozen)
  # Room for what is merged.
  trained.release()
  if config.lora.rank:
    lora.merge(model)
  model.dtype = jnp.dtype(
    config.dtype if config.lora.rank else config.weights_dtype
  )
  checkpoints.export(
    model,
    tokenizer,
    storage.join(workdir, 'model'),
    card=dataclasses.replace(
      checkpoints.origin(config.checkpoint),
      data=(config.train.rstrip('/').rpartition('/')[2],),
    ),
    prompt_format='chat' if chat else 'plain',
  )


def ledger_row(result: dict[str, Any], name: str) -> dict[str, Any]:
  """Returns the ledger row of a finished run."""
  return {
    'stage': 'train',
    'model': name,
    'chips': result['chips'],
    'chip_seconds': result['chip_seconds'],
    'prefill_tokens': 0,
    'decode_tokens': 0,
    'flops': result['flops'],
    'usd': machine.usd(result['chip_seconds']),
  }


def check(config: settings.SftConfig, architecture, mesh) -> None:
  """Raises InputError if a model on a mesh cannot be trained as asked.

  Args:
    config: how it is to be trained.
    architecture: the `ModelConfig` of the model.
    mesh: where it is to be trained.
  """
  check_batch(config, mesh)
  if config.max_length > architecture.max_positions:
    raise errors.InputError(
      f'max_length: wanted at most the {architecture.max_positions} positions '
      f'of the model; got {config.max_length}.'
    )


def check_batch(config: settings.SftConfig, mesh) -> None:
  """Raises InputError if the mesh does not divide the batch."""
  parts = mesh.shape['data'] * mesh.shape['fsdp']
  if config.batch_size % (parts * config.accumulate):
    raise errors.InputError(
      f'batch_size: wanted a multiple of data x fsdp x accumulate = '
      f'{parts * config.accumulate}; got {config.batch_size}.'
    )


def _identity(
  config: settings.SftConfig,
  rows: Sequence[data.Encoded],
  judged: judge.Judge,
) -> dict[str, Any]:
  """Returns all that the weights of a step and its score depend on."""
  fields = dataclasses.asdict(config)
  for name in _FREE:
    del fields[name]
  return {
    'config': fields,
    'rows': _sha256(rows),
    'validation': _sha256(judged.rows),
    **checkpoints.fingerprint(config.checkpoint),
  }


def _sha256(rows: Sequence[Any]) -> str:
  return hashlib.sha256(repr(list(rows)).encode()).hexdigest()
