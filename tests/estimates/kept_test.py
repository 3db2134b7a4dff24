import json
import os

import pytest

from wcse_jax.estimates import kept


@pytest.fixture
def made():
  return []


def _get(made, key, value=1):
  def make():
    made.append(key)
    return {'value': value}

  return kept.get(key, make)


def test_figures_are_made_once(folder, made):
  assert _get(made, {'a': (1, 2)}) == {'value': 1}
  assert _get(made, {'a': (1, 2)}, 5) == {'value': 1}
  assert len(made) == 1
  assert len(os.listdir(folder)) == 1


def test_another_key_is_another_figure(made):
  _get(made, {'a': 1, 'b': 0.5})
  assert _get(made, {'a': 1, 'b': 0.25}, 5) == {'value': 5}
  assert _get(made, {'b': 0.5, 'a': 1}, 7) == {'value': 1}


def test_another_version_makes_them_again(made, monkeypatch):
  _get(made, {'a': 1})
  versions = kept.versions()
  assert {'wcse_jax', 'jax', 'libtpu', 'code'} <= {*versions}
  for name in ('jax', 'libtpu', 'code'):
    monkeypatch.setattr(
      kept, 'versions', lambda name=name: {**versions, name: 'other'}
    )
    assert _get(made, {'a': 1}, name) == {'value': name}


@pytest.mark.parametrize('text', ['', '{"key": 1', '[]', '{"value": {}}'])
def test_a_broken_file_is_made_again(folder, made, text):
  _get(made, {'a': 1})
  (name,) = os.listdir(folder)
  (folder / name).write_text(text)
  assert _get(made, {'a': 1}, 5) == {'value': 5}
  assert _get(made, {'a': 1}, 6) == {'value': 5}


def test_a_file_says_what_it_is_of(folder, made):
  _get(made, {'a': 1})
  (name,) = os.listdir(folder)
  found = json.loads((folder / name).read_text())
  assert found['key'] == {'a': 1, 'versions': kept.versions()}


def test_a_folder_that_may_not_be_written_stops_nothing(
  folder, made, monkeypatch
):
  folder.write_text('a file')
  assert _get(made, {'a': 1}) == {'value': 1}
  assert _get(made, {'a': 1}, 5) == {'value': 5}


def test_the_folder_is_the_users_unless_named(monkeypatch):
  monkeypatch.delenv(kept.FOLDER)
  monkeypatch.setenv('HOME', '/home/someone')
  assert kept.folder() == '/home/someone/.cache/wcse_jax'


def test_failures_are_not_kept(folder, made):
  def fail():
    raise ValueError('no')

  with pytest.raises(ValueError, match='no'):
    kept.get({'a': 1}, fail)
  assert _get(made, {'a': 1}) == {'value': 1}
