import json

import pytest
import tokenizers

from wcse_jax import errors, tokenizer


_WORDS = ['apples', 'has', 'Sam', 'the']
_SPECIAL = ['<pad>', '<eos>', '<bos>', '<unk>']


def _folder(path, data=None, **files):
  """Writes tokenizer.json and NAME.json of each keyword."""
  text = tokenizer.word_tokenizer(_WORDS) if data is None else data
  (path / 'tokenizer.json').write_text(text)
  for name, fields in files.items():
    (path / f'{name}.json').write_text(json.dumps(fields))
  return str(path)


@pytest.fixture(scope='module')
def words(tmp_path_factory):
  folder = tmp_path_factory.mktemp('words')
  return tokenizer.load(_folder(folder, config={'eos_token_id': 1}))


_TEXTS = [
  '',
  ' ',
  '  two  spaces ',
  'Sam has 12 apples, the 3 others: -4.5/7=?',
  ' Sam has the apples\nQ: 1+1\nA: 2',
  'Samhasapples thethe',
  '\t\r\n\n\x00\x7f',
  'é e\u0301 ß İ ﬁ ²',
  '漢字 かな 한국어 العربية',
  '😀👩‍👩‍👧 \U0010ffff',
  '\ufeff\u200b\u00a0',
  '<s> </s> <<12+3=15>> a<b>c <0x41> <0xZZ> <',
  '<pad><eos> <bos> <unk>',
  '<end_of_turn>',
  '#### 18 $\\frac{1}{2}$',
]


@pytest.mark.parametrize('text', _TEXTS)
def test_any_text_comes_back(text, words):
  ids = words.encode(text)
  assert words.decode(ids) == text
  assert all(4 <= i < words.size for i in ids)


def test_many_texts_equal_one_by_one(words):
  rows = words.encode_all(_TEXTS)
  assert rows == [words.encode(text) for text in _TEXTS]
  assert words.decode_all(rows) == _TEXTS


def test_words_and_digits_are_tokens_of_their_own(words):
  assert len(words.encode(' Sam has 12 apples')) == 5
  # Digit by digit, so that numbers of any length are read alike.
  assert len(words.encode(' 123456')) == 6
  # Bytes, where nothing else fits.
  assert len(words.encode('é')) == 2


def test_every_id_has_one_piece():
  fields = json.loads(tokenizer.word_tokenizer([*_WORDS, 'Sam', '7']))
  pieces = [piece for piece, _ in fields['model']['vocab']]
  assert len(pieces) == len(set(pieces))
  assert pieces[:4] == _SPECIAL


def test_order_of_words_does_not_matter():
  made = tokenizer.word_tokenizer(_WORDS)
  assert made == tokenizer.word_tokenizer(_WORDS[::-1])


@pytest.mark.parametrize('special', _SPECIAL)
def test_special_tokens_in_a_text_stay_text(special, words):
  ids = words.encode(f'the {special} end')
  assert not set(ids) & {0, 1, 2, 3}
  assert words.decode(ids) == f'the {special} end'


def test_special_tokens_that_were_drawn_are_no_text(words):
  ids = [2, *words.encode(' Sam'), 1, 0]
  assert words.decode(ids) == ' Sam'


def test_prompts_start_as_the_tokenizer_says(words):
  assert words.start_ids == (2,)
  assert words.prompts([' Sam', '']) == [[2, *words.encode(' Sam')], [2]]
  # `encode` adds nothing: it also serves what follows a prompt.
  assert words.encode('') == []


def test_a_tokenizer_without_a_start_adds_none(tmp_path):
  fields = json.loads(tokenizer.word_tokenizer(_WORDS))
  fields['post_processor'] = None
  folder = _folder(tmp_path, json.dumps(fields), config={'eos_token_id': 1})
  plain = tokenizer.load(folder)
  assert plain.start_ids == ()
  assert plain.prompts([' Sam']) == [plain.encode(' Sam')]


@pytest.mark.parametrize(
  ('files', 'want'),
  [
    ({'tokenizer_config': {'eos_token': '<eos>'}}, (1,)),
    ({'tokenizer_config': {'eos_token': {'content': '<pad>'}}}, (0,)),
    ({'generation_config': {'eos_token_id': 5}}, (5,)),
    ({'generation_config': {'eos_token_id': [1, 6]}}, (1, 6)),
    ({'config': {'eos_token_id': 7}}, (7,)),
    ({'config': {'eos_token_id': [7, None]}}, (7,)),
    # The tokenizer's own comes first; each is there once.
    (
      {
        'tokenizer_config': {'eos_token': '<eos>'},
        'generation_config': {'eos_token_id': [6, 1]},
        'config': {'eos_token_id': [7, 6]},
      },
      (1, 6, 7),
    ),
    (
      {
        'tokenizer_config': {'eos_token': None},
        'generation_config': {},
        'config': {'eos_token_id': 3},
      },
      (3,),
    ),
  ],
)
def test_end_tokens_come_from_all_three_files(files, want, tmp_path):
  loaded = tokenizer.load(_folder(tmp_path, **files))
  assert loaded.end_ids == want
  assert loaded.end_id == want[0]


@pytest.mark.parametrize(
  ('files', 'named'),
  [
    ({}, 'names no end token'),
    ({'config': {'eos_token_id': []}}, 'names no end token'),
    ({'tokenizer_config': {'eos_token': '</s>'}}, "eos_token '</s>'"),
    ({'tokenizer_config': {'eos_token': 1}}, 'eos_token 1'),
    ({'tokenizer_config': ['<eos>']}, 'wanted an object'),
    ({'config': {'eos_token_id': '1'}}, "wanted token ids; got '1'"),
    ({'config': {'eos_token_id': True}}, 'wanted token ids; got True'),
    ({'generation_config': {'eos_token_id': [1, -1]}}, 'got [1, -1]'),
    ({'data': '{'}, 'tokenizer.json: not a tokenizer'),
    ({'data': '{"model": {"type": "Other"}}'}, 'not a tokenizer'),
  ],
  ids=str,
)
def test_names_the_file_that_is_wrong(files, named, tmp_path):
  folder = _folder(tmp_path, **files)
  with pytest.raises(errors.InputError) as caught:
    tokenizer.load(folder)
  message = str(caught.value)
  assert named in message
  assert folder in message
  assert '\n' not in message


def test_a_folder_without_a_tokenizer_is_named(tmp_path):
  with pytest.raises(errors.InputError, match=r'has no tokenizer\.json'):
    tokenizer.load(str(tmp_path))


def test_bytes_that_are_no_text_are_refused(tmp_path):
  (tmp_path / 'tokenizer.json').write_bytes(b'\xff\xfe{')
  with pytest.raises(errors.InputError, match='not a tokenizer'):
    tokenizer.load(str(tmp_path))


def test_size_leaves_out_special_tokens_that_no_text_gives(tmp_path, words):
  backend = tokenizers.Tokenizer.from_str(tokenizer.word_tokenizer(_WORDS))
  backend.add_special_tokens(['<image>'])
  folder = _folder(tmp_path, backend.to_str(), config={'eos_token_id': 1})
  loaded = tokenizer.load(folder)
  assert backend.token_to_id('<image>') == words.size == loaded.size
  # But not tokens that a text gives, or an end token.
  backend.add_tokens(['apples!'])
  _folder(tmp_path, backend.to_str())
  assert tokenizer.load(folder).size == words.size + 2
  _folder(tmp_path, config={'eos_token_id': words.size + 9})
  assert tokenizer.load(folder).size == words.size + 10


def test_saved_files_are_the_same_bytes(tmp_path, words):
  source = tmp_path / 'source'
  source.mkdir()
  folder = _folder(source, tokenizer_config={'eos_token': '<eos>'})
  (source / 'chat_template.jinja').write_text('{{ messages }}\n')
  (source / 'README.md').write_text('not of the tokenizer')
  target = tmp_path / 'target'
  tokenizer.save(tokenizer.load(folder), str(target))
  names = ['chat_template.jinja', 'tokenizer.json', 'tokenizer_config.json']
  assert sorted(path.name for path in target.iterdir()) == names
  for name in names:
    assert (target / name).read_bytes() == (source / name).read_bytes()
  assert tokenizer.load(str(target)).sha256 == words.sha256
