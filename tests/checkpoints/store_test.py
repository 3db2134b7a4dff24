import json
import pathlib
import shutil

import families
import jax
import numpy as np
import pytest
from flax import nnx

from wcse_jax import checkpoints, errors, sharding, storage
from wcse_jax.checkpoints import hf, store


def _leaves(model):
  flat, _ = jax.tree_util.tree_flatten_with_path(nnx.state(model))
  return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in flat}


def _assert_equal(got, want):
  got, want = _leaves(got), _leaves(want)
  assert got.keys() == want.keys()
  for path, leaf in want.items():
    assert got[path].dtype == leaf.dtype
    np.testing.assert_array_equal(got[path], leaf, err_msg=path)


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
  """An Orbax folder of tiny-wc; do not change it."""
  folder = tmp_path_factory.mktemp('store') / 'orbax'
  model, tokenizer = checkpoints.load('tiny-wc')
  checkpoints.export_orbax(model, tokenizer, str(folder))
  return folder


def test_a_model_and_its_tokenizer_come_back(exported):
  want, tokenizer = checkpoints.load('tiny-wc')
  got, again = checkpoints.load(str(exported))
  _assert_equal(got, want)
  assert got.config == want.config
  assert again.end_ids == tokenizer.end_ids
  assert again.encode('Tom has 3') == tokenizer.encode('Tom has 3')
  # They are Orbax checkpoints.
  assert (exported / 'weights' / '00000' / '_CHECKPOINT_METADATA').exists()


_QUICK = ('gemma4_moe', 'qwen2')


@pytest.mark.parametrize(
  'family',
  [
    name if name in _QUICK else pytest.param(name, marks=pytest.mark.slow)
    for name in families.ROWS
  ],
)
def test_every_family_on_another_mesh(
  family, hf_folders, tmp_path, monkeypatch
):
  monkeypatch.setattr(store, '_GROUP_BYTES', 30_000)
  source = hf_folders[family, 'float32']
  tensor = 1 if family == 'gemma' else 2
  mesh = sharding.make_mesh(f'data={4 // tensor},fsdp=2,tensor={tensor}')
  store.save(hf.load(source, mesh=mesh, scan=True), str(tmp_path))
  shutil.copy(pathlib.Path(source) / 'config.json', tmp_path)
  index = json.loads((tmp_path / 'weights.json').read_text())
  assert len(index['groups']) > 1
  with checkpoints.opened(str(tmp_path)) as found:
    from wcse_jax.checkpoints import weights

    got = weights.load(found.source, found.config, dtype='float32', scan=False)
  _assert_equal(got, hf.load(source, scan=False))


def test_bfloat16_stays_bfloat16(tmp_path):
  model, tokenizer = checkpoints.load('tiny-wc', dtype='bfloat16')
  checkpoints.export_orbax(model, tokenizer, str(tmp_path / 'x'))
  with checkpoints.opened(str(tmp_path / 'x')) as found:
    name = next(iter(found.source.shapes))
    assert found.source.kind(name) == 'BF16'
    assert found.source.read(name, 0, 2).dtype == 'bfloat16'
  again, _ = checkpoints.load(str(tmp_path / 'x'), dtype='bfloat16')
  _assert_equal(again, model)


def test_an_older_export_leaves_nothing(exported, tmp_path, monkeypatch):
  model, tokenizer = checkpoints.load('tiny-wc')
  monkeypatch.setattr(store, '_GROUP_BYTES', 50_000)
  folder = str(tmp_path / 'x')
  checkpoints.export_orbax(model, tokenizer, folder)
  assert len(storage.names(storage.join(folder, 'weights'))) > 2
  monkeypatch.undo()
  checkpoints.export_orbax(model, tokenizer, folder)
  assert storage.names(storage.join(folder, 'weights')) == ['00000']
  checkpoints.load(folder)


def test_every_flipped_file_is_found(exported, tmp_path):
  folder = tmp_path / 'x'
  shutil.copytree(exported, folder)
  names = [n for n in storage.files(str(folder)) if n != 'manifest.json']
  assert sum(n.startswith('weights/') for n in names) > 3
  for name in names:
    path = folder / name
    data = bytearray(path.read_bytes())
    if not data:
      continue
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(errors.InputError, match='corrupt: wanted sha256'):
      checkpoints.load(str(folder))
    shutil.copy(exported / name, path)
  checkpoints.load(str(folder))


@pytest.mark.parametrize(
  ('harm', 'named'),
  [
    (lambda f: shutil.rmtree(f / 'weights' / '00000'), 'weights/00000: wanted'),
    (lambda f: (f / 'weights.json').write_text('{}'), 'wanted {"dtype"'),
    (lambda f: (f / 'weights.json').write_text('['), 'weights.json'),
    (lambda f: _edit(f, dtype='int4'), 'dtype: wanted one of float64'),
    (lambda f: _edit(f, groups=[]), 'model.embed_tokens.weight'),
    (lambda f: _shape(f), 'states; got'),
  ],
)
def test_what_does_not_fit_is_one_line(harm, named, exported, tmp_path):
  folder = tmp_path / 'x'
  shutil.copytree(exported, folder)
  (folder / 'manifest.json').unlink()
  harm(folder)
  with pytest.raises(errors.InputError) as caught:
    checkpoints.load(str(folder))
  assert named in str(caught.value)
  assert '\n' not in str(caught.value)


def _edit(folder, **fields):
  index = json.loads((folder / 'weights.json').read_text())
  (folder / 'weights.json').write_text(json.dumps({**index, **fields}))


def _shape(folder):
  """Gives the arrays of another model to the names of this one."""
  config = json.loads((folder / 'config.json').read_text())
  config['intermediate_size'] += 8
  (folder / 'config.json').write_text(json.dumps(config))
  index = json.loads((folder / 'weights.json').read_text())
  for group in index['groups']:
    for name, shape in group.items():
      if 'gate_proj' in name or 'up_proj' in name:
        shape[0] += 8
      if 'down_proj' in name:
        shape[1] += 8
  (folder / 'weights.json').write_text(json.dumps(index))
