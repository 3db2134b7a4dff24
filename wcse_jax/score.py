"""Log-probabilities of given texts under a checkpoint, in one npz.

A text's numbers are a function of the weights, its own tokens, the batch size,
the mesh and the dtype: its padded length follows from its own length, and every
batch has the same number of rows.  So neither its mates, nor their order, nor a
stop in between changes a bit of them.
"""

import collections
import contextlib
import dataclasses
import importlib.metadata
import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

import wcse_jax
from wcse_jax import (
  budget,
  checkpoints,
  errors,
  machine,
  meter,
  runlog,
  scorefiles,
  scorer,
  sharding,
  storage,
)
from wcse_jax.sampler import inputs


@dataclasses.dataclass(kw_only=True)
class ScoreConfig:
  """A scoring run.

  Attributes:
    checkpoint: whatever `checkpoints.load` takes.
    batch_size: texts of a batch, a multiple of data x fsdp.
    weights: empty for weights as `dtype` says, or `int8`.
    seed: as every command has one; nothing is drawn here.
    dtype: `float32` or `bfloat16`, of weights and activations; logits and
      log-probabilities are float32.
    mesh: as `sharding.make_mesh` reads it.
  """

  checkpoint: str = 'tiny-wc'
  batch_size: int = 8
  weights: str = ''
  seed: int = 0
  dtype: str = 'float32'
  mesh: str = ''

  def validate(self) -> None:
    """Raises InputError for the first field that is out of range."""
    if self.batch_size < 1:
      raise errors.InputError(
        f'batch_size: wanted a count >= 1; got {self.batch_size}.'
      )
    for field, known in (
      ('dtype', ('float32', 'bfloat16')),
      ('weights', ('', 'int8')),
    ):
      if getattr(self, field) not in known:
        raise errors.InputError(
          f'{field}: wanted {" or ".join(map(repr, known))}; '
          f'got {getattr(self, field)!r}.'
        )


def score(
  config: ScoreConfig,
  source: str,
  output: str,
  *,
  full_logits: bool = False,
  workdir: str = '',
) -> dict[str, Any]:
  """Writes the npz of all texts of a JSONL; returns what `score.json` holds.

  Text i, counted from 0, has `logprobs_<i>`: float32, the log-probability of
  each token after the first, nats.  With `full_logits` it has `logits_<i>`:
  float32 [T, V], of every position, soft cap applied.  Of a row of prompt and
  completion there are also `tokens_<i>` (int32) and `completion_start_<i>`
  (int64, the index of its first completion token).

  Finished batches are kept in `<output>.parts/` until the npz is published,
  and the same call goes on from them.

  Args:
    config: the run.
    source: JSONL of `{"tokens"}` or `{"prompt", "completion"}`; other fields
      are ignored.
    output: path of the npz.
    full_logits: whether to write the logits.
    workdir: run folder for `score.json` and the ledger; empty for none.

  Raises:
    InputError: if an argument, a row or the checkpoint does not fit; nothing
      is compiled or written before that.
  """
  config.validate()
  _check_paths(source, output)
  rows, digest = scorefiles.read(source)
  mesh = sharding.make_mesh(config.mesh)
  _check_batch(config, mesh)
  identity = checkpoints.fingerprint(config.checkpoint)
  model, tokenizer = checkpoints.load(
    config.checkpoint,
    dtype=config.dtype,
    mesh=mesh,
    weights=config.weights,
  )
  texts = scorefiles.encode(
    rows,
    tokenizer,
    source,
    max_length=model.config.max_positions,
    vocab_size=model.config.vocab_size,
  )
  device = scorer.Scorer(model, config.batch_size, full_logits)
  key = {
    **identity,
    'input': digest,
    'batch_size': config.batch_size,
    'dtype': config.dtype,
    'weights': config.weights,
    'mesh': sharding.describe(mesh),
    'device': mesh.devices.flat[0].device_kind,
    'full_logits': full_logits,
    'versions': {
      'wcse_jax': wcse_jax.__version__,
      'jax': jax.__version__,
      'jaxlib': importlib.metadata.version('jaxlib'),
    },
  }
  folder = f'{output}.parts'
  name = inputs.model_name(config.checkpoint)
  with contextlib.ExitStack() as stack:
    if workdir:
      devices = [str(one) for one in mesh.devices.flat]
      stack.enter_context(
        runlog.writing(workdir, dataclasses.asdict(config), devices=devices)
      )
    stack.enter_context(storage.lock(folder))
    parts = scorefiles.Parts(folder, key)
    work = _Work(texts, device, parts, source)
    logprobs, seconds = work.run(name)
    scorefiles.write_npz(
      output,
      work.members(logprobs),
      scratch=None if '://' in folder else folder,
    )
    result = _summary(texts, logprobs) | {'seconds': seconds}
    if workdir:
      row = _ledger_row(model, name, texts, seconds, full_logits)
      runlog.book(workdir, f'score-{name}', row)
      runlog.merge_ledger(workdir)
      storage.publish_json(storage.join(workdir, 'score.json'), result)
    parts.clear()
  return result


def _check_paths(source: str, output: str) -> None:
  for flag, path, wanted in (
    ('--input', source, 'a JSONL file'),
    ('--output', output, 'the path of an npz'),
  ):
    if not path:
      raise errors.InputError(f'{flag}: wanted {wanted}; got nothing.')
  if storage.is_folder(output):
    raise errors.InputError(
      f'--output: wanted the path of an npz; {output} is a folder.'
    )
  if storage.absolute(source) == storage.absolute(output):
    raise errors.InputError(
      f'--output: wanted another file than --input; got {output}.'
    )


def _check_batch(config: ScoreConfig, mesh) -> None:
  parts = mesh.shape['data'] * mesh.shape['fsdp']
  if config.batch_size % parts:
    raise errors.InputError(
      f'batch_size: wanted a multiple of data x fsdp = {parts}; '
      f'got {config.batch_size}.'
    )


def _summary(
  texts: Sequence[scorefiles.Text], logprobs: Sequence[np.ndarray]
) -> dict[str, Any]:
  """Returns counts, and mean losses in nats a token; None of no token."""
  tails = [
    row_T[max(text.completion_start, 1) - 1 :]
    for text, row_T in zip(texts, logprobs, strict=True)
    if text.completion_start is not None
  ]
  return {
    'texts': len(texts),
    'tokens': sum(len(text.tokens_T) for text in texts),
    'scored_tokens': sum(map(len, logprobs)),
    'loss': _mean_loss(logprobs),
    'completion_tokens': sum(map(len, tails)),
    'completion_loss': _mean_loss(tails),
  }


def _mean_loss(rows: Sequence[np.ndarray]) -> float | None:
  count = sum(map(len, rows))
  # An exact sum, so that the order of the texts changes nothing.
  total = math.fsum(float(value) for row_T in rows for value in row_T)
  return -total / count if count else None


def _ledger_row(model, name, texts, seconds, full_logits) -> dict[str, Any]:
  lengths = [len(text.tokens_T) for text in texts]
  return {
    'stage': 'score',
    'model': name,
    'chips': model.mesh.size,
    'chip_seconds': seconds * model.mesh.size,
    'prefill_tokens': sum(lengths),
    'decode_tokens': 0,
    'flops': sum(
      budget.forward_flops(model.config, n, logits=n - (not full_logits))
      for n in lengths
    ),
    'usd': machine.usd(seconds * model.mesh.size),
  }


def line(result: dict[str, Any]) -> str:
  """Returns what `score` gave, for the terminal."""
  means = []
  for what, loss, count in (
    ('tokens', 'loss', 'scored_tokens'),
    ('completion tokens', 'completion_loss', 'completion_tokens'),
  ):
    if result[count]:
      means.append(f'{result[loss]:.6f} over {result[count]} {what}')
  mean = f'mean loss (nats): {", ".join(means)}; ' if means else ''
  return (
    f'{mean}{result["texts"]} texts of {result["tokens"]} tokens in '
    f'{result["seconds"]:.1f} s'
  )


class _Work:
  """The batches of a run: which are missing, and their results as parts."""

  def __init__(
    self,
    texts: Sequence[scorefiles.Text],
    device: scorer.Scorer,
    parts: scorefiles.Parts,
    source: str,
  ):
    self._texts = texts
    self._device = device
    self._parts = parts
    self._source = source
    self._batches = device.batches([text.tokens_T for text in texts])

  def run(self, name: str) -> tuple[list[np.ndarray], float]:
    """Returns (logprobs_T of each text, seconds of all batches).

    Seconds leave compiling out, and count what earlier processes did.
    """
    seconds = 0.0
    found: dict[int, np.ndarray] = {}
    missing = []
    for batch in self._batches:
      part = self._finished(batch)
      if part is None:
        missing.append(batch)
      else:
        seconds += part[0]
        found.update(zip(batch.texts, part[1], strict=True))
    done = len(found)
    with (
      meter.Progress(
        f'score {name}', len(self._texts), 'texts', start=done
      ) as progress,
      jax.transfer_guard('disallow'),
    ):
      began, compiled = time.perf_counter(), 0.0
      for batch, start, array in self._device.run(missing):
        if start is not None:
          self._put_logits(batch, start, array)
          continue
        rows = self._rows(batch, array)
        now = time.perf_counter()
        spent = now - began - (self._device.compile_seconds - compiled)
        began, compiled = now, self._device.compile_seconds
        self._parts.put(_batch_name(batch), np.array([spent]), *rows)
        seconds += spent
        found.update(zip(batch.texts, rows, strict=True))
        progress.update(len(found))
    return [found[i] for i in range(len(self._texts))], seconds

  def _logits(self, i: int) -> Iterator[memoryview]:
    """Yields the bytes of a text's logits_TV, chunk by chunk.

    Raises:
      OSError: if a chunk is not what was written.
    """
    for name, positions in self._chunks(i):
      data = self._parts.get(name, 4 * positions * self._device.vocab_size)
      if data is None:
        raise OSError(f'{name}: lost or corrupt since it was written.')
      yield data

  def members(
    self, logprobs: Sequence[np.ndarray]
  ) -> Iterator[scorefiles.Member]:
    """Yields the arrays of the npz, by text."""
    of = scorefiles.Member.of
    for i, (text, row_T) in enumerate(zip(self._texts, logprobs, strict=True)):
      if text.completion_start is not None:
        start = np.array(text.completion_start, np.int64)
        yield of(f'tokens_{i}', text.tokens_T)
        yield of(f'completion_start_{i}', start)
      yield of(f'logprobs_{i}', row_T)
      if self._device.full_logits:
        shape = (len(text.tokens_T), self._device.vocab_size)
        yield scorefiles.Member(
          f'logits_{i}', np.dtype(np.float32), shape, self._logits(i)
        )

  def _finished(
    self, batch: scorer.Batch
  ) -> tuple[float, list[np.ndarray]] | None:
    """Returns (seconds, logprobs_T of each text) of a batch that is whole."""
    counts = [len(self._texts[i].tokens_T) - 1 for i in batch.texts]
    data = self._parts.get(_batch_name(batch), 8 + 4 * sum(counts))
    if data is None:
      return None
    try:
      for i in batch.texts:
        collections.deque(self._logits(i), maxlen=0)
    except OSError:
      return None
    whole = np.frombuffer(data[8:], np.float32)
    return (
      float(np.frombuffer(data[:8], np.float64)[0]),
      np.split(whole, np.cumsum(counts)[:-1]),
    )

  def _rows(
    self, batch: scorer.Batch, logprobs_BT: np.ndarray
  ) -> list[np.ndarray]:
    """Returns the logprobs_T of each text of a batch, without the padding."""
    rows = []
    for row_T, i in zip(logprobs_BT, batch.texts, strict=False):
      text = self._texts[i]
      rows.append(row_T[: len(text.tokens_T) - 1])
      if np.isnan(rows[-1]).any():
        raise errors.InputError(
          f'{self._source}: row {text.number}: the model gives NaN; its '
          'weights are broken, or too large for this dtype.'
        )
    return rows

  def _put_logits(self, batch: scorer.Batch, start: int, logits_BTV) -> None:
    for logits_TV, i in zip(logits_BTV, batch.texts, strict=False):
      left = len(self._texts[i].tokens_T) - start
      if left > 0:
        self._parts.put(_chunk_name(i, start), logits_TV[:left])

  def _chunks(self, i: int) -> Iterator[tuple[str, int]]:
    """Yields (name, positions) of the parts that hold a text's logits."""
    if not self._device.full_logits:
      return
    length = len(self._texts[i].tokens_T)
    chunk = self._device.chunk(scorer.padded(length))
    for start in range(0, length, chunk):
      yield _chunk_name(i, start), min(chunk, length - start)


def _chunk_name(i: int, start: int) -> str:
  return f'logits-{i:08d}-{start:08d}'


def _batch_name(batch: scorer.Batch) -> str:
  return f'batch-{batch.number:06d}'
