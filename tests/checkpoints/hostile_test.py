"""No weight file crashes or hangs a command, fills its memory, or runs code."""

import json
import os
import pathlib
import pickle
import shutil
import subprocess
import sys

import families
import gguf_models
import mutations
import numpy as np
import pytest

from wcse_jax import checkpoints, errors


class _Bomb:
  """Makes a file when it is unpickled."""

  def __init__(self, path):
    self.path = str(path)

  def __reduce__(self):
    return os.mkdir, (self.path,)


@pytest.fixture
def canary(tmp_path):
  """(path, pickled code that makes it)."""
  path = tmp_path / 'canary'
  payload = pickle.dumps(_Bomb(path))
  yield path, payload
  # The payload does work.
  pickle.loads(payload)
  assert path.exists()


@pytest.fixture
def sound(tmp_path):
  """A folder with a sound file of each format."""
  folder = tmp_path / 'sound'
  row = gguf_models.ROWS['gemma3'] | {
    'num_hidden_layers': 2,
    'layer_types': ['sliding_attention', 'full_attention'],
  }
  tensors = families.tensors(row)
  families.write(folder, row, tensors)
  (folder / 'model.safetensors').rename(folder / 'sound.safetensors')
  gguf_models.write(folder / 'sound.gguf', row, tensors, 'Q8_0')
  return folder


def _run(folder, seed, count, payload):
  """Returns the counts of a process that opens harmed files."""
  root = pathlib.Path(mutations.__file__).parents[1]
  path = os.pathsep.join([str(root), os.environ.get('PYTHONPATH', '')])
  done = subprocess.run(
    [
      *(sys.executable, mutations.__file__),
      *(str(folder), str(seed), str(count), payload.hex()),
    ],
    capture_output=True,
    text=True,
    env={**os.environ, 'PYTHONPATH': path},
  )
  assert done.returncode == 0, done.stderr[-2000:]
  return json.loads(done.stdout.splitlines()[-1])


def _check(found, count):
  assert found['bad'] is None
  for kind in ('gguf', 'safetensors'):
    opened = found.get(f'{kind} opened', 0)
    refused = found.get(f'{kind} refused', 0)
    assert opened + refused == count // 2
    # Harm that never or always shows would test nothing.
    assert opened > count // 2 // 100
    assert refused > count // 2 // 4
  assert found['slowest'] < mutations.SECONDS


def test_the_sound_files_are_opened(sound, tmp_path):
  mutations.open_gguf(str(sound / 'sound.gguf'))
  folder = tmp_path / 'folder'
  folder.mkdir()
  shutil.copy(sound / 'sound.safetensors', folder / 'model.safetensors')
  mutations.open_safetensors(str(folder))


def test_harmed_files_are_opened_or_refused(sound, canary):
  path, payload = canary
  _check(_run(sound, 0, 400, payload), 400)
  assert not path.exists()


@pytest.mark.slow
def test_twenty_thousand_harmed_files(sound, canary):
  path, payload = canary
  _check(_run(sound, 1, 20_000, payload), 20_000)
  assert not path.exists()


def test_the_process_is_held_to_its_memory(sound, tmp_path):
  # The inverse: what takes more does fail there.
  code = (
    'import mutations, numpy as np\n'
    'mutations.open_gguf = lambda _: np.ones(2 * mutations.MEMORY, "i1")\n'
    f'mutations.main({str(sound)!r}, "0", "2", "00")'
  )
  root = pathlib.Path(mutations.__file__).parents[1]
  path = os.pathsep.join([str(root), str(root / 'tests')])
  done = subprocess.run(
    [sys.executable, '-c', code],
    capture_output=True,
    text=True,
    env={**os.environ, 'PYTHONPATH': path},
  )
  found = json.loads(done.stdout)
  assert 'MemoryError' in found['bad']['why']


@pytest.mark.parametrize('name', ['x.gguf', 'model.safetensors'])
def test_pickles_under_other_names_are_refused(name, canary, tmp_path):
  path, payload = canary
  file = tmp_path / 'folder' / name
  file.parent.mkdir()
  file.write_bytes(payload)
  opened, at = {
    'x.gguf': (mutations.open_gguf, file),
    'model.safetensors': (mutations.open_safetensors, file.parent),
  }[name]
  with pytest.raises(errors.InputError, match='wanted a'):
    opened(str(at))
  assert not path.exists()


@pytest.mark.parametrize('name', ['sound.gguf', 'sound.safetensors'])
def test_every_flip_is_refused_where_there_is_a_manifest(name, sound):
  path = sound / name
  data = bytearray(path.read_bytes())
  digest = checkpoints.storage.sha256(str(path))
  manifest = {'files': {name: {'sha256': digest}}}
  (sound / 'manifest.json').write_text(json.dumps(manifest))
  checkpoints.verify(str(sound))
  rng = np.random.default_rng(0)
  for bit in rng.choice(8 * len(data), 200, replace=False).tolist():
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    with pytest.raises(errors.InputError) as caught:
      checkpoints.verify(str(sound))
    assert str(caught.value).startswith(f'{path}: corrupt: wanted sha256 ')
    data[bit // 8] ^= 1 << bit % 8
  path.write_bytes(data)
  checkpoints.verify(str(sound))
