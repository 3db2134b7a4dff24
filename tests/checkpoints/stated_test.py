"""What the files of a checkpoint state, without its weights and the network."""

import gguf
import huggingface_hub.constants
import pytest

from wcse_jax import checkpoints
from wcse_jax.checkpoints import card as cards


_CARD = '---\nlicense: gemma\nbase_model: google/gemma-3-270m\n---\n# Tuned\n'


def _gguf(path, **strings):
  writer = gguf.GGUFWriter(path, 'gemma3')
  for key, value in strings.items():
    writer.add_string(f'general.{key}', value)
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  return str(path)


def test_a_folder_states_its_licence(tmp_path):
  (tmp_path / 'README.md').write_text(_CARD)
  (tmp_path / 'LICENSE').write_text('terms')
  found = checkpoints.stated(str(tmp_path))
  assert (found.license, list(found.license_files)) == ('gemma', ['LICENSE'])
  assert found.license_link == cards.GEMMA_TERMS
  assert '`google/gemma-3-270m`' in found.notes[0]


def test_an_embedded_model_has_the_projects_licence():
  assert checkpoints.stated('tiny-wc').license == 'apache-2.0'


def test_a_gguf_file_states_it_in_its_header(tmp_path):
  path = _gguf(tmp_path / 'm.gguf', license='mit', name='M')
  found = checkpoints.stated(path)
  assert (found.license, found.base_model) == ('mit', ('M',))


@pytest.mark.parametrize('name', ['', 'nowhere', 'no/where.gguf', 'torn.gguf'])
def test_where_no_file_is_at_hand_nothing_is_stated(name, tmp_path):
  (tmp_path / 'torn.gguf').write_bytes(b'GGUF')
  checkpoint = str(tmp_path / name) if name == 'torn.gguf' else name
  assert checkpoints.stated(checkpoint) == cards.Card()


def test_of_the_hub_the_cache_is_asked_alone(tmp_path, monkeypatch):
  monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_CACHE', str(tmp_path))
  monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_OFFLINE', False)
  monkeypatch.setattr(
    huggingface_hub.constants, 'ENDPOINT', 'http://127.0.0.1:9'
  )
  assert checkpoints.stated('someone/tiny@v1') == cards.Card()
  model = tmp_path / 'models--someone--tiny'
  snapshot = model / 'snapshots' / ('a' * 40)
  snapshot.mkdir(parents=True)
  (model / 'refs').mkdir()
  (model / 'refs' / 'v1').write_text('a' * 40)
  (snapshot / 'README.md').write_text(_CARD)
  assert checkpoints.stated('someone/tiny@v1').license == 'gemma'
  assert checkpoints.stated('someone/tiny@v2') == cards.Card()


def test_what_is_a_name_of_the_hub(tmp_path, monkeypatch):
  assert checkpoints.hub_name('a/b@v1') == ('a/b', 'v1')
  assert checkpoints.hub_name('a/b') is None
  assert checkpoints.hub_name('tiny-wc') is None
  # A folder of that name comes first, as in `resolve`.
  (tmp_path / 'a' / 'b@v1').mkdir(parents=True)
  monkeypatch.chdir(tmp_path)
  assert checkpoints.hub_name('a/b@v1') is None
