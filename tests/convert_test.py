"""What is converted is the same model, and nothing else is touched."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import yaml

from wcse_jax import checkpoints, convert, errors, storage


ROOT = pathlib.Path(__file__).parents[1]


def _weights(folder):
  return safetensors.numpy.load_file(f'{folder}/model.safetensors')


def _tree(folder):
  """Returns the contents under a folder, by path."""
  return {
    str(path.relative_to(folder)): path.read_bytes()
    for path in sorted(pathlib.Path(folder).rglob('*'))
    if path.is_file()
  }


@pytest.fixture
def source(tmp_path):
  """A copy of an embedded model, with terms beside it."""
  folder = tmp_path / 'source'
  shutil.copytree(checkpoints.resolve('tiny-wc'), folder)
  (folder / 'manifest.json').unlink()
  (folder / 'LICENSE').write_text('the terms\n')
  front = {'license': 'apache-2.0', 'base_model': 'somebody/tiny'}
  (folder / 'README.md').write_text(f'---\n{yaml.safe_dump(front)}---\nText.\n')
  return str(folder)


@pytest.mark.parametrize('name', checkpoints.EMBEDDED)
def test_a_folder_is_written_anew(tmp_path, name):
  target = str(tmp_path / 'target') + '/'
  result = convert.convert(convert.ConvertConfig(), name, target)
  folder = checkpoints.resolve(name)
  before, after = _weights(folder), _weights(target)
  assert set(before) == set(after)
  for tensor, values in before.items():
    assert after[tensor].dtype == values.dtype
    assert after[tensor].tobytes() == values.tobytes()
  assert checkpoints.read_config(target) == checkpoints.read_config(name)
  file = 'generation_config.json'
  assert storage.read_json(target + file) == storage.read_json(
    f'{folder}/{file}'
  )
  text = 'Ann has 3 apples.'
  _, old = checkpoints.load(name)
  _, new = checkpoints.load(target)
  assert old.encode(text) == new.encode(text)
  assert old.end_ids == new.end_ids
  count = sum(values.size for values in before.values())
  assert result == {
    'target': target,
    'format': 'hf',
    'dtype': 'float32',
    'written': True,
    'parameters': count,
    'bytes': 4 * count,
  }
  assert f'float32 of {count:,} parameters' in convert.line(result)
  card = (tmp_path / 'target' / 'README.md').read_text()
  assert 'license: apache-2.0' in card
  assert name in card


def test_a_folder_is_the_same_after_orbax(tmp_path, source):
  between, target = str(tmp_path / 'a-orbax'), str(tmp_path / 'b')
  config = convert.ConvertConfig()
  result = convert.convert(config, source, between)
  assert (result['format'], result['dtype']) == ('orbax', 'float32')
  assert not convert.convert(config, source, between)['written']
  assert convert.convert(config, between, target)['dtype'] == 'float32'
  before, after = _weights(source), _weights(target)
  assert set(before) == set(after)
  for tensor, values in before.items():
    assert after[tensor].tobytes() == values.tobytes()
  assert storage.read_text(f'{target}/LICENSE') == 'the terms\n'


def test_the_terms_of_the_source_are_passed_on(tmp_path, source):
  target = tmp_path / 'target'
  convert.convert(convert.ConvertConfig(), source, str(target))
  assert (target / 'LICENSE').read_text() == 'the terms\n'
  card = (target / 'README.md').read_text()
  front = yaml.safe_load(card.split('---')[1])
  assert front['license'] == 'apache-2.0'
  assert front['base_model'] == ['source']
  assert '`somebody/tiny`' in card
  checkpoints.verify(str(target))
  manifest = storage.read_json(str(target / 'manifest.json'))
  assert {'LICENSE', 'README.md', 'conversion.json'} <= set(manifest['files'])


@pytest.mark.parametrize(
  ('stored', 'asked', 'wanted'),
  [
    ('bfloat16', '', 'bfloat16'),
    ('float16', '', 'float16'),
    ('float32', 'bfloat16', 'bfloat16'),
    ('bfloat16', 'float32', 'float32'),
  ],
)
def test_the_type_is_that_of_the_source_unless_told(
  tmp_path, source, stored, asked, wanted
):
  types = {
    'float32': np.float32,
    'bfloat16': ml_dtypes.bfloat16,
    'float16': np.float16,
  }
  before = {n: v.astype(types[stored]) for n, v in _weights(source).items()}
  safetensors.numpy.save_file(
    before, f'{source}/model.safetensors', metadata={'format': 'pt'}
  )
  target = str(tmp_path / 'target')
  result = convert.convert(convert.ConvertConfig(dtype=asked), source, target)
  assert result['dtype'] == wanted
  assert storage.read_json(f'{target}/config.json')['dtype'] == wanted
  after = _weights(target)
  for name, values in before.items():
    assert after[name].dtype == types[wanted]
    assert np.array_equal(after[name], values.astype(types[wanted]))


def test_weights_of_a_rarer_type_are_mentioned(tmp_path, source, caplog):
  before = _weights(source)
  norm = 'model.norm.weight'
  before = {
    n: v if n == norm else v.astype(ml_dtypes.bfloat16)
    for n, v in before.items()
  }
  safetensors.numpy.save_file(
    before, f'{source}/model.safetensors', metadata={'format': 'pt'}
  )
  result = convert.convert(
    convert.ConvertConfig(), source, str(tmp_path / 'target')
  )
  assert result['dtype'] == 'bfloat16'
  assert f'{before[norm].size} of ' in caplog.text
  assert 'F32' in caplog.text


def test_a_finished_conversion_is_left_alone(tmp_path, source):
  target = tmp_path / 'target'
  config = convert.ConvertConfig()
  convert.convert(config, source, str(target))
  stamps = {p: p.stat().st_mtime_ns for p in target.rglob('*')}
  result = convert.convert(config, source, f'{target}/')
  assert not result['written']
  assert 'already' in convert.line(result)
  assert {p: p.stat().st_mtime_ns for p in target.rglob('*')} == stamps
  for other in (
    convert.ConvertConfig(dtype='bfloat16'),
    convert.ConvertConfig(format='orbax'),
  ):
    with pytest.raises(errors.InputError, match='another conversion'):
      convert.convert(other, source, str(target))
  with pytest.raises(errors.InputError, match='another conversion'):
    convert.convert(config, 'tiny-se', str(target))
  assert {p: p.stat().st_mtime_ns for p in target.rglob('*')} == stamps


@pytest.mark.parametrize('harm', ['flip', 'no manifest', 'cut short'])
def test_the_rest_of_a_conversion_is_done_again(tmp_path, source, harm):
  target = tmp_path / 'target'
  config = convert.ConvertConfig()
  convert.convert(config, source, str(target))
  whole = _tree(target)
  weights = target / 'model.safetensors'
  if harm == 'flip':
    flipped = bytearray(weights.read_bytes())
    flipped[-5] ^= 1
    weights.write_bytes(flipped)
  else:
    (target / 'manifest.json').unlink()
  if harm == 'cut short':
    weights.unlink()
    # What a killed writer leaves.
    (target / f'.model.safetensors.{"0" * 16}.tmp').write_bytes(b'half')
  assert convert.convert(config, source, str(target))['written']
  assert _tree(target) == whole


@pytest.mark.parametrize('kill_at', [1, 2, 5, 8])
def test_a_conversion_that_failed_goes_on(
  tmp_path, source, monkeypatch, kill_at
):
  whole = tmp_path / 'whole'
  target = tmp_path / 'target'
  target.mkdir()
  config = convert.ConvertConfig()
  publish = storage.publish
  calls = []

  def failing(path, content):
    calls.append(path)
    if len(calls) == kill_at:
      raise OSError('no space left')
    return publish(path, content)

  with monkeypatch.context() as patch:
    patch.setattr(storage, 'publish', failing)
    with pytest.raises(OSError, match='no space'):
      convert.convert(config, source, str(target))
  assert not (target / 'manifest.json').exists()
  assert convert.convert(config, source, str(target))['written']
  convert.convert(config, source, str(whole))
  ours, theirs = _tree(target), _tree(whole)
  # The card has the folder's name.
  for tree in (ours, theirs):
    del tree['README.md'], tree['manifest.json']
  assert ours == theirs


@pytest.mark.parametrize(
  ('source_', 'target', 'wanted'),
  [
    ('', '{tmp}/target', '--source'),
    ('{source}', '', '--target'),
    ('{tmp}/none', '{tmp}/target', 'checkpoint: wanted'),
    ('tiny-xx', '{tmp}/target', "'tiny-xx'"),
    ('{source}', '{source}', 'another path'),
    ('{source}', '{source}/', 'another path'),
    ('{source}', '{tmp}/./link', 'another path'),
    ('{source}', '{source}/inner', 'outside'),
    ('{source}', '{tmp}/link/inner', 'outside'),
    ('{source}', '{tmp}', "holds 'file'"),
    ('{source}', '{tmp}/full', "holds 'thesis.tex'"),
    ('{source}', '{tmp}/file', 'is a file'),
  ],
)
def test_what_does_not_fit_is_refused(
  tmp_path, source, nothing_compiled, source_, target, wanted
):
  (tmp_path / 'full').mkdir()
  (tmp_path / 'full' / 'thesis.tex').write_text('mine')
  (tmp_path / 'file').write_text('mine')
  (tmp_path / 'link').symlink_to(source)
  before = _tree(tmp_path)
  names = {'tmp': tmp_path, 'source': source}
  with pytest.raises(errors.InputError, match=wanted) as caught:
    convert.convert(
      convert.ConvertConfig(), source_.format(**names), target.format(**names)
    )
  assert '\n' not in str(caught.value)
  assert _tree(tmp_path) == before
  assert not (tmp_path / 'target').exists()


@pytest.mark.parametrize(
  ('fields', 'wanted'),
  [
    ({'dtype': 'int8'}, 'dtype: wanted one of float32, bfloat16, float16'),
    ({'format': 'gguf'}, 'format: wanted one of hf, orbax'),
    ({'mesh': 'data=3'}, 'mesh'),
  ],
)
def test_fields_are_checked(tmp_path, fields, wanted):
  config = convert.ConvertConfig(**fields)
  with pytest.raises(errors.InputError, match=wanted):
    convert.convert(config, 'tiny-wc', str(tmp_path / 'target'))
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ('target', 'asked', 'wanted'),
  [
    ('a/model/', '', 'hf'),
    ('a/model', '', 'hf'),
    ('a/model-orbax', '', 'orbax'),
    ('a/orbax/', '', 'orbax'),
    ('a.orbax/model', '', 'hf'),
    ('a/orbax', 'hf', 'hf'),
    ('a/model', 'orbax', 'orbax'),
  ],
)
def test_the_format_follows_the_name(target, asked, wanted):
  config = convert.ConvertConfig(format=asked)
  assert convert.format_of(config, target) == wanted


def test_the_command(tmp_path):
  def launch(*arguments):
    return subprocess.Popen(
      [sys.executable, str(ROOT / 'launch' / 'convert.py'), *arguments],
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      cwd=ROOT,
      env=os.environ | {'XLA_FLAGS': ''},
    )

  target, workdir = tmp_path / 'out', tmp_path / 'run'
  (tmp_path / 'thesis.tex').write_text('mine')
  refused = launch('--source=tiny-wc', f'--target={tmp_path}')
  done = launch(
    '--source=tiny-wc', f'--target={target}', f'--workdir={workdir}'
  )
  out, err = done.communicate(timeout=60)
  assert done.returncode == 0, err
  assert len(out.splitlines()) == 1
  assert str(target) in out
  config = json.loads((workdir / 'config.json').read_text())
  assert config == {'dtype': '', 'format': '', 'seed': 0, 'mesh': ''}
  out, err = refused.communicate(timeout=60)
  assert refused.returncode == 2
  assert not out
  assert err.count('--target: wanted a new or empty folder') == 1
