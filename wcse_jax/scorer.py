"""The device's side of scoring: log-probabilities of whole texts.

Every batch has the same number of rows, and a text's padded length follows from
its own length: its numbers never depend on its mates.  Logits are made for a
chunk of positions at a time, so that memory grows neither with the vocabulary
nor with the length.
"""

import collections
import dataclasses
import functools
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from wcse_jax import errors, sharding
from wcse_jax.models import transformer


# Bounds on the float32 logits of one chunk of positions on one device (bytes),
# so that there are never more than 256 MiB of them.  Log-probabilities hold a
# chunk before and after the soft cap; logits that are fetched hold one more,
# which is on its way to the host.
_LOGPROBS_BYTES = 128 << 20
_LOGITS_BYTES = 64 << 20
# Texts up to this length are padded to it (tokens).
_SHORTEST = 32


@dataclasses.dataclass(frozen=True)
class Batch:
  """Texts that are padded to one length.

  Attributes:
    number: of the batch, from 0.
    length: padded length (tokens).
    texts: their places among all texts.
    tokens: the int32 ids of each.
  """

  number: int
  length: int
  texts: tuple[int, ...]
  tokens: tuple[np.ndarray, ...]


def padded(length: int) -> int:
  """Returns the length that a text is padded to: 32, 48, 64, 96, 128, ...

  Powers of 2 and what lies half way between them: few shapes are compiled, at
  most a third of a text of 32 tokens or more is padding, and every length has
  many divisors.
  """
  power = max(_SHORTEST, 1 << (length - 1).bit_length())
  half_way = power // 4 * 3
  return half_way if power > _SHORTEST and length <= half_way else power


class Scorer:
  """The programs of one model, compiled at their first use.

  Attributes:
    full_logits: whether logits are wanted, too.
    vocab_size: of the model (V).
    compile_seconds: time spent on compiling so far.
  """

  def __init__(
    self,
    model: transformer.Transformer,
    batch_size: int,
    full_logits: bool = False,
  ):
    """Splits the model; compiles nothing.

    Args:
      model: placed on its mesh.
      batch_size: rows of every batch, a multiple of data x fsdp.
      full_logits: whether `run` gives logits, too.

    Raises:
      InputError: if the logits of one position of a batch are over the bound
        on a chunk.
    """
    self.full_logits = full_logits
    self.vocab_size = model.config.vocab_size
    self.compile_seconds = 0.0
    self._batch_size = batch_size
    self._graph, self._params = nnx.split(model)
    self._mesh = model.mesh
    self._compiled: dict[Any, Any] = {}
    shape = self._mesh.shape
    rows = batch_size // (shape['data'] * shape['fsdp'])
    row_bytes = 4 * -(-self.vocab_size // shape['tensor'])
    self._position_bytes = rows * row_bytes
    bound = _LOGITS_BYTES if full_logits else _LOGPROBS_BYTES
    if self._position_bytes > bound:
      raise errors.InputError(
        f'batch_size: wanted at most {bound // row_bytes} texts a device with '
        f'a vocabulary of {self.vocab_size}; got {rows}.'
      )

  def batches(self, tokens: Sequence[np.ndarray]) -> list[Batch]:
    """Returns the batches of all texts.

    The longest come first: what does not fit into memory fails at once.
    """
    by_length: dict[int, list[int]] = collections.defaultdict(list)
    for i, tokens_T in enumerate(tokens):
      by_length[padded(len(tokens_T))].append(i)
    groups = [
      (length, tuple(by_length[length][at : at + self._batch_size]))
      for length in sorted(by_length, reverse=True)
      for at in range(0, len(by_length[length]), self._batch_size)
    ]
    return [
      Batch(number, length, texts, tuple(tokens[i] for i in texts))
      for number, (length, texts) in enumerate(groups)
    ]

  def chunk(self, length: int) -> int:
    """Returns how many positions' logits are fetched at once.

    Args:
      length: padded length, which it divides.
    """
    return self._chunk(length, _LOGITS_BYTES)

  def _chunk(self, length: int, bound: int) -> int:
    chunk = min(length, bound // self._position_bytes)
    while length % chunk:
      chunk -= 1
    return chunk

  def run(
    self, batches: Sequence[Batch]
  ) -> Iterator[tuple[Batch, int | None, np.ndarray]]:
    """Yields (batch, None, logprobs_BT) of each batch, fetched.

    Place t of logprobs_BT holds the log-probability (nats) of token t + 1;
    what stands behind a text's own means nothing.  Before it come, where logits
    are wanted, (batch, start, logits_BTV) of each chunk of positions from
    `start` on.  An array is fetched after its follower was dispatched.
    """
    flying: collections.deque = collections.deque()
    for batch in batches:
      for start, array in self._dispatch(batch):
        flying.append((batch, start, array))
        if len(flying) > 1:
          yield _fetched(*flying.popleft())
    while flying:
      yield _fetched(*flying.popleft())

  def _dispatch(self, batch: Batch) -> Iterator[tuple[int | None, jax.Array]]:
    tokens_BT = np.zeros((self._batch_size, batch.length), np.int32)
    for row_T, tokens_T in zip(tokens_BT, batch.tokens, strict=False):
      row_T[: len(tokens_T)] = tokens_T
    placed_BT = sharding.place_batch(tokens_BT, 'BT', self._mesh)
    logprobs_BT, x_BTD = self._call(
      _logprobs,
      batch.length,
      placed_BT,
      chunk=self._chunk(batch.length, _LOGPROBS_BYTES),
      keep=self.full_logits,
    )
    if self.full_logits:
      chunk = self.chunk(batch.length)
      for start in range(0, max(map(len, batch.tokens)), chunk):
        at = sharding.place_batch(np.int32(start), '', self._mesh)
        logits_BTV = self._call(_logits, batch.length, x_BTD, at, chunk=chunk)
        yield start, logits_BTV
    yield None, logprobs_BT

  def _call(self, program, length: int, *args, **static):
    key = program, length
    if key not in self._compiled:
      began = time.perf_counter()
      lowered = program.lower(self._params, *args, graph=self._graph, **static)
      self._compiled[key] = lowered.compile()
      self.compile_seconds += time.perf_counter() - began
    return self._compiled[key](self._params, *args)


def _fetched(batch: Batch, start: int | None, array: jax.Array):
  return batch, start, np.asarray(jax.device_get(array))


@functools.partial(jax.jit, static_argnames=('graph', 'chunk', 'keep'))
def _logprobs(params, tokens_BT: jax.Array, *, graph, chunk: int, keep: bool):
  """Returns (logprobs_BT of the next tokens, hidden states_BTD or None)."""
  model = nnx.merge(graph, params)
  x_BTD = model.hidden(tokens_BT)
  B, T = tokens_BT.shape

  def head(piece: tuple[jax.Array, jax.Array]) -> jax.Array:
    x_BTD, target_BT = piece
    logits_BTV = model.logits(x_BTD)
    top_BT1 = jnp.max(logits_BTV, axis=-1, keepdims=True)
    total_BT = jnp.sum(jnp.exp(logits_BTV - top_BT1), axis=-1)
    picked_BT1 = jnp.take_along_axis(logits_BTV, target_BT[..., None], axis=-1)
    return (picked_BT1 - top_BT1)[..., 0] - jnp.log(total_BT)

  def pieces(array: jax.Array) -> jax.Array:
    shape = (B, T // chunk, chunk, *array.shape[2:])
    return jnp.moveaxis(array.reshape(shape), 1, 0)

  # Rolled, not cut: an odd length would be slow everywhere.
  target_BT = jnp.roll(tokens_BT, -1, axis=1)
  found = jax.lax.map(head, (pieces(x_BTD), pieces(target_BT)))
  logprobs_BT = jnp.moveaxis(found, 0, 1).reshape(B, T)
  return logprobs_BT, x_BTD if keep else None


@functools.partial(jax.jit, static_argnames=('graph', 'chunk'))
def _logits(params, x_BTD: jax.Array, start: jax.Array, *, graph, chunk: int):
  """Returns logits_BTV of `chunk` positions from `start` on."""
  model = nnx.merge(graph, params)
  x_BTD = jax.lax.dynamic_slice_in_dim(x_BTD, start, chunk, axis=1)
  return model.logits(x_BTD)
