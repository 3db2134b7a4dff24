"""The sampler's own programs, compiled for a slice that is not there.

Arguments have shapes and places only; the programs are those that
`sampler.engine` runs.
"""

import dataclasses
import importlib.util
import math
import os
import pathlib
import re
import tempfile
import time
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.experimental import topologies
from jax.sharding import Mesh

from wcse_jax import errors, sharding
from wcse_jax.aot import slices
from wcse_jax.kernels import decode
from wcse_jax.models import config as model_config
from wcse_jax.models import transformer
from wcse_jax.sampler import programs


# For the compiler to start on a machine without a TPU.
_ENVIRONMENT = {
  'TPU_SKIP_MDS_QUERY': '1',
  'TPU_WORKER_HOSTNAMES': 'localhost',
  # Asked for, but without effect on what is compiled for a named topology.
  'TPU_ACCELERATOR_TYPE': 'v5litepod-8',
  # It compiles only; another process may have the library loaded, too.
  'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
}
# An end token; which one changes no program.
_END = (1,)
# Share of the memory that weights may take before they are split further.
_WEIGHTS_SHARE = 0.6
_NO_ROOM = re.compile(r'RESOURCE_EXHAUSTED')


@dataclasses.dataclass(frozen=True)
class Shape:
  """What a program is compiled for.

  Attributes:
    slots: sequences of a decode step.
    prefix: tokens of the shared prefix.
    places: own positions of a slot; of a prefill, tokens of a prompt.
    limit: new tokens of a sample at most.
    rows: prompts of a prefill.
    draws: temperature, top_k, top_p, min_p.
    fill: share of the places that is filled.
  """

  slots: int
  prefix: int
  places: int
  limit: int
  rows: int
  draws: tuple[Any, ...]
  fill: float


@dataclasses.dataclass(frozen=True)
class Compiled:
  """A compiled program; sizes in bytes of one device.

  Attributes:
    lowered: what was to be compiled.
    executable: what was compiled; None if it does not fit the memory.
    text: the optimised HLO; None if the program does not fit.
    weights: size of the model.
    cache: of the slots' keys and values and the shared prefix.
    temporary: of what the program needs beside its arguments and results.
    total: all that is held while it runs; None if it does not fit.
    seconds: that compiling took.
  """

  lowered: Any
  executable: Any
  text: str | None
  weights: int
  cache: int
  temporary: int | None
  total: int | None
  seconds: float


def devices(pieces: slices.Slice) -> list[Any]:
  """Returns the devices of a slice, to compile for.

  Raises:
    InputError: if libtpu is missing, or knows no such slice.
  """
  if importlib.util.find_spec('libtpu') is None:
    raise errors.InputError(
      'topology: compiling for a TPU needs libtpu; install it with '
      "pip install 'wcse-jax[aot]'."
    )
  for name, value in _ENVIRONMENT.items():
    os.environ.setdefault(name, value)
  # Nothing runs here, whatever accelerator this machine has.
  jax.config.update('jax_platforms', 'cpu')
  try:
    found = topologies.get_topology_desc(
      platform='tpu', topology_name=pieces.name, **dict(pieces.chip.options)
    )
  except (jax.errors.JaxRuntimeError, ValueError) as error:
    reason = str(error).splitlines()[0]
    raise errors.InputError(
      f'topology: wanted a slice that libtpu knows; got {pieces.name!r}: '
      f'{reason}'
    ) from None
  return list(found.devices)


def choose_mesh(
  config: model_config.ModelConfig, pieces: slices.Slice, weight_bytes: float
) -> str:
  """Returns the mesh of a model on a slice, as `sharding.make_mesh` reads it.

  As much `tensor` as heads, feed-forward width and vocabulary divide, since a
  step then reads every weight once; the rest is `data`, or `fsdp` where the
  weights would not fit otherwise.

  Args:
    config: the model.
    pieces: the slice.
    weight_bytes: of the whole model.
  """
  count = pieces.chips * pieces.chip.devices
  sizes = [config.num_heads, config.vocab_size]
  for layer in config.layers:
    sizes += [layer.num_kv_heads, layer.d_ff]
  tensor = math.gcd(count, *sizes)
  rest = count // tensor
  room = _WEIGHTS_SHARE * pieces.chip.usable / pieces.chip.devices
  fsdp = 1
  while weight_bytes / tensor / fsdp > room and fsdp < rest:
    fsdp = next(
      n
      for n in range(fsdp + 1, rest + 1)
      if rest % n == 0 and (config.d_model % n == 0 or n == rest)
    )
  return f'data={rest // fsdp},fsdp={fsdp},tensor={tensor}'


class Programs:
  """The programs of one model on one slice."""

  def __init__(
    self,
    config: model_config.ModelConfig,
    mesh: Mesh,
    *,
    dtype: str,
    weights: str,
    attention: str = '',
  ):
    """Raises InputError if the mesh does not divide the model."""
    self._mesh = mesh
    self.kernel = decode.chosen(
      attention, mesh, {layer.head_dim for layer in config.layers}
    )
    model = nnx.eval_shape(
      lambda: transformer.Transformer(
        config, dtype=dtype, rngs=nnx.Rngs(0), mesh=mesh, weights=weights
      )
    )
    self._model = model
    self._graph, state = nnx.split(model)
    self._weights = weights_of(mesh, state)

  @property
  def model(self) -> transformer.Transformer:
    """The model, without weights."""
    return self._model

  def decode(self, shape: Shape) -> Compiled:
    """Returns `sampler.programs.decode`, its state given up.

    Raises:
      InputError: if the mesh does not divide the slots or the heads.
    """
    state, before = self._state(shape), self._prefix(shape)
    vocabulary = self._model.config.vocab_size
    return self._compile(
      programs.decode,
      (
        self._weights,
        state,
        before,
        self._of(jnp.bool_, '_', shape.slots),
        self._of(jnp.int32, ''),
        self._of(jnp.int32, ''),
        # As it is where there are stop strings.
        self._of(jnp.bool_, '_', vocabulary),
      ),
      (state.cache, before),
      graph=self._graph,
      start=shape.prefix,
      ends=_END,
      draws=shape.draws,
      kernel=self.kernel,
      fill=shape.fill,
    )

  def prefill(self, shape: Shape) -> Compiled:
    """Returns `sampler.programs.prefill`; its cache is what it makes.

    Raises:
      InputError: if the mesh does not divide the prompts.
    """
    before = self._prefix(shape)
    tokens = self._of(jnp.int32, 'P_', shape.rows, shape.places)
    made = jax.eval_shape(
      lambda w, b, t: programs.prefill(
        w, b, t, graph=self._graph, start=shape.prefix
      ),
      self._weights,
      before,
      tokens,
    )
    return self._compile(
      programs.prefill,
      (self._weights, before, tokens),
      (self._parts(made, 'BKTH'), before),
      graph=self._graph,
      start=shape.prefix,
    )

  def _compile(self, program, arguments, cache, **static) -> Compiled:
    return compiled(
      program, arguments, size(self._weights), size(cache), **static
    )

  def _state(self, shape: Shape) -> programs.State:
    state = jax.eval_shape(
      lambda weights: programs.empty(
        weights,
        graph=self._graph,
        slots=shape.slots,
        places=shape.places,
        limit=shape.limit,
      ),
      self._weights,
    )
    fields = {
      field.name: self._struct(
        getattr(state, field.name), '_' * getattr(state, field.name).ndim
      )
      for field in dataclasses.fields(state)
      if field.name != 'cache'
    }
    return programs.State(cache=self._parts(state.cache, 'BKSH'), **fields)

  def _prefix(self, shape: Shape):
    if not shape.prefix:
      return None
    made = jax.eval_shape(
      lambda weights: programs.prefix(
        weights, jnp.zeros(shape.prefix, jnp.int32), graph=self._graph
      ),
      self._weights,
    )
    return self._parts(made, 'KSH')

  def _parts(self, cache, letters: str):
    """Returns keys and values with their places; a letter L where stacked."""
    return jax.tree.map(
      lambda a: self._struct(a, 'L' * (a.ndim - len(letters)) + letters), cache
    )

  def _of(self, dtype, letters: str, *dims: int) -> jax.ShapeDtypeStruct:
    return self._struct(jax.ShapeDtypeStruct(dims, dtype), letters)

  def _struct(self, leaf, letters, table=sharding.ACTIVATIONS):
    return struct(self._mesh, leaf, letters, table, 'the program')


def struct(mesh: Mesh, leaf, letters: str, table, name: str):
  """Returns a shape with its place on the mesh.

  Raises:
    InputError: if the mesh does not divide it.
  """
  sharding.check(mesh, letters, leaf.shape, table, name)
  return jax.ShapeDtypeStruct(
    leaf.shape,
    leaf.dtype,
    sharding=sharding.sharding(mesh, letters, table),
  )


def weights_of(mesh: Mesh, state):
  """Returns a model's state as shapes with their places.

  Raises:
    InputError: if the mesh does not divide the model.
  """

  def place(path, leaf):
    letters = leaf.get_metadata('letters')
    name = '.'.join(str(part) for part in path)
    return leaf.replace(struct(mesh, leaf, letters, sharding.WEIGHTS, name))

  return nnx.map_state(place, state)


def compiled(program, arguments, weights, cache, **static) -> Compiled:
  """Returns a jitted program, compiled.

  Args:
    program: what `jax.jit` returned.
    arguments: shapes with their places.
    weights: bytes of a device's part of the model.
    cache: likewise, of what is kept from call to call beside it.
    **static: its static arguments.
  """
  began = time.perf_counter()
  lowered = program.lower(*arguments, **static)
  try:
    done, text = _written(lowered)
  except jax.errors.JaxRuntimeError as error:
    if not _NO_ROOM.search(str(error)):
      raise
    took = time.perf_counter() - began
    return Compiled(lowered, None, None, weights, cache, None, None, took)
  took = time.perf_counter() - began
  memory = done.memory_analysis()
  results = memory.output_size_in_bytes - memory.alias_size_in_bytes
  return Compiled(
    lowered,
    done,
    text,
    weights,
    cache,
    memory.temp_size_in_bytes,
    memory.argument_size_in_bytes
    + results
    + memory.temp_size_in_bytes
    + memory.generated_code_size_in_bytes,
    took,
  )


def _written(lowered) -> tuple[Any, str]:
  """Returns what was compiled, and its optimised HLO.

  The compiler writes that beside its work: libtpu 0.0.52 cannot print some
  programs afterwards ("async-update instruction should have 1 operands").
  """
  with tempfile.TemporaryDirectory() as folder:
    done = lowered.compile(
      compiler_options={'xla_dump_to': folder, 'xla_dump_hlo_as_text': True}
    )
    (file,) = pathlib.Path(folder).glob('*.after_optimizations.txt')
    return done, file.read_text()


def size(tree) -> int:
  """Returns the bytes of one device's part."""
  return sum(
    leaf.dtype.itemsize * math.prod(leaf.sharding.shard_shape(leaf.shape))
    for leaf in jax.tree.leaves(tree)
  )
