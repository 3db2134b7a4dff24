"""Texts in, replies out: by a checkpoint, or by a model of a server.

Both do the same for who asks, and say what it cost.  No jax is loaded before a
checkpoint is.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from wcse_jax import checkpoints
from wcse_jax import server as servers
from wcse_jax.sampler import settings, shapes


COSTS = ('prefill_tokens', 'decode_tokens', 'flops', 'chip_seconds')
# The least padded length of a prompt behind the common start; the others are
# powers of two.
_LEAST_LENGTH = 256


class Completer(Protocol):
  """Who is asked.

  Attributes:
    devices: names of the devices used.
  """

  devices: Sequence[str]

  def load(self) -> None:
    """Gets ready; `complete` does it where it was not done."""

  def complete(
    self, texts: Sequence[str], each: Callable[[int], object]
  ) -> Sequence[str | None]:
    """Returns the reply to each text; None to one beyond the context.

    `each` is called with the number of replies whenever one has come.
    """

  def cost(self) -> dict[str, float]:
    """Returns what all replies so far cost, by `COSTS`."""

  def close(self) -> None:
    """Ends what was begun."""


class Remote:
  """A model of a server."""

  devices: Sequence[str] = ()

  def __init__(self, server: servers.Server):
    self._server = server
    self.complete = server.complete
    self.close = server.close

  def load(self) -> None:
    pass

  def cost(self) -> dict[str, float]:
    return {
      'prefill_tokens': self._server.prompt_tokens,
      'decode_tokens': self._server.completion_tokens,
      'flops': 0,
      'chip_seconds': 0.0,
    }


class Checkpoint:
  """A checkpoint on this machine.

  A reply depends on its own text, not on which others are asked with it or
  were before: the padded length is a power of two, whatever the others have.
  """

  def __init__(
    self,
    checkpoint: str,
    sampler: settings.SamplerConfig,
    *,
    common: Sequence[str] = (),
    seed: int = 0,
    chat: str = '',
    dtype: str = 'float32',
    weights: str = '',
    mesh: str = '',
  ):
    """Reads nothing yet.

    Args:
      checkpoint: whatever `checkpoints.load` takes.
      sampler: how tokens are drawn.
      common: texts that begin as all texts will, and have no more in common;
        what they share is computed once.
      seed: of the draws.
      chat: as in `sampler.run.SampleConfig`.
      dtype: `float32` or `bfloat16`.
      weights: `int8`, or empty: as `dtype`.
      mesh: as `sharding.make_mesh` reads it.
    """
    from wcse_jax import sharding

    self._checkpoint = checkpoint
    self._sampler = sampler
    self._beginnings = tuple(common)
    self._seed = seed
    self._chat = chat
    self._dtype = dtype
    self._weights = weights
    self._mesh = sharding.make_mesh(mesh)
    self.devices = [str(device) for device in self._mesh.devices.flat]
    self._model: Any = None
    self._tokenizer: Any = None
    self._prefix: tuple[int, ...] = ()
    self._cost = dict.fromkeys(COSTS, 0.0)

  def load(self) -> None:
    if self._model is not None:
      return
    from wcse_jax.sampler import engine

    self._model, self._tokenizer = checkpoints.load(
      self._checkpoint,
      dtype=self._dtype,
      mesh=self._mesh,
      weights=self._weights,
    )
    if self._beginnings:
      ids = self._ids(self._beginnings)
      self._prefix = shapes.Shape.of(ids).prefix
    # For what it refuses.
    engine.Sampler(self._model, self._tokenizer, self._sampler)

  def complete(
    self,
    texts: Sequence[str],
    each: Callable[[int], object] = lambda done: None,
  ) -> list[str | None]:
    self.load()
    # Noise is keyed by the text itself.
    keys = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    groups: dict[Any, dict[str, settings.Request]] = {}
    for key, ids in zip(keys, self._ids(texts), strict=True):
      shape = self._shape(ids)
      if shape is not None:
        request = settings.Request(key, 0, tuple(ids))
        groups.setdefault(shape, {})[key] = request
    found: dict[str, str] = {}
    for shape in sorted(groups, key=lambda shape: shape.suffix_tokens):
      for row in self._drawn(shape, [*groups[shape].values()]):
        found[row.problem_id] = row.text
        each(len(found))
    return [found.get(key) for key in keys]

  def cost(self) -> dict[str, float]:
    return dict(self._cost)

  def close(self) -> None:
    pass

  def _ids(self, texts: Sequence[str]) -> list[list[int]]:
    from wcse_jax.sampler import inputs

    if inputs.by_template(self._tokenizer, self._chat):
      return self._tokenizer.chats(
        [[{'role': 'user', 'content': text}] for text in texts]
      )
    return self._tokenizer.prompts(texts)

  def _shape(self, ids: Sequence[int]):
    """Returns the padded shape of a prompt; None where it does not fit."""

    prefix = self._prefix
    if len(ids) <= len(prefix) or tuple(ids[: len(prefix)]) != prefix:
      # The seam fell elsewhere.
      prefix = ()
    positions = self._model.config.max_positions
    most = positions - self._sampler.max_new_tokens - len(prefix)
    suffix = len(ids) - len(prefix)
    if suffix > most:
      return None
    padded = max(_LEAST_LENGTH, 1 << (suffix - 1).bit_length())
    return shapes.Shape(prefix, min(padded, most))

  def _drawn(self, shape, requests: Sequence[settings.Request]):
    """Yields the replies as samples, and books their cost."""
    from wcse_jax.sampler import engine, inputs

    sampler = engine.Sampler(
      self._model,
      self._tokenizer,
      self._sampler,
      seed=self._seed,
      shape=shape,
    )
    rows = []
    for row in sampler.generate(requests):
      rows.append(row)
      yield row
    cost = inputs.tokens(rows) | {
      'flops': inputs.flops(self._model.config, rows),
      'chip_seconds': sampler.device_seconds * self._mesh.size,
    }
    for name, value in cost.items():
      self._cost[name] += value
