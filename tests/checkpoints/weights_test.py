import json
import os
import pathlib
import re
import subprocess
import sys

import families
import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from wcse_jax import checkpoints, errors, sharding
from wcse_jax.checkpoints import hf, weights


_FAMILIES = tuple(families.ROWS)


def _leaves(model):
  flat, _ = jax.tree_util.tree_flatten_with_path(nnx.state(model))
  return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in flat}


@pytest.mark.parametrize('family', _FAMILIES)
def test_every_family_comes_back_bit_equal(
  family, hf_folders, hf_tensors, tmp_path, nothing_compiled
):
  for scan in (False, True):
    model = hf.load(hf_folders[family, 'float32'], scan=scan)
    target = tmp_path / str(scan)
    hf.save(model, str(target))
    found = safetensors.numpy.load_file(target / 'model.safetensors')
    assert found.keys() == hf_tensors[family].keys()
    for name, want in hf_tensors[family].items():
      assert found[name].tobytes() == want.tobytes(), name
    got = checkpoints.read_config(str(target))
    assert got == model.config


@pytest.mark.parametrize('family', ['gemma4_moe', 'gemma4_e', 'qwen2'])
@pytest.mark.parametrize('scan', [False, True])
def test_small_pieces_give_the_same_weights(
  family, scan, hf_folders, monkeypatch
):
  # A mesh on which every kind of axis is split.
  mesh = sharding.make_mesh('data=2,fsdp=2,tensor=2')
  folder = hf_folders[family, 'float32']
  want = _leaves(hf.load(folder, scan=scan))
  monkeypatch.setattr(weights, '_PIECE_BYTES', 700)
  got = hf.load(folder, scan=scan, mesh=mesh)
  for path, whole in _leaves(got).items():
    np.testing.assert_array_equal(whole, want[path], err_msg=path)
  spread = [
    leaf.sharding.shard_shape(leaf.shape) != leaf.shape
    for leaf in jax.tree.leaves(nnx.state(got))
  ]
  assert sum(spread) > len(spread) / 3


def test_each_parameter_is_set_and_each_tensor_used_once(hf_folders):
  for family in _FAMILIES:
    model = hf.load(hf_folders[family, 'float32'], scan=True)
    entries = list(weights.entries(model))
    params = [id(param) for entry in entries for param, _ in entry.params]
    assert len(set(params)) == len(params)
    assert len(params) == len(jax.tree.leaves(nnx.state(model)))
    names = [name for entry in entries for name in entry.names]
    assert len(set(names)) == len(names)


def test_unused_keys_of_shared_layers_are_passed_over(
  hf_rows, hf_tensors, write_hf, tmp_path
):
  row, tensors = hf_rows['gemma4_e'], dict(hf_tensors['gemma4_e'])
  last = row['num_hidden_layers'] - 1
  model = hf.load(write_hf(tmp_path / 'a', row, tensors))
  for name in ('k_proj', 'v_proj', 'k_norm'):
    own = f'model.layers.0.self_attn.{name}.weight'
    tensors[f'model.layers.{last}.self_attn.{name}.weight'] = tensors[own]
  again = hf.load(write_hf(tmp_path / 'b', row, tensors))
  for path, want in _leaves(model).items():
    np.testing.assert_array_equal(_leaves(again)[path], want)
  # The same tensors of a layer that has its own are one too many elsewhere.
  extra = f'model.layers.{last + 1}.self_attn.k_proj.weight'
  tensors[extra] = tensors['model.layers.0.self_attn.k_proj.weight']
  with pytest.raises(errors.InputError, match='is not of the model'):
    hf.load(write_hf(tmp_path / 'c', row, tensors))


# int8.


def test_quantized_rows_are_as_close_as_eight_bits_allow():
  rng = np.random.default_rng(0)
  rows = rng.normal(size=(5, 7, 64)).astype(np.float32)
  rows[1, 2] = 0
  rows[3] *= 1e-6
  held, scale = weights.quantize(rows)
  assert held.dtype == np.int8
  assert scale.shape == (5, 7)
  assert np.abs(held).max() == 127
  error = np.abs(held * scale[..., None] - rows)
  # Half a step, and the rounding of float32.
  assert (error <= scale[..., None] * 0.5001).all()
  assert not held[1, 2].any()
  assert scale[1, 2] == 0


def _some(*names):
  """Returns all families; those that are not named are slow."""
  return [
    name if name in names else pytest.param(name, marks=pytest.mark.slow)
    for name in _FAMILIES
  ]


@pytest.mark.parametrize('family', _some('qwen2'))
def test_int8_weights_are_the_rounded_ones(family, hf_folders, tmp_path):
  """A model in int8 computes what the rounded weights compute."""
  folder = hf_folders[family, 'float32']
  small, _ = _load(folder, weights='int8')
  held = [leaf for leaf in jax.tree.leaves(nnx.state(small))]
  matrices = sum(leaf.size for leaf in held if leaf.dtype == np.int8)
  assert matrices > 0.9 * small.config.parameters() - 4000
  # The same rounding, in float32, through the ordinary path.
  tensors = safetensors.numpy.load_file(
    pathlib.Path(folder) / 'model.safetensors'
  )
  for name, tensor in tensors.items():
    if tensor.ndim > 1 and 'router' not in name:
      rounded, scale = weights.quantize(tensor)
      tensors[name] = rounded * scale[..., None]
  row = json.loads((pathlib.Path(folder) / 'config.json').read_text())
  wide = hf.load(families.write(tmp_path, row, tensors))
  rng = np.random.default_rng(1)
  tokens_BT = rng.integers(3, row['vocab_size'], (2, 24)).astype(np.int32)
  forward = nnx.jit(lambda model, tokens: model(tokens))
  np.testing.assert_allclose(
    forward(small, tokens_BT), forward(wide, tokens_BT), atol=2e-3
  )


@pytest.mark.parametrize('family', _some('gemma4_moe')[3:])
def test_int8_is_the_same_scanned_and_on_a_mesh(family, hf_folders):
  folder = hf_folders[family, 'float32']
  rng = np.random.default_rng(1)
  tokens_BT = rng.integers(3, 60, (4, 16)).astype(np.int32)
  forward = nnx.jit(lambda model, tokens: model(tokens))
  want, _ = _load(folder, weights='int8')
  want_BTV = forward(want, tokens_BT)
  mesh = sharding.make_mesh('data=2,fsdp=2,tensor=2')
  got, _ = _load(folder, weights='int8', scan=True, mesh=mesh)
  on_mesh = sharding.place_batch(tokens_BT, 'BT', mesh)
  np.testing.assert_allclose(forward(got, on_mesh), want_BTV, atol=1e-4)


def _load(folder, **options):
  with checkpoints.opened(folder) as found:
    options = {'dtype': 'float32', **options}
    return weights.load(found.source, found.config, **options), found.config


def test_int8_weights_are_not_exported(hf_folders, tmp_path):
  model, _ = _load(hf_folders['gemma3', 'float32'], weights='int8')
  with pytest.raises(ValueError, match='held in int8'):
    hf.save(model, str(tmp_path))


def test_other_weights_are_refused():
  with pytest.raises(errors.InputError, match=r"weights: wanted int8.*'int4'"):
    checkpoints.load('tiny-wc', weights='int4')


# Memory.

_MEASURE = """
import json, re, sys
import jax.numpy as jnp
from flax import nnx
import jax
from wcse_jax import checkpoints
from wcse_jax.checkpoints import weights

def read(field):
  status = open('/proc/self/status').read()
  return int(re.search(field + r':\\s+(\\d+)', status)[1]) << 10

jnp.zeros(3).block_until_ready()
with checkpoints.opened(sys.argv[1]) as found:
  before = read('VmRSS')
  open('/proc/self/clear_refs', 'w').write('5')
  model = weights.load(found.source, found.config, dtype=sys.argv[2])
  held = jax.block_until_ready(jax.tree.leaves(nnx.state(model)))
  print(json.dumps({
    'peak': read('VmHWM') - before,
    'final': sum(leaf.nbytes for leaf in held),
    'largest': max(leaf.nbytes for leaf in held),
  }))
"""


@pytest.mark.skipif(
  not os.access('/proc/self/clear_refs', os.W_OK),
  reason='peak memory is measured by way of /proc',
)
@pytest.mark.parametrize(
  'dtype', [pytest.param('float32', marks=pytest.mark.slow), 'bfloat16']
)
def test_loading_holds_little_more_than_the_weights(dtype, tmp_path):
  row = {
    **families.ROWS['gemma3'],
    'vocab_size': 65_536,
    'hidden_size': 512,
    'intermediate_size': 4096,
  }
  rng = np.random.default_rng(0)
  tensors = {
    name: rng.random(shape, np.float32)
    for name, shape in families.shapes(row).items()
  }
  folder = families.write(tmp_path, row, tensors)
  size = sum(tensor.nbytes for tensor in tensors.values())
  assert size > 200 << 20
  done = subprocess.run(
    [sys.executable, '-c', _MEASURE, folder, dtype],
    env={**os.environ, 'XLA_FLAGS': ''},
    capture_output=True,
    text=True,
    check=True,
  )
  found = json.loads(re.search(r'\{.*\}', done.stdout)[0])
  assert found['final'] >= size * (1 if dtype == 'float32' else 0.5)
  assert found['peak'] <= 1.3 * found['final'] + 2 * found['largest']


def test_no_parameter_is_taken_for_the_scales_of_another(hf_folders):
  for family in _FAMILIES:
    model = hf.load(hf_folders[family, 'float32'])
    for module in (model, *(b for s in model.stacks for b in s.blocks)):
      names = {
        name
        for name, value in vars(module).items()
        if isinstance(value, nnx.Param)
      }
      assert not {f'{name}_scale' for name in names} & names


@pytest.mark.parametrize('kind', ['', 'int8'])
def test_made_up_weights_need_no_file(kind, hf_folders, tmp_path):
  folder = pathlib.Path(hf_folders['gemma2', 'float32'])
  config = checkpoints.read_config(str(folder))
  mesh = sharding.make_mesh('data=2,fsdp=2,tensor=2')
  model = weights.random(
    config, dtype='bfloat16', mesh=mesh, scan=True, weights=kind
  )
  again = weights.random(config, dtype='bfloat16', mesh=mesh, weights=kind)
  other = weights.random(
    config, dtype='bfloat16', mesh=mesh, weights=kind, seed=1
  )
  embedding = model.embedding[...]
  assert embedding.dtype == (np.int8 if kind else jax.numpy.bfloat16)
  assert embedding.sharding.shard_shape(embedding.shape) != embedding.shape
  wide = np.asarray(embedding, np.float32)
  if kind:
    wide = wide * np.asarray(model.embedding_scale[...])[:, None]
  assert np.std(wide) == pytest.approx(config.d_model**-0.5, rel=0.1)
  np.testing.assert_array_equal(embedding, again.embedding[...])
  assert not np.array_equal(embedding, other.embedding[...])
  # Unit variance at the head, as of a model that is about to be trained.
  logits = model(jax.numpy.ones((4, 8), jax.numpy.int32))
  assert 0.3 < float(jax.numpy.std(logits)) < 3


def test_made_up_weights_of_a_gguf_file_are_refused(tmp_path):
  (tmp_path / 'model.gguf').write_bytes(b'GGUF')
  with pytest.raises(errors.InputError, match=r'wanted a folder with config'):
    checkpoints.load(str(tmp_path / 'model.gguf'), random=True)


def test_made_up_weights_on_a_mesh_that_does_not_fit_are_refused(hf_folders):
  config = checkpoints.read_config(hf_folders['gemma2', 'float32'])
  mesh = sharding.make_mesh('tensor=8')
  with pytest.raises(errors.InputError, match='tensor=8 does not divide'):
    weights.random(config, dtype='float32', mesh=mesh)
