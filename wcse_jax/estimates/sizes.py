"""Bytes, parameters and meshes, reckoned without loading jax."""

import math

from wcse_jax import errors
from wcse_jax.models import config
from wcse_jax.sft import settings


def axes(mesh: str) -> dict[str, int]:
  """Returns the sizes of a mesh's axes, of which all that are missing are 1."""
  found = {'data': 1, 'fsdp': 1, 'tensor': 1}
  for part in filter(None, mesh.split(',')):
    name, _, size = part.partition('=')
    if name not in found or not size.isdecimal():
      raise errors.InputError(
        f'mesh: wanted AXIS=SIZE with AXIS one of {", ".join(found)}; '
        f'got {part!r}.'
      )
    found[name] = int(size)
  return found


def training_mesh(devices: int, model: config.ModelConfig, rows: int) -> str:
  """Returns the mesh on which a model is trained in steps of so many rows.

  As many devices on `fsdp` as divide rows and model width; the rest on `data`
  where the rows allow it, else on `tensor`.

  Raises:
    InputError: if no mesh divides rows and model.
  """
  whole = math.gcd(
    model.num_heads,
    model.vocab_size,
    *(layer.num_kv_heads for layer in model.layers),
    *(layer.d_ff for layer in model.layers),
  )
  for fsdp in range(devices, 0, -1):
    if devices % fsdp or model.d_model % fsdp or rows % fsdp:
      continue
    rest = devices // fsdp
    if rows % devices == 0:
      return f'data={rest},fsdp={fsdp},tensor=1'
    if whole % rest == 0:
      return f'data=1,fsdp={fsdp},tensor={rest}'
  raise errors.InputError(
    f'batch_size: wanted rows that {devices} devices divide, by themselves or '
    f'with the heads of the model; got {rows}.'
  )


def item_bytes(dtype: str) -> int:
  """Returns the bytes of a number."""
  return {'float32': 4, 'bfloat16': 2, 'int8': 1}[dtype]


def cache_numbers(
  model: config.ModelConfig, positions: float, *, prefix: bool = False
) -> float:
  """Returns the numbers of keys and values of one sequence's positions.

  Args:
    model: the model.
    positions: how many there are.
    prefix: whether they are of a shared prefix, of which a window sees one less
      since it sees itself, too.
  """
  total = 0.0
  for layer in model.layers:
    if not layer.shares_kv:
      seen = positions
      if layer.kind == 'local':
        seen = min(positions, model.window - prefix)
      total += 2 * layer.num_kv_heads * layer.head_dim * seen
  return total


def token_numbers(model: config.ModelConfig) -> int:
  """Returns the numbers of the keys and values of one token, in all layers."""
  return sum(
    2 * layer.num_kv_heads * layer.head_dim
    for layer in model.layers
    if not layer.shares_kv
  )


def adapter_parameters(
  model: config.ModelConfig, lora: settings.LoraConfig
) -> int:
  """Returns the parameters of low-rank adapters; 0 for none."""
  if not lora.rank:
    return 0
  targets = lora.targets.split(',')
  total = 0
  for layer in model.layers:
    queries = model.num_heads * layer.head_dim
    keys = layer.num_kv_heads * layer.head_dim
    widths = {
      'q': model.d_model + queries,
      'o': model.d_model + queries,
      'gate': model.d_model + layer.d_ff,
      'up': model.d_model + layer.d_ff,
      'down': model.d_model + layer.d_ff,
    }
    if not layer.shares_kv:
      widths['k'] = model.d_model + keys
      if not layer.keys_as_values:
        widths['v'] = model.d_model + keys
    total += sum(widths.get(name, 0) for name in targets)
  return lora.rank * total
