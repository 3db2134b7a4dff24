"""Texts in, finished parts, one npz out."""

import json
import zipfile

import numpy as np
import pytest

from wcse_jax import checkpoints, errors, scorefiles, storage
from wcse_jax import tokenizer as tokenizers
from wcse_jax.sft import data


@pytest.fixture(scope='module')
def tokenizer():
  return tokenizers.load(checkpoints.resolve('tiny-wc'))


def _write(path, rows):
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return str(path)


def _encode(path, tokenizer, **limits):
  rows, _ = scorefiles.read(path)
  limits = {'max_length': 100, 'vocab_size': 352} | limits
  return scorefiles.encode(rows, tokenizer, path, **limits)


def test_tokens_are_used_as_given(tmp_path, tokenizer):
  path = tmp_path / 'texts.jsonl'
  path.write_text('\n{"tokens": [7, 7, 1], "id": "a"}\r\n\n{"tokens": [9]}')
  texts = _encode(str(path), tokenizer)
  assert [text.tokens_T.tolist() for text in texts] == [[7, 7, 1], [9]]
  assert [text.number for text in texts] == [2, 4]
  assert [text.completion_start for text in texts] == [None, None]
  assert texts[0].tokens_T.dtype == np.int32


def test_a_completion_is_encoded_as_for_training(tmp_path, tokenizer):
  rows = [
    {'prompt': 'Q: 3 + 4?\nA:', 'completion': ' 7 <eos> apples.'},
    {'tokens': [5, 6]},
    {'prompt': '', 'completion': ' The answer is 7.'},
  ]
  texts = _encode(_write(tmp_path / 'texts.jsonl', rows), tokenizer)
  examples = [data.Example(**row) for row in rows if 'prompt' in row]
  wanted, _ = data.encode(examples, tokenizer, 100)
  for text, one in zip((texts[0], texts[2]), wanted, strict=True):
    assert tuple(text.tokens_T) == one.tokens
    assert text.completion_start == one.prompt_tokens
  assert texts[0].tokens_T[-1] == tokenizer.end_id
  assert texts[0].tokens_T[0] == tokenizer.start_ids[0]


def test_a_completion_is_one_space_and_the_stripped_text(tmp_path, tokenizer):
  rows = [
    {'prompt': 'A:', 'completion': text} for text in ('7', ' 7', '\n 7 \n')
  ]
  first, *others = _encode(_write(tmp_path / 'texts.jsonl', rows), tokenizer)
  for text in others:
    assert np.array_equal(text.tokens_T, first.tokens_T)


@pytest.mark.parametrize(
  ('line', 'wanted'),
  [
    ('nonsense', 'wanted an object'),
    ('[' * 100_000, 'wanted an object'),
    ('[1, 2]', 'wanted an object'),
    ('{}', 'wanted an object'),
    ('{"token": [1]}', 'wanted an object'),
    ('{"prompt": "a"}', 'wanted an object'),
    ('{"tokens": [1], "prompt": "a", "completion": "b"}', 'wanted an object'),
    ('{"tokens": []}', 'wanted a list'),
    ('{"tokens": "12"}', 'wanted a list'),
    ('{"tokens": [1, true]}', 'got True'),
    ('{"tokens": [1, 2.0]}', 'got 2.0'),
    ('{"tokens": [1, -1]}', 'got -1'),
    ('{"tokens": [1, null]}', 'got None'),
    ('{"tokens": [[1]]}', r'got \[1\]'),
    (f'{{"tokens": [{10**30}]}}', 'wanted token ids'),
    (f'{{"tokens": [{"1" * 5000}]}}', 'wanted an object'),
    ('{"prompt": 1, "completion": "b"}', 'prompt: wanted a text'),
    ('{"prompt": "a", "completion": null}', 'completion: wanted a text'),
    ('{"prompt": "a", "completion": " \\n"}', 'it is empty'),
    ('{"prompt": "\\ud800", "completion": "b"}', 'prompt: wanted a text'),
  ],
)
def test_a_bad_row_is_named(tmp_path, line, wanted):
  path = tmp_path / 'texts.jsonl'
  path.write_text('{"tokens": [1]}\n\n' + line + '\n')
  with pytest.raises(errors.InputError, match=wanted) as caught:
    scorefiles.read(str(path))
  message = str(caught.value)
  assert message.startswith(f'{path}: row 3: ')
  assert '\n' not in message
  assert len(message) < 400


def test_a_file_that_is_none_is_named(tmp_path):
  with pytest.raises(errors.InputError, match=r'none\.jsonl: wanted a file'):
    scorefiles.read(str(tmp_path / 'none.jsonl'))
  path = tmp_path / 'texts.jsonl'
  path.write_text('\n \n')
  with pytest.raises(errors.InputError, match='it is empty'):
    scorefiles.read(str(path))
  path.write_bytes(b'{"tokens": [1]}\n\xff\n')
  with pytest.raises(errors.InputError, match='UTF-8'):
    scorefiles.read(str(path))


def test_what_does_not_fit_the_model_is_named(tmp_path, tokenizer):
  path = _write(
    tmp_path / 'texts.jsonl', [{'tokens': [1]}, {'tokens': [3, 9, 4]}]
  )
  with pytest.raises(errors.InputError, match=r'row 2: .* at most 2 .* got 3'):
    _encode(path, tokenizer, max_length=2)
  with pytest.raises(errors.InputError, match=r'row 2: .* below 9, .* got 9'):
    _encode(path, tokenizer, vocab_size=9)
  assert len(_encode(path, tokenizer, max_length=3, vocab_size=10)) == 2


def test_parts_of_the_same_key_are_taken_over(tmp_path, caplog):
  folder = str(tmp_path / 'out.parts')
  values = np.arange(5, dtype=np.float32)
  scorefiles.Parts(folder, {'a': 1, 'b': ('x',)}).put(
    'batch-0', values, values[:2]
  )
  parts = scorefiles.Parts(folder, {'a': 1, 'b': ('x',)})
  found = np.frombuffer(parts.get('batch-0', 28), np.float32)
  assert np.array_equal(found, [0, 1, 2, 3, 4, 0, 1])
  assert parts.get('batch-1', 28) is None
  assert not caplog.records


@pytest.mark.parametrize('harm', ['other key', 'no key', 'torn key'])
def test_parts_of_another_key_are_discarded(tmp_path, caplog, harm):
  folder = str(tmp_path / 'out.parts')
  scorefiles.Parts(folder, {'a': 1}).put('batch-0', np.zeros(1))
  key = {'a': 2 if harm == 'other key' else 1}
  if harm == 'no key':
    storage.remove(f'{folder}/key.json')
  if harm == 'torn key':
    storage.publish(f'{folder}/key.json', '{"a":')
  parts = scorefiles.Parts(folder, key)
  assert parts.get('batch-0', 8) is None
  assert storage.names(folder) == ['key.json']
  assert len(caplog.records) == 1
  parts.put('batch-0', np.zeros(1))
  assert scorefiles.Parts(folder, key).get('batch-0', 8) == bytes(8)


def test_nothing_but_parts_is_ever_removed(tmp_path):
  folder = tmp_path / 'out.parts'
  folder.mkdir()
  (folder / 'thesis.tex').write_text('mine')
  with pytest.raises(errors.InputError, match=r'thesis\.tex'):
    scorefiles.Parts(str(folder), {'a': 1})
  assert (folder / 'thesis.tex').read_text() == 'mine'


@pytest.mark.parametrize('harm', ['flip', 'cut', 'empty', 'more'])
def test_a_corrupt_part_counts_as_missing(tmp_path, caplog, harm):
  folder = tmp_path / 'out.parts'
  parts = scorefiles.Parts(str(folder), {})
  parts.put('batch-0', np.zeros(4, np.float32))
  path = folder / 'batch-0'
  whole = bytearray(path.read_bytes())
  if harm == 'flip':
    whole[-3] ^= 1
  cut = {'flip': whole, 'cut': whole[:-1], 'empty': b'', 'more': whole + b'0'}
  path.write_bytes(cut[harm])
  assert parts.get('batch-0', 16) is None
  assert 'corrupt' in caplog.text


def _members():
  one_TV = np.arange(6, dtype=np.float32).reshape(3, 2)
  yield scorefiles.Member(
    'a', one_TV.dtype, one_TV.shape, iter([one_TV[:2].tobytes(), one_TV[2:]])
  )
  yield scorefiles.Member.of('b', np.array(7, np.int64))
  yield scorefiles.Member.of('c', np.zeros(0, np.float32))


@pytest.mark.parametrize('bucket', [False, True])
def test_an_npz_is_read_by_numpy_and_its_bytes_are_fixed(tmp_path, bucket):
  root = f'memory://{tmp_path.name}-npz' if bucket else str(tmp_path)
  first, second = f'{root}/deep/1.npz', f'{root}/2.npz'
  scorefiles.write_npz(first, _members())
  scorefiles.write_npz(second, _members())
  assert storage.read_bytes(first) == storage.read_bytes(second)
  with storage.local(first) as path, zipfile.ZipFile(path) as archive:
    assert {i.date_time[0] for i in archive.infolist()} == {1980}
  with storage.local(first) as path, np.load(path) as found:
    assert found.files == ['a', 'b', 'c']
    assert found['a'].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert (found['b'].dtype, found['b'].shape, int(found['b'])) == (
      np.int64,
      (),
      7,
    )
    assert found['c'].shape == (0,)


def test_chunks_that_do_not_fill_an_array_publish_nothing(tmp_path):
  member = scorefiles.Member('a', np.dtype(np.float32), (3,), [bytes(8)])
  with pytest.raises(ValueError, match='do not fill'):
    scorefiles.write_npz(str(tmp_path / 'out.npz'), [member])
  assert not list(tmp_path.iterdir())


def test_a_large_member_has_wide_sizes(tmp_path, monkeypatch):
  monkeypatch.setattr(scorefiles, '_LARGE_MEMBER', 24)
  path = tmp_path / 'out.npz'
  scorefiles.write_npz(str(path), _members())
  with np.load(path) as found:
    assert found['a'].tolist() == [[0, 1], [2, 3], [4, 5]]
  with zipfile.ZipFile(path) as archive:
    versions = {i.filename: i.extract_version for i in archive.infolist()}
  assert versions == {'a.npy': 45, 'b.npy': 20, 'c.npy': 20}
