"""Meshes, and the two tables that say which letter lives on which axis.

Axes: `data` splits sequences, `fsdp` splits sequences and weights, `tensor`
splits heads, feed-forward width and vocabulary.
"""

import collections
import dataclasses
import math
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from wcse_jax import errors


AXES = ('data', 'fsdp', 'tensor')

# Letter -> mesh axes.  Letters that are missing are whole on every device.
ACTIVATIONS = {
  'B': ('data', 'fsdp'),
  'P': ('data', 'fsdp'),
  'N': ('tensor',),
  'K': ('tensor',),
  'F': ('tensor',),
  'V': ('tensor',),
}
# In weights N and K stand for heads times head width, sharded by whole heads.
WEIGHTS = {
  'D': ('fsdp',),
  'N': ('tensor',),
  'K': ('tensor',),
  'F': ('tensor',),
  'V': ('tensor',),
}


def make_mesh(text: str = '', devices=None) -> Mesh:
  """Returns the mesh that `text` describes, as `data=2,fsdp=1,tensor=4`.

  An axis that is not named has size 1; an empty text puts all devices on
  `data`.

  Raises:
    InputError: if an axis is unknown or named twice, or the sizes do not
      multiply to the number of devices.
  """
  devices = list(jax.devices() if devices is None else devices)
  sizes = _sizes(text) if text else {'data': len(devices)}
  count = math.prod(sizes.values())
  if count != len(devices):
    raise errors.InputError(
      f'mesh: {text!r} wants {count} devices; there are {len(devices)}, and '
      f'sizes that multiply to {len(devices)} would fit.'
    )
  shape = tuple(sizes.get(axis, 1) for axis in AXES)
  # jax 0.10 makes Explicit axes by default, under which a constraint only
  # asserts.
  auto = (jax.sharding.AxisType.Auto,) * len(AXES)
  return Mesh(np.array(devices).reshape(shape), AXES, axis_types=auto)


def _sizes(text: str) -> dict[str, int]:
  sizes: dict[str, int] = {}
  for part in filter(None, text.split(',')):
    axis, _, size = part.partition('=')
    if axis not in AXES or not size.isdecimal() or int(size) < 1:
      raise errors.InputError(
        f'mesh: wanted AXIS=SIZE with AXIS one of {", ".join(AXES)}; '
        f'got {part!r}.'
      )
    if axis in sizes:
      raise errors.InputError(f'mesh: wanted {axis} once; got {text!r}.')
    sizes[axis] = int(size)
  return sizes


@dataclasses.dataclass(frozen=True)
class Replica:
  """The processes that decode together, among others like them.

  Attributes:
    mesh: their devices.
    number: which replica this process is of.
    count: how many there are.
    leads: whether this process is the first of its replica.
  """

  mesh: Mesh
  number: int
  count: int
  leads: bool


def replica(text: str = '') -> Replica:
  """Returns the replica of this process; `text` describes the mesh of one.

  A mesh of as many devices as a process has is of one process; one of m times
  as many is of m processes in a row.  An empty text puts the devices of a
  process on `data`.

  Raises:
    InputError: as `make_mesh`, or if replicas do not come out even.
  """
  held = collections.Counter(d.process_index for d in jax.devices())
  here, processes = len(jax.local_devices()), len(held)
  if set(held.values()) != {here}:
    raise errors.InputError(
      'mesh: wanted as many devices in every process; there are '
      f'{", ".join(str(held[i]) for i in sorted(held))}.'
    )
  if processes == 1:
    return Replica(make_mesh(text), 0, 1, True)
  size = math.prod(_sizes(text).values()) if text else here
  fits = [here * n for n in divisors(processes)]
  if size not in fits:
    raise errors.InputError(
      f'mesh: {text!r} wants {size} devices; each of {processes} processes has '
      f'{here}, and sizes that multiply to {any_of(fits)} would fit.'
    )
  members = size // here
  number, place = divmod(jax.process_index(), members)
  first = number * members
  # Ids are not dense, and say nothing of which process comes first.
  devices = sorted(
    (d for d in jax.devices() if first <= d.process_index < first + members),
    key=lambda d: (d.process_index, d.id),
  )
  mesh = make_mesh(text, devices)
  return Replica(mesh, number, processes // members, place == 0)


def divisors(number: int) -> list[int]:
  """Returns the divisors of a number, ascending."""
  return [n for n in range(1, number + 1) if number % n == 0]


def any_of(numbers: Iterable[int]) -> str:
  """Returns numbers as `1, 2 or 4`, for messages."""
  *most, last = map(str, numbers)
  return f'{", ".join(most)} or {last}' if most else last


def describe(mesh: Mesh) -> str:
  """Returns the text that `make_mesh` reads."""
  return ','.join(f'{axis}={mesh.shape[axis]}' for axis in AXES)


def sharding(
  mesh: Mesh, letters: str, table: dict[str, tuple[str, ...]]
) -> NamedSharding:
  """Returns the sharding of an array whose axes are `letters`.

  Raises:
    ValueError: if two letters claim one mesh axis.
  """
  used: list[str] = []
  parts = []
  for letter in letters:
    axes = table.get(letter, ())
    used.extend(axes)
    parts.append(axes if len(axes) != 1 else axes[0])
  if len(set(used)) != len(used):
    raise ValueError(f'letters: {letters!r} uses a mesh axis twice: {used}.')
  return NamedSharding(mesh, PartitionSpec(*(part or None for part in parts)))


def check(
  mesh: Mesh,
  letters: str,
  shape: tuple[int, ...],
  table: dict[str, tuple[str, ...]],
  name: str,
) -> None:
  """Raises InputError if a dimension does not divide its mesh axes."""
  if len(letters) != len(shape):
    raise ValueError(f'{name}: wanted the axes {letters!r}; got shape {shape}.')
  for letter, size in zip(letters, shape, strict=True):
    parts = int(np.prod([mesh.shape[axis] for axis in table.get(letter, ())]))
    if size % parts:
      raise errors.InputError(
        f'mesh: {name} has {size} along {letter}, which {describe(mesh)} '
        f'splits into {parts}; it must divide.'
      )


def place(array, letters: str, mesh: Mesh, *, name: str = 'weight'):
  """Returns `array` on the mesh, sharded as a weight."""
  check(mesh, letters, array.shape, WEIGHTS, name)
  return jax.device_put(array, sharding(mesh, letters, WEIGHTS))


def place_batch(array, letters: str, mesh: Mesh):
  """Returns a host array on the mesh, sharded as an activation.

  Every process of the mesh gives the whole array, the same.
  """
  where = sharding(mesh, letters, ACTIVATIONS)
  if mesh.is_multi_process:
    # `device_put` would compare the processes' arrays at each call.
    return jax.make_array_from_callback(
      array.shape, where, lambda at: array[at]
    )
  return jax.device_put(array, where)


def replicate(array, mesh: Mesh | None) -> jax.Array:
  """Returns a host array whole on every device, for a program on the mesh.

  Every process of the mesh gives the same.
  """
  if mesh is None or not mesh.is_multi_process:
    return jnp.asarray(array)
  array = np.asarray(array)
  # `device_put` would compare the processes' arrays at each call.
  return jax.make_array_from_callback(
    array.shape, NamedSharding(mesh, PartitionSpec()), lambda at: array[at]
  )


def platform(mesh: Mesh | None) -> str:
  """Returns `tpu`, `gpu` or `cpu`: of the devices that a program is for."""
  devices = jax.devices() if mesh is None else mesh.devices.flat
  name = next(iter(devices)).platform
  return 'gpu' if name in ('cuda', 'rocm') else name


def constrain(x: jax.Array, letters: str, mesh: Mesh | None) -> jax.Array:
  """Returns `x` with its activation sharding stated to the compiler."""
  if mesh is None or mesh.size == 1:
    return x
  return jax.lax.with_sharding_constraint(
    x, sharding(mesh, letters, ACTIVATIONS)
  )
