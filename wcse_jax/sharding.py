"""Meshes, and the two tables that say which letter lives on which axis.

Axes: `data` splits sequences, `fsdp` splits sequences and weights, `tensor`
splits heads, feed-forward width and vocabulary.
"""

import jax
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
  sizes: dict[str, int] = {} if text else {'data': len(devices)}
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
  count = int(np.prod(list(sizes.values())))
  if count != len(devices):
    raise errors.InputError(
      f'mesh: {text!r} wants {count} devices; there are {len(devices)}.'
    )
  shape = tuple(sizes.get(axis, 1) for axis in AXES)
  # jax 0.10 makes Explicit axes by default, under which a constraint only
  # asserts.
  auto = (jax.sharding.AxisType.Auto,) * len(AXES)
  return Mesh(np.array(devices).reshape(shape), AXES, axis_types=auto)


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
  """Returns a host array on the mesh, sharded as an activation."""
  return jax.device_put(array, sharding(mesh, letters, ACTIVATIONS))


def constrain(x: jax.Array, letters: str, mesh: Mesh | None) -> jax.Array:
  """Returns `x` with its activation sharding stated to the compiler."""
  if mesh is None or mesh.size == 1:
    return x
  return jax.lax.with_sharding_constraint(
    x, sharding(mesh, letters, ACTIVATIONS)
  )
