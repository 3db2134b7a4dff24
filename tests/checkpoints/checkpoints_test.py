import json
import pathlib
import shutil

import numpy as np
import pytest

from wcse_jax import checkpoints, errors
from wcse_jax import tokenizer as tokenizers
from wcse_jax.checkpoints import hf


def _add_tokenizer(folder, words=()):
  """Writes the tokenizer's three files."""
  text = tokenizers.word_tokenizer(words)
  (folder / 'tokenizer.json').write_text(text)
  fields = {'eos_token': '<eos>', 'bos_token': '<bos>'}
  (folder / 'tokenizer_config.json').write_text(json.dumps(fields))
  fields = {'eos_token_id': [1, 5]}
  (folder / 'generation_config.json').write_text(json.dumps(fields))


@pytest.fixture(scope='module')
def source(tmp_path_factory, hf_rows, hf_tensors, write_hf):
  """A folder of a model that is large enough for the tokenizer."""
  folder = tmp_path_factory.mktemp('source')
  tensors = dict(hf_tensors['gemma3'])
  table_VD = tensors['model.embed_tokens.weight']
  tensors['model.embed_tokens.weight'] = np.tile(table_VD, (5, 1))
  row = {**hf_rows['gemma3'], 'vocab_size': 5 * len(table_VD)}
  write_hf(folder, row, tensors)
  _add_tokenizer(folder, ['apples'])
  return str(folder)


@pytest.fixture
def exported(source, tmp_path):
  """An export of `source`, to be harmed."""
  folder = tmp_path / 'export'
  checkpoints.export(*checkpoints.load(source), str(folder))
  return folder


def _refusal(call, *args, **options):
  with pytest.raises(errors.InputError) as caught:
    call(*args, **options)
  assert '\n' not in str(caught.value)
  return str(caught.value)


def test_export_loads_back_the_same(source, exported, nothing_compiled):
  model, tokenizer = checkpoints.load(str(exported))
  first, first_tokenizer = checkpoints.load(source)
  for (name, got), (wanted, want) in zip(
    hf.tensors(model, 'float32'), hf.tensors(first, 'float32'), strict=True
  ):
    assert name == wanted
    assert got.tobytes() == want.tobytes()
  assert model.config == first.config
  assert tokenizer.sha256 == first_tokenizer.sha256
  # The end tokens of all files, though config.json has only one.
  assert tokenizer.end_ids == first_tokenizer.end_ids == (1, 5)


def test_manifest_names_every_file(exported):
  manifest = json.loads((exported / 'manifest.json').read_text())
  found = {path.name for path in exported.iterdir()}
  assert manifest['files'].keys() == found - {'manifest.json'}
  assert {'config.json', 'model.safetensors', 'tokenizer.json'} <= found


@pytest.mark.parametrize(
  'name',
  [
    'config.json',
    'generation_config.json',
    'model.safetensors',
    'tokenizer.json',
    'tokenizer_config.json',
  ],
)
def test_one_flipped_byte_is_found(name, exported, nothing_compiled):
  checkpoints.verify(str(exported))
  path = exported / name
  whole = path.read_bytes()
  for at in (0, len(whole) // 2, len(whole) - 1):
    data = bytearray(whole)
    data[at] ^= 1
    path.write_bytes(data)
    message = _refusal(checkpoints.load, str(exported))
    assert message.startswith(f'{path}: corrupt: wanted sha256 ')
  path.write_bytes(whole[:-1])
  assert 'corrupt' in _refusal(checkpoints.load, str(exported))
  path.unlink()
  message = _refusal(checkpoints.load, str(exported))
  assert message.endswith(f'manifest.json: names {name}, which is missing.')


def test_without_the_manifest_a_flip_goes_unnoticed(exported):
  path = exported / 'model.safetensors'
  data = bytearray(path.read_bytes())
  data[-1] ^= 1
  path.write_bytes(data)
  (exported / 'manifest.json').unlink()
  # The inverse of the test above: nothing else would find it.
  checkpoints.load(str(exported))


@pytest.mark.parametrize(
  'text', ['[]', '{}', '{"files": []}', '{"files": {"a": 1}}', '{"files"']
)
def test_a_broken_manifest_is_refused(text, exported, nothing_compiled):
  path = exported / 'manifest.json'
  path.write_text(text)
  assert _refusal(checkpoints.load, str(exported)).startswith(f'{path}: wanted')


def test_an_export_that_was_cut_short_has_no_manifest(exported, monkeypatch):
  model, tokenizer = checkpoints.load(str(exported))

  def fail(*_):
    raise OSError('disk full')

  monkeypatch.setattr(tokenizers, 'save', fail)
  with pytest.raises(OSError, match='disk full'):
    checkpoints.export(model, tokenizer, str(exported))
  assert not (exported / 'manifest.json').exists()


@pytest.mark.parametrize('name', ['', 'tiny', 'no/such/folder', 'TINY-WC'])
def test_an_unknown_checkpoint_is_named(name, nothing_compiled):
  message = _refusal(checkpoints.load, name)
  assert message.startswith(
    'checkpoint: wanted a Hugging Face folder, a .gguf file, '
  )
  for known in checkpoints.EMBEDDED:
    assert known in message
  assert repr(name) in message


def test_a_file_is_no_checkpoint(source):
  path = str(pathlib.Path(source, 'config.json'))
  assert repr(path) in _refusal(checkpoints.load, path)


def test_a_tokenizer_larger_than_the_embedding_is_refused(
  hf_folders, tmp_path, nothing_compiled
):
  shutil.copytree(hf_folders['gemma3', 'float32'], tmp_path, dirs_exist_ok=True)
  _add_tokenizer(tmp_path)
  size = checkpoints.tokenizers.load(str(tmp_path)).size
  message = _refusal(checkpoints.load, str(tmp_path))
  assert f'the tokenizer has {size} ids, more than the 64 rows' in message


def test_a_folder_without_a_tokenizer_is_refused(hf_folders, nothing_compiled):
  message = _refusal(checkpoints.load, hf_folders['gemma3', 'float32'])
  assert 'has no tokenizer.json' in message


def test_pickled_weights_are_refused(source, tmp_path, nothing_compiled):
  shutil.copytree(source, tmp_path, dirs_exist_ok=True)
  (tmp_path / 'model.safetensors').unlink()
  (tmp_path / 'pytorch_model.bin').write_bytes(b'\x80\x04.')
  message = _refusal(checkpoints.load, str(tmp_path))
  assert 'only pytorch_model.bin: pickles are refused' in message


def test_fingerprint_is_of_what_decides_a_sample(source, tmp_path):
  shutil.copytree(source, tmp_path, dirs_exist_ok=True)
  want = checkpoints.fingerprint(source)
  (tmp_path / 'README.md').write_text('other')
  assert checkpoints.fingerprint(str(tmp_path)) == want
  for name, part in (
    ('model.safetensors', 'weights'),
    ('config.json', 'weights'),
    ('tokenizer.json', 'tokenizer'),
    # Says which tokens end a sample.
    ('generation_config.json', 'tokenizer'),
    ('tokenizer_config.json', 'tokenizer'),
  ):
    path = tmp_path / name
    whole = path.read_bytes()
    path.write_bytes(whole + b' ')
    got = checkpoints.fingerprint(str(tmp_path))
    assert {key for key in want if got[key] != want[key]} == {part}, name
    path.write_bytes(whole)
