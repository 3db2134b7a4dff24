import json
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wcse_jax import errors, sharding
from wcse_jax.sft import store as stores


_FINGERPRINT = {'config': {'seed': 0, 'steps': 9}, 'rows': 'abc'}


def _tree(value):
  return (
    {'w': jnp.full((8, 4), value), 'a/b': jnp.arange(3.0) + value},
    [jnp.asarray(int(value), jnp.int32)],
  )


def _same(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  jax.tree.map(np.testing.assert_array_equal, a, b)


def _last(scores):
  return max(scores)


@pytest.fixture
def folder(tmp_path):
  """A folder with the checkpoints of steps 2, 4 and 6."""
  scores = {}
  with _open(tmp_path / 'checkpoints') as store:
    for step in (2, 4, 6):
      scores[step] = step / 8
      store.save(step, _tree(step), scores, step / 2)
  return tmp_path / 'checkpoints'


def _open(folder, best=_last):
  return stores.Store(str(folder), _FINGERPRINT, best)


def _data(folder, step):
  """Returns the largest file of a checkpoint: array data."""
  files = (p for p in (folder / f'{step:08d}').rglob('*') if p.is_file())
  return max(files, key=lambda path: path.stat().st_size)


def _flip(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)


def test_an_empty_folder_has_no_checkpoint(tmp_path):
  assert _open(tmp_path / 'none').newest() == (0, {}, 0.0)
  assert not (tmp_path / 'none').exists()


def test_what_is_saved_is_loaded(folder):
  store = _open(folder)
  assert store.newest() == (6, {2: 0.25, 4: 0.5, 6: 0.75}, 3.0)
  for step in (2, 4, 6):
    _same(store.load(step, _tree(0)), _tree(step))


def test_it_is_loaded_onto_the_mesh_of_the_target(folder):
  mesh = sharding.make_mesh('data=1', jax.devices()[:1])
  placed = jax.tree.map(
    lambda x: jax.device_put(
      x, jax.NamedSharding(mesh, jax.sharding.PartitionSpec())
    ),
    _tree(0),
  )
  found = _open(folder).load(4, placed)
  _same(found, _tree(4))
  assert {x.sharding for x in jax.tree.leaves(found)} == {
    x.sharding for x in jax.tree.leaves(placed)
  }


def test_a_checkpoint_can_be_written_again(folder):
  store = _open(folder)
  store.save(6, _tree(7), {6: 1.0}, 9.0)
  store.wait()
  assert store.newest() == (6, {6: 1.0}, 9.0)
  _same(store.load(6, _tree(0)), _tree(7))


@pytest.mark.parametrize(
  'fault',
  ['flip', 'tear', 'lose a file', 'add a file', 'no manifest', 'flip manifest'],
)
def test_a_damaged_checkpoint_is_passed_over_and_named(folder, caplog, fault):
  manifest = folder / '00000006.json'
  match fault:
    case 'flip':
      _flip(_data(folder, 6))
    case 'tear':
      path = _data(folder, 6)
      path.write_bytes(path.read_bytes()[:-1])
    case 'lose a file':
      _data(folder, 6).unlink()
    case 'add a file':
      (folder / '00000006' / 'more').write_text('')
    case 'no manifest':
      manifest.unlink()
    case 'flip manifest':
      text = manifest.read_text()
      manifest.write_text(text.replace('0.75', '0.25'))
      assert text != manifest.read_text()
  assert _open(folder).newest() == (4, {2: 0.25, 4: 0.5}, 2.0)
  assert '00000006: damaged or unfinished' in caplog.text


@pytest.mark.parametrize('text', ['', '{', '[]', '{"files": {}}', 'null'])
def test_a_manifest_that_is_none_is_passed_over(folder, text):
  (folder / '00000006.json').write_text(text)
  assert _open(folder).newest()[0] == 4


def test_every_flipped_byte_of_a_manifest_is_seen(folder):
  path = folder / '00000006.json'
  good = path.read_bytes()
  store = _open(folder)
  for place in range(0, len(good), 7):
    bad = bytearray(good)
    bad[place] ^= 1
    path.write_bytes(bad)
    if _loads(bad) != json.loads(good):  # White space does not count.
      assert store.newest()[0] == 4, place


def _loads(content):
  try:
    return json.loads(content)
  except ValueError:
    return None


def test_a_damaged_best_is_not_left_to_be_exported(folder, caplog):
  # The best so far is step 4: without it, what follows must be done again.
  _flip(_data(folder, 4))
  assert _open(folder, lambda s: min(4, max(s))).newest()[0] == 2
  assert '00000004: damaged or unfinished' in caplog.text
  assert _open(folder).newest()[0] == 6


def test_all_damaged_is_a_start_from_nothing(folder):
  for step in (2, 4, 6):
    _flip(_data(folder, step))
  assert _open(folder).newest() == (0, {}, 0.0)


def test_what_a_killed_save_left_does_not_count(folder):
  (folder / '00000008').mkdir()
  (folder / '00000008' / 'half').write_text('written')
  (folder / '00000009.orbax-checkpoint-tmp-0').mkdir()
  assert _open(folder).newest()[0] == 6
  store = _open(folder)
  store.save(8, _tree(8), {8: 1.0}, 0.0)
  store.wait()
  _same(store.load(8, _tree(0)), _tree(8))
  assert store.newest()[0] == 8


def test_the_checkpoints_of_another_run_are_refused(folder):
  before = {p: p.stat().st_mtime_ns for p in folder.rglob('*')}
  other = {'config': {'seed': 1, 'steps': 9}, 'rows': 'abc'}
  with pytest.raises(errors.InputError) as caught:
    stores.Store(str(folder), other, _last)
  assert 'config.seed: wanted 1, has 0' in str(caught.value)
  assert '\n' not in str(caught.value)
  assert {p: p.stat().st_mtime_ns for p in folder.rglob('*')} == before


def test_clear_removes_all(folder):
  store = _open(folder)
  store.clear()
  assert not pathlib.Path(folder).exists()
  store.clear()


def test_what_is_given_up_after_a_save_is_saved_as_it_was(tmp_path):
  spoil = jax.jit(
    lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0
  )
  tree = {'w': jnp.arange(1 << 20, dtype=jnp.float32)}
  want = jax.tree.map(np.array, tree)
  with _open(tmp_path / 'checkpoints') as store:
    store.save(1, tree, {1: 0.0}, 0.0)
    for _ in range(3):
      tree = spoil(tree)
    store.wait()
    _same(store.load(1, tree), want)


def test_the_newest_three_and_the_best_stay(tmp_path):
  def best(scores):
    return max(scores, key=scores.get)

  scores = {}
  with _open(tmp_path / 'checkpoints', best) as store:
    for step, score in enumerate((0.1, 0.9, 0.2, 0.3, 0.4, 0.5), 1):
      scores[step] = score
      store.save(step, _tree(step), scores, 0.0)
  names = sorted(p.name for p in (tmp_path / 'checkpoints').iterdir())
  kept = (2, 4, 5, 6)
  assert names == sorted(f'{k:08d}{end}' for k in kept for end in ('', '.json'))


def test_a_checkpoint_without_a_score_is_gone_on_from(tmp_path):
  with _open(tmp_path / 'checkpoints') as store:
    store.save(1, _tree(1), {}, 0.5)
  assert _open(tmp_path / 'checkpoints').newest() == (1, {}, 0.5)


def test_what_was_damaged_after_it_was_found_is_not_loaded(folder):
  store = _open(folder)
  assert store.newest()[0] == 6
  _flip(_data(folder, 6))
  with pytest.raises(errors.InputError, match='damaged or removed'):
    store.load(6, _tree(0))


def test_whatever_is_damaged_there_is_one_to_go_on_from(tmp_path):
  """The best of then is kept with each of the newest."""

  def best(scores):
    return max(scores, key=scores.get)

  scores = {}
  with _open(tmp_path / 'checkpoints', best) as store:
    for step, score in ((10, 0.5), (20, 0.6), (30, 0.4), (40, 0.3), (50, 0.7)):
      scores[step] = score
      store.save(step, _tree(step), scores, 0.0)
  _flip(_data(tmp_path / 'checkpoints', 50))
  assert _open(tmp_path / 'checkpoints', best).newest()[0] == 40


def test_a_score_that_is_not_finite_is_the_worst(tmp_path):
  with _open(tmp_path / 'checkpoints') as store:
    store.save(1, _tree(1), {1: -math.inf}, 0.0)
  assert _open(tmp_path / 'checkpoints').newest()[1] == {1: -math.inf}


def test_a_full_disk_is_an_error_of_the_system(tmp_path, monkeypatch):
  def full(*_):
    raise ValueError('OUT_OF_RANGE: Error writing: No space left on device')

  kind = stores.ocp.StandardCheckpointer
  with _open(tmp_path / 'checkpoints') as store:
    with monkeypatch.context() as patch:
      patch.setattr(kind, 'save', full)
      with pytest.raises(OSError, match='00000001: could not be written: OUT'):
        store.save(1, _tree(1), {}, 0.0)
