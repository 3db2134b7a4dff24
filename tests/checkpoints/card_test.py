"""Cards pass on what a source states, and nothing else."""

import os
import time

import pytest
import yaml

from wcse_jax import checkpoints
from wcse_jax.checkpoints import card


_NOTICE = (
  b'Gemma is provided under and subject to the Gemma Terms of Use found at '
  b'ai.google.dev/gemma/terms'
)


def _folder(tmp_path, front=None, **files):
  folder = tmp_path / 'model-1b'
  folder.mkdir(exist_ok=True)
  if front is not None:
    (folder / 'README.md').write_text(f'---\n{front}\n---\n# Card\n')
  for name, text in files.items():
    (folder / name).write_text(text)
  return str(folder)


def _render(one, architecture='LlamaForCausalLM'):
  text = card.render(
    one,
    name='ours',
    architecture=architecture,
    parameters=1_234_567,
    dtype='bfloat16',
  )
  _, front, body = text.split('---\n', 2)
  return yaml.safe_load(front), body


def test_front_matter_is_read(tmp_path):
  folder = _folder(
    tmp_path,
    'license: other\nlicense_name: qwen\nlicense_link: https://x.org/LICENSE\n'
    'base_model: org/base\ntags: [a, b]\nlanguage:\n- en',
  )
  one = card.read(folder)
  assert one.base_model == ('model-1b',)
  assert (one.license, one.license_name) == ('other', 'qwen')
  assert one.license_link == 'https://x.org/LICENSE'
  assert len(one.notes) == 1
  assert 'org/base' in one.notes[0]
  front, body = _render(one)
  assert front == {
    'license': 'other',
    'license_name': 'qwen',
    'license_link': 'https://x.org/LICENSE',
    'base_model': ['model-1b'],
    'library_name': 'transformers',
    'tags': ['wcse_jax'],
  }
  assert '1,234,567 parameters in bfloat16' in body
  assert '`qwen` (https://x.org/LICENSE)' in body


@pytest.mark.parametrize(
  ('front', 'wanted'),
  [
    ('license: MIT', ('mit', '')),
    ('license: [mit]', ('mit', '')),
    ('license: [mit, apache-2.0]', ('other', 'mit, apache-2.0')),
    ('license: Apache License 2.0', ('other', 'Apache License 2.0')),
    # A boolean to a loader; here it is a word, and no licence is invented.
    ('license: no', ('no', '')),
    ('license:', ('', '')),
    ('license: null', ('', '')),
    ('license: {a: b}', ('', '')),
    ('licence: mit', ('', '')),
    ('license: "<script>x</script>"', ('other', '(script)x(/script)')),
    ('license: "a\\n---\\nlicense: mit"', ('other', 'a --- license: mit')),
  ],
)
def test_a_licence_as_stated(tmp_path, front, wanted):
  one = card.read(_folder(tmp_path, front))
  assert (one.license, one.license_name) == wanted


@pytest.mark.parametrize('link', ['javascript:x', 'LICENSE', '../x', 'x y'])
def test_a_link_that_leads_nowhere_is_dropped(tmp_path, caplog, link):
  one = card.read(_folder(tmp_path, f'license: other\nlicense_link: "{link}"'))
  assert one.license_link == ''
  assert 'license_link' in caplog.text


def test_a_link_to_a_file_of_terms_is_kept(tmp_path):
  front = 'license: other\nlicense_link: LICENSE'
  one = card.read(_folder(tmp_path, front, LICENSE='terms'))
  assert one.license_link == 'LICENSE'
  assert one.license_files == {'LICENSE': b'terms'}


def test_terms_are_copied_and_nothing_else(tmp_path):
  wanted = {
    'LICENSE': 'a',
    'LICENSE.md': 'b',
    'Notice.txt': 'c',
    'USE_POLICY.md': 'd',
    'GEMMA_TERMS_OF_USE.txt': 'e',
    'licence': 'f',
  }
  folder = _folder(
    tmp_path,
    'license: mit',
    **wanted,
    **{'license.py': 'x', 'model.safetensors': 'y', 'license_scan.json': 'z'},
  )
  os.mkdir(f'{folder}/LICENSES')
  os.mkfifo(f'{folder}/NOTICE')
  one = card.read(folder)
  assert one.license_files == {n: t.encode() for n, t in wanted.items()}
  found = card.files(
    one, name='ours', architecture='A', parameters=1, dtype='float32'
  )
  assert set(found) == {'README.md', *wanted}
  assert b'`USE_POLICY.md`' in found['README.md']


def test_terms_are_bounded(tmp_path, caplog):
  folder = _folder(tmp_path, None, LICENSE='x' * ((1 << 20) + 1), NOTICE='ok')
  for i in range(40):
    _folder(tmp_path, None, **{f'LICENSE-{i:02d}': 'x'})
  found = card.read(folder).license_files
  assert len(found) == 16
  assert 'LICENSE' not in found
  assert 'LICENSE of ' in caplog.text


@pytest.mark.parametrize(
  'front',
  [
    'license: [mit',
    '\tlicense: mit',
    'license: *nowhere',
    'a: &a [*a]\nlicense: [[[mit]]]',
    '- license: mit',
    'mit',
    '',
    '[' * 30_000,
    '{a: ' * 10_000,
    '- ' * 30_000,
    '? ' * 30_000,
    'license: !!python/object/apply:os.system ["touch hacked"]',
    'a: &a {x: 1}\n'
    + '\n'.join(
      f'{chr(98 + i)}: &{chr(98 + i)} {{<<: [*a, *a]}}' for i in range(9)
    ),
    'license: ' + 'x' * 200_000,
    'x: |\n' + ' y\n' * 3000,
    '\x00license: mit',
  ],
)
def test_hostile_front_matter_gives_no_licence(tmp_path, monkeypatch, front):
  monkeypatch.chdir(tmp_path)
  began = time.process_time()
  one = card.read(_folder(tmp_path, front))
  assert time.process_time() - began < 2
  assert one.license in ('', 'other')
  assert len(one.license_name) < 400
  assert not (tmp_path / 'hacked').exists()


def test_a_readme_that_is_none(tmp_path):
  folder = _folder(tmp_path)
  assert card.read(folder) == card.Card(base_model=('model-1b',))
  (tmp_path / 'model-1b' / 'README.md').write_bytes(b'---\xff\n\xfe---')
  assert card.read(folder).license == ''
  (tmp_path / 'model-1b' / 'README.md').write_text('# No front matter\n---\n')
  assert card.read(folder).license == ''
  os.remove(f'{folder}/README.md')
  os.mkfifo(f'{folder}/README.md')
  assert card.read(folder).license == ''


def test_gguf_metadata():
  one = card.read(
    {
      'general.name': 'Gemma 3 270m',
      'general.license': 'gemma',
      'general.base_model.count': 2,
      'general.base_model.0.name': 'Gemma 3 270m',
      'general.base_model.0.organization': 'Google',
      'general.base_model.0.repo_url': 'https://huggingface.co/google/gemma-3',
      'general.base_model.1.name': 'Other Model',
      'general.base_model.1.organization': 'Some Body',
      'general.file_type': 15,
    }
  )
  assert one.base_model == ('google/gemma-3', 'Some-Body/Other-Model')
  assert one.license == 'gemma'
  assert one.license_link == 'https://ai.google.dev/gemma/terms'
  assert 'quantised' in one.notes[0]
  assert not card.read({'general.file_type': 32}).notes


@pytest.mark.parametrize(
  'metadata',
  [
    {},
    {'general.license': 7, 'general.name': ['a']},
    {'general.base_model.count': 2**63, 'general.base_model.0.name': 5},
    {'general.base_model.count': -1},
    {'general.base_model.count': 'x'},
  ],
)
def test_gguf_metadata_that_says_nothing(metadata):
  one = card.read(metadata)
  assert one.base_model == ()
  assert one.license == ''


def test_a_long_gguf_text_is_cut():
  one = card.read({'general.name': '<b>' + 'x\n' * 10**6})
  assert len(one.base_model[0]) <= 300
  assert '\n' not in one.base_model[0]
  assert '<' not in one.base_model[0]


def test_gemma_terms_are_passed_on():
  one = card.Card(base_model=('google/gemma-3-270m',), license='gemma')
  found = card.files(
    one,
    name='ours',
    architecture='Gemma3ForCausalLM',
    parameters=1,
    dtype='float32',
  )
  assert _NOTICE in found['NOTICE']
  assert b'modified' in found['NOTICE']
  text = found['README.md'].decode()
  for wanted in (
    'license: gemma',
    'https://ai.google.dev/gemma/terms',
    'https://ai.google.dev/gemma/prohibited_use_policy',
    'No copy of the terms',
    '`NOTICE`',
  ):
    assert wanted in text
  with_terms = card.Card(
    license='gemma', license_files={'LICENSE': b'x', 'NOTICE': b'mine'}
  )
  found = card.files(
    with_terms, name='o', architecture='A', parameters=1, dtype='float32'
  )
  assert found['NOTICE'].startswith(b'mine\n' + _NOTICE)
  assert b'No copy of the terms' not in found['README.md']
  kept = {'Notice.txt': b'x ' + _NOTICE, 'LICENSE': b'x'}
  found = card.files(
    card.Card(license='gemma', license_files=kept),
    name='o',
    architecture='A',
    parameters=1,
    dtype='float32',
  )
  assert set(found) == {'README.md', *kept}


@pytest.mark.parametrize(
  ('architecture', 'gemma'),
  [
    ('GemmaForCausalLM', True),
    ('Gemma2ForCausalLM', True),
    ('Gemma3ForCausalLM', True),
    ('Gemma4ForCausalLM', False),
    ('Qwen2ForCausalLM', False),
  ],
)
def test_no_licence_is_invented(architecture, gemma):
  front, body = _render(card.Card(base_model=('x',)), architecture)
  assert 'license' not in front
  assert 'state no licence' in body
  assert ('ai.google.dev/gemma/terms' in body) == gemma


@pytest.mark.parametrize('name', checkpoints.EMBEDDED)
def test_the_embedded_models_have_the_projects_licence(name):
  one = card.read(checkpoints.resolve(name))
  assert one.base_model == (name,)
  assert one.license == 'apache-2.0'
  _, body = _render(one, 'Gemma2ForCausalLM')
  assert 'trained from scratch' in body
  assert 'gemma/terms' not in body


def test_what_was_trained_on_is_named():
  one = card.Card(
    base_model=('a', 'org/b'),
    data=('openai/gsm8k', '512 samples of tiny-wc on `arith`', 'x: y'),
    notes=('A note.',),
  )
  front, body = _render(one)
  assert front['base_model'] == ['a', 'org/b']
  assert front['datasets'] == ['openai/gsm8k']
  assert '- `512 samples of tiny-wc on arith`' in body
  assert 'trained further' in body
  assert 'A note.' in body
  _, body = _render(card.Card(base_model=('a',)))
  assert 'not trained further' in body
  _, body = _render(card.Card(data=('arith',)))
  assert 'trained from scratch' in body


def test_a_card_that_was_written_is_read_back(tmp_path):
  one = card.Card(base_model=('org/a',), license='other', license_name='a: "b')
  found = card.files(
    one, name='x', architecture='A', parameters=1, dtype='float32'
  )
  folder = _folder(tmp_path)
  (tmp_path / 'model-1b' / 'README.md').write_bytes(found['README.md'])
  again = card.read(folder)
  assert (again.license, again.license_name) == ('other', 'a: "b')
  assert '`org/a`' in again.notes[0]


def test_links_out_of_the_folder_are_not_followed(tmp_path):
  secret = tmp_path / 'secret.txt'
  secret.write_text('key')
  folder = tmp_path / 'model'
  folder.mkdir()
  (folder / 'LICENSE').symlink_to(secret)
  (folder / 'NOTICE').write_text('mine')
  assert card.read(str(folder)).license_files == {'NOTICE': b'mine'}
  # As a cache of the hub has it.
  snapshot = tmp_path / 'hub' / 'snapshots' / 'abc'
  snapshot.mkdir(parents=True)
  (tmp_path / 'hub' / 'blobs').mkdir()
  (tmp_path / 'hub' / 'blobs' / '12').write_text('terms')
  (snapshot / 'LICENSE').symlink_to('../../blobs/12')
  assert card.read(str(snapshot)).license_files == {'LICENSE': b'terms'}
