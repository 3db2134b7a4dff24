import json
import pathlib
import shutil

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from wcse_jax import checkpoints, errors, sharding
from wcse_jax.checkpoints import hf


_FAMILIES = ('gemma2', 'gemma3')
_TYPES = {'float32': np.float32, 'bfloat16': ml_dtypes.bfloat16}


def _read(folder):
  """Returns all tensors of a folder, by name."""
  found = {}
  for path in sorted(pathlib.Path(folder).glob('*.safetensors')):
    for name, tensor in safetensors.numpy.load_file(path).items():
      assert name not in found
      found[name] = tensor
  return found


def _assert_same_bits(got, want):
  assert got.keys() == want.keys()
  for name, tensor in want.items():
    assert got[name].dtype == tensor.dtype, name
    assert got[name].shape == tensor.shape, name
    assert got[name].tobytes() == tensor.tobytes(), name


@pytest.mark.parametrize('scan', [False, True])
@pytest.mark.parametrize('dtype', _TYPES)
@pytest.mark.parametrize('family', _FAMILIES)
def test_there_and_back_is_bit_equal(
  family, dtype, scan, hf_folders, tmp_path, nothing_compiled
):
  source = hf_folders[family, dtype]
  # In memory as in the file, and wider.
  for memory in {dtype, 'float32'}:
    model = hf.load(source, dtype=memory, scan=scan)
    target = tmp_path / memory
    hf.save(model, str(target), dtype=dtype)
    _assert_same_bits(_read(target), _read(source))
    assert checkpoints.read_config(str(target)) == checkpoints.read_config(
      source
    )
    written = json.loads((target / 'config.json').read_text())
    assert written['dtype'] == dtype


def test_from_a_mesh_is_bit_equal(hf_folders, tmp_path):
  source = hf_folders['gemma3', 'float32']
  mesh = sharding.make_mesh('data=2,fsdp=2,tensor=2')
  hf.save(hf.load(source, mesh=mesh, scan=True), str(tmp_path))
  _assert_same_bits(_read(tmp_path), _read(source))


def test_large_exports_are_split(hf_folders, tmp_path, monkeypatch):
  source = hf_folders['gemma3', 'float32']
  model = hf.load(source)
  monkeypatch.setattr(hf, '_FILE_BYTES', 40_000)
  hf.save(model, str(tmp_path))
  files = hf.weight_files(str(tmp_path))
  assert len(files) > 3
  assert files[0] == f'model-00001-of-{len(files):05d}.safetensors'
  assert all((tmp_path / f).stat().st_size < 50_000 for f in files)
  _assert_same_bits(_read(tmp_path), _read(source))
  index = json.loads((tmp_path / 'model.safetensors.index.json').read_text())
  for name, file in index['weight_map'].items():
    assert name in safetensors.numpy.load_file(tmp_path / file)
  total = sum(tensor.nbytes for tensor in _read(source).values())
  assert index['metadata']['total_size'] == total
  hf.load(str(tmp_path))
  # A later export in fewer files leaves none of these behind.
  monkeypatch.undo()
  hf.save(model, str(tmp_path))
  assert hf.weight_files(str(tmp_path)) == ['model.safetensors']
  _assert_same_bits(_read(tmp_path), _read(source))


@pytest.mark.parametrize('dtype', _TYPES)
@pytest.mark.parametrize('family', _FAMILIES)
def test_transformers_loads_an_export(
  family, dtype, hf_folders, tmp_path, monkeypatch
):
  torch = pytest.importorskip('torch')
  import transformers

  monkeypatch.setattr(hf, '_FILE_BYTES', 60_000)
  source = hf_folders[family, dtype]
  hf.save(hf.load(source, dtype=dtype), str(tmp_path))
  tokens_BT = torch.arange(3, 43)[None]
  logits = []
  for folder in (source, str(tmp_path)):
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
      folder, attn_implementation='eager', output_loading_info=True
    )
    assert model.dtype == getattr(torch, dtype)
    for problem in ('missing_keys', 'unexpected_keys', 'mismatched_keys'):
      assert not report[problem], folder
    with torch.no_grad():
      logits.append(model.eval()(tokens_BT).logits)
  assert type(model).__name__ == f'{family.capitalize()}ForCausalLM'
  assert torch.equal(*logits)
  assert model.generation_config.eos_token_id == 1


def test_untied_head_goes_there_and_back(
  hf_rows, hf_tensors, write_hf, tmp_path
):
  row = {**hf_rows['gemma2'], 'tie_word_embeddings': False}
  tensors = dict(hf_tensors['gemma2'])
  tensors['lm_head.weight'] = -tensors['model.embed_tokens.weight']
  source = write_hf(tmp_path / 'source', row, tensors)
  hf.save(hf.load(source), str(tmp_path / 'target'))
  _assert_same_bits(_read(tmp_path / 'target'), tensors)


@pytest.mark.parametrize(
  ('text', 'other'),
  [
    ('language_model.model.', 'vision_tower.patch.weight'),
    ('model.language_model.', 'model.multi_modal_projector.soft.weight'),
  ],
)
def test_multimodal_checkpoints_give_their_text_model(
  text, other, hf_rows, hf_tensors, write_hf, tmp_path
):
  want = hf_tensors['gemma3']
  tensors = {name.replace('model.', text): t for name, t in want.items()}
  tensors[other] = np.ones(3, np.float32)
  row = {'model_type': 'gemma3', 'text_config': hf_rows['gemma3']}
  source = write_hf(tmp_path / 'source', row, tensors)
  hf.save(hf.load(source), str(tmp_path / 'target'))
  _assert_same_bits(_read(tmp_path / 'target'), want)


def test_a_copy_of_a_tied_embedding_is_no_other_model(
  hf_rows, hf_tensors, write_hf, tmp_path
):
  tensors = dict(hf_tensors['gemma2'])
  tensors['lm_head.weight'] = tensors['model.embed_tokens.weight'].copy()
  source = write_hf(tmp_path / 'source', hf_rows['gemma2'], tensors)
  hf.save(hf.load(source), str(tmp_path / 'target'))
  _assert_same_bits(_read(tmp_path / 'target'), hf_tensors['gemma2'])


# What must not be loaded: one line, before anything is compiled.

_QUERY = 'model.layers.1.self_attn.q_proj.weight'


def _missing(tensors, _):
  del tensors[_QUERY]


def _extra_layer(tensors, row):
  count = row['num_hidden_layers']
  tensors[f'model.layers.{count}.mlp.up_proj.weight'] = tensors[_QUERY]


def _extra_bias(tensors, _):
  tensors['model.layers.1.self_attn.q_proj.bias'] = np.ones(64, np.float32)


def _transposed(tensors, _):
  tensors[_QUERY] = np.ascontiguousarray(tensors[_QUERY].T)


def _one_column_less(tensors, _):
  tensors[_QUERY] = np.ascontiguousarray(tensors[_QUERY][:, :-1])


def _integers(tensors, _):
  tensors[_QUERY] = tensors[_QUERY].astype(np.int8)


def _other_names(tensors, _):
  for name in list(tensors):
    tensors[f'transformer.{name}'] = tensors.pop(name)


def _fewer_layers(_, row):
  row['num_hidden_layers'] = 4
  row['layer_types'] = row['layer_types'][:4]


def _more_layers(_, row):
  row['num_hidden_layers'] += 1
  row['layer_types'] = [*row['layer_types'], 'full_attention']


def _wider_heads(_, row):
  row['head_dim'] = 16


def _larger_vocabulary(_, row):
  row['vocab_size'] = 128


def _other_family(_, row):
  row['model_type'] = 'gemma2'
  row['rope_parameters'] = {'rope_type': 'default', 'rope_theta': 100.0}


def _unknown_family(_, row):
  row['model_type'] = 'mistral'


@pytest.mark.parametrize(
  ('harm', 'named'),
  [
    (_missing, f'tensor {_QUERY} is missing'),
    (_extra_layer, '.mlp.up_proj.weight is not of the model'),
    (_extra_bias, 'tensor model.layers.1.self_attn.q_proj.bias is not'),
    (_transposed, f'{_QUERY}: wanted shape (64, 32), as config.json states; '),
    (_one_column_less, 'got (64, 31)'),
    (
      _integers,
      f'{_QUERY}: wanted one of F64, F32, F16, BF16, F8_E4M3, F8_E5M2; got I8',
    ),
    (_other_names, 'wanted the tensor model.embed_tokens.weight; got transf'),
    (_fewer_layers, 'tensor model.layers.4.'),
    (_more_layers, 'self_attn.q_proj.weight is missing'),
    (_wider_heads, 'wanted shape (128, 32), as config.json states; got (64'),
    (_larger_vocabulary, 'wanted shape (128, 32), as config.json states; got'),
    (_other_family, 'self_attn.k_norm.weight is not'),
    (_unknown_family, 'config.json: model_type: wanted one of gemma, gemma2, '),
  ],
  ids=lambda value: getattr(value, '__name__', ''),
)
@pytest.mark.parametrize('scan', [False, True])
def test_refuses_weights_that_do_not_fit(
  harm, named, scan, hf_rows, hf_tensors, write_hf, tmp_path, nothing_compiled
):
  row, tensors = dict(hf_rows['gemma3']), dict(hf_tensors['gemma3'])
  harm(tensors, row)
  folder = write_hf(tmp_path, row, tensors)
  _assert_refused(folder, named, scan=scan)


def _assert_refused(folder, named, **options):
  with pytest.raises(errors.InputError) as caught:
    hf.load(folder, **options)
  assert named in str(caught.value)
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize('size', [0, 4, 7, 8, 100, 3000, -1])
def test_refuses_torn_files(size, hf_folders, tmp_path, nothing_compiled):
  source = pathlib.Path(hf_folders['gemma2', 'float32'])
  shutil.copy(source / 'config.json', tmp_path)
  data = (source / 'model.safetensors').read_bytes()
  path = tmp_path / 'model.safetensors'
  path.write_bytes(data[:size])
  _assert_refused(str(tmp_path), f'{path}: wanted a whole safetensors file')
  path.write_bytes(data + b'\0')
  _assert_refused(str(tmp_path), f'{path}: wanted a whole safetensors file')


@pytest.mark.parametrize('name', ['pytorch_model.bin', 'model.pt', 'a.pth'])
def test_refuses_pickled_weights(name, hf_folders, tmp_path, nothing_compiled):
  source = pathlib.Path(hf_folders['gemma2', 'float32'])
  shutil.copy(source / 'config.json', tmp_path)
  (tmp_path / name).write_bytes(b'\x80\x04.')
  _assert_refused(str(tmp_path), f'only {name}: pickles are refused')


def test_refuses_a_folder_without_weights(tmp_path, hf_folders):
  source = pathlib.Path(hf_folders['gemma2', 'float32'])
  _assert_refused(str(tmp_path), 'has no config.json')
  shutil.copy(source / 'config.json', tmp_path)
  _assert_refused(str(tmp_path), 'holds no *.safetensors.')


@pytest.mark.parametrize(
  ('text', 'named'),
  [
    ('[]', 'config.json: wanted an object; got []'),
    ('{"model_type": ', 'config.json: wanted JSON'),
    ('{}', 'config.json: model_type: wanted one of'),
  ],
)
def test_refuses_other_configs(text, named, tmp_path, nothing_compiled):
  (tmp_path / 'config.json').write_text(text)
  _assert_refused(str(tmp_path), named)


@pytest.mark.parametrize(
  ('text', 'named'),
  [
    ('{"weight_map": {"a": "b.safetensors"}}', 'the file b.safetensors'),
    ('{"weight_map": {"a": "../b.safetensors"}}', '../b.safetensors; missing'),
    ('{"weight_map": {"a": 7, "b": [1]}}', 'wanted {"weight_map"'),
    ('{"weight_map": []}', 'wanted {"weight_map"'),
    ('[]', 'wanted {"weight_map"'),
    ('{}', 'wanted {"weight_map"'),
  ],
)
def test_refuses_other_indices(text, named, hf_folders, tmp_path):
  source = pathlib.Path(hf_folders['gemma2', 'bfloat16'])
  shutil.copytree(source, tmp_path, dirs_exist_ok=True)
  path = tmp_path / 'model.safetensors.index.json'
  path.write_text(text)
  _assert_refused(str(tmp_path), named)
  _assert_refused(str(tmp_path), str(path))


def test_refuses_a_part_that_is_gone(hf_folders, tmp_path, nothing_compiled):
  source = pathlib.Path(hf_folders['gemma2', 'bfloat16'])
  shutil.copytree(source, tmp_path, dirs_exist_ok=True)
  name = 'model-00002-of-00003.safetensors'
  (tmp_path / name).unlink()
  _assert_refused(str(tmp_path), f'wanted the file {name}; missing')


def test_refuses_a_tensor_that_two_files_hold(hf_folders, tmp_path):
  source = pathlib.Path(hf_folders['gemma2', 'float32'])
  shutil.copytree(source, tmp_path, dirs_exist_ok=True)
  shutil.copy(source / 'model.safetensors', tmp_path / 'older.safetensors')
  _assert_refused(str(tmp_path), 'is also in')


@pytest.mark.parametrize(
  ('mesh', 'named'),
  [
    (
      'tensor=8',
      'tensor=8 does not divide num_kv_heads=4; tensor of 1, 2 or 4 would fit',
    ),
    (
      'fsdp=8',
      'fsdp=8 does not divide d_model=36; fsdp of 1, 2, 3, 4 or 6 would fit',
    ),
  ],
)
def test_refuses_a_mesh_that_does_not_divide(
  mesh, named, hf_rows, hf_tensors, write_hf, tmp_path, nothing_compiled
):
  row = hf_rows['gemma3']
  if 'd_model' in named:
    row = {**row, 'hidden_size': 36}
  folder = write_hf(tmp_path, row, hf_tensors['gemma3'])
  _assert_refused(folder, named, mesh=sharding.make_mesh(mesh))
