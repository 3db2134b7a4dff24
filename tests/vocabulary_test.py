import itertools
import json
import random

import numpy as np
import pytest

from wcse_jax import errors, tokenizer, vocabulary


_BYTES = [f'<0x{byte:02X}>' for byte in range(256)]
# Pieces by falling score.
_WORDS = [
  *('▁t', 'he', 're', 'an', 'on', '▁the', 'the', '▁a', 'nd', '▁an', '▁and'),
  *('ing', '▁thing', 'thing', 'ab', 'bc', 'abc', 'é', '▁é', '12', '▁1'),
]


def _sentence_piece(kind='llama', **changed):
  """Returns the metadata of a small vocabulary like Gemma's."""
  rows = [('<pad>', 3), ('<eos>', 3), ('<bos>', 3), ('<unk>', 2)]
  rows += [('<start_of_turn>', 4), ('<end_of_turn>', 3), ('<table>', 4)]
  rows += [(' ' * n, 4) for n in range(2, 6)] + [('\n', 4), ('\n\n', 4)]
  rows += [(piece, 6) for piece in _BYTES]
  rows += [(piece, 1) for piece in _WORDS]
  letters = '▁abcdefghijklmnopqrstuvwxyz0123456789.,'
  rows += [(piece, 1) for piece in letters] + [('[PAD]', 5)]
  scores = [
    -1000.0 if kind != 1 else -float(i) for i, (_, kind) in enumerate(rows)
  ]
  metadata = {
    'general.architecture': 'gemma3',
    'tokenizer.ggml.model': kind,
    'tokenizer.ggml.tokens': [piece for piece, _ in rows],
    'tokenizer.ggml.scores': np.array(scores, np.float32),
    'tokenizer.ggml.token_type': np.array([t for _, t in rows], np.int32),
    'tokenizer.ggml.bos_token_id': 2,
    'tokenizer.ggml.eos_token_id': 1,
    'tokenizer.ggml.unknown_token_id': 3,
    'tokenizer.ggml.padding_token_id': 0,
    'tokenizer.ggml.add_bos_token': True,
  }
  return {k: v for k, v in (metadata | _keys(changed)).items() if v is not None}


# How GPT-2 writes bytes: printable ones as they are, the others from 256 on.
_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
_ALPHABET = {
  **{byte: chr(byte) for byte in _PRINTABLE},
  **{
    byte: chr(256 + i)
    for i, byte in enumerate(sorted(set(range(256)) - set(_PRINTABLE)))
  },
}
_MERGES = [
  *('Ġ Ġ', '1 2', '12 3', '123 4', 'Ġ 1', "' s", "' S", 'i t', 'Ġ it'),
  *('Ċ Ċ', '. Ċ', 'Ã ©', 'e Ì', 'eÌ ģ', 'Ġ Ċ', 'w o', 'r d', 'wo rd'),
]


def _byte_level(pre, **changed):
  """Returns the metadata of a small vocabulary like GPT-2's."""
  pieces = [_ALPHABET[byte] for byte in range(256)]
  pieces += [merge.replace(' ', '') for merge in _MERGES] + ['words']
  control = ['<|endoftext|>', '<|im_start|>', '<|im_end|>']
  rows = [(piece, 1) for piece in pieces] + [(piece, 3) for piece in control]
  rows += [('<tool>', 4), ('[PAD1]', 5), ('[PAD2]', 5)]
  metadata = {
    'general.architecture': 'qwen2',
    'tokenizer.ggml.model': 'gpt2',
    'tokenizer.ggml.pre': pre,
    'tokenizer.ggml.tokens': [piece for piece, _ in rows],
    'tokenizer.ggml.token_type': np.array([t for _, t in rows], np.int32),
    'tokenizer.ggml.merges': _MERGES,
    'tokenizer.ggml.bos_token_id': len(pieces),
    'tokenizer.ggml.eos_token_id': len(pieces) + 2,
  }
  return {k: v for k, v in (metadata | _keys(changed)).items() if v is not None}


def _keys(changed):
  names = {'architecture': 'general.architecture'}
  names['chat_template'] = 'tokenizer.chat_template'
  return {
    names.get(name, f'tokenizer.ggml.{name}'): value
    for name, value in changed.items()
  }


def _load(metadata):
  files = vocabulary.build(metadata, label='model.gguf')
  return tokenizer.from_files(files, label='model.gguf')


def _cut(loaded, text, metadata):
  pieces = metadata['tokenizer.ggml.tokens']
  return [pieces[i] for i in loaded.encode(text)]


@pytest.fixture(scope='module')
def gemma():
  return _load(_sentence_piece())


_TEXTS = [
  '',
  ' ',
  'the thing and another',
  ' the  thing   and',
  'abc abcabc xabc',
  '1212 12 1',
  'é è 漢 😀',
  'a\nb\n\n\nc\td\r\n',
  '      x',
  'a<table>b</table>',
  'He said: "and"',
]


def _reference(text, metadata):
  """SentencePiece's way: join the neighbours whose piece scores highest."""
  tokens = metadata['tokenizer.ggml.tokens']
  types = metadata['tokenizer.ggml.token_type']
  scores = metadata['tokenizer.ggml.scores']
  user = sorted(
    (t.replace(' ', '▁') for t, k in zip(tokens, types) if k == 4),
    key=len,
    reverse=True,
  )
  normal = {t: i for i, (t, k) in enumerate(zip(tokens, types)) if k == 1}
  ids = {t.replace(' ', '▁'): i for i, t in enumerate(tokens)}
  text = text.replace(' ', '▁')
  symbols = []
  while text:
    piece = next((u for u in user if text.startswith(u)), text[0])
    symbols.append((piece, piece in user))
    text = text[len(piece) :]
  while True:
    pairs = [
      (-scores[normal[a + b]], i)
      for i, ((a, fixed_a), (b, fixed_b)) in enumerate(
        itertools.pairwise(symbols)
      )
      if not fixed_a and not fixed_b and a + b in normal
    ]
    if not pairs:
      break
    i = min(pairs)[1]
    symbols[i : i + 2] = [(symbols[i][0] + symbols[i + 1][0], False)]
  found = []
  for piece, _ in symbols:
    if piece in ids and types[ids[piece]] in (1, 4):
      found.append(ids[piece])
    else:
      found += [ids[f'<0x{byte:02X}>'] for byte in piece.encode()]
  return found


def test_pieces_are_joined_as_sentencepiece_does():
  # Without the tokens that old converters mistype: they are control tokens.
  metadata = _sentence_piece()
  metadata['tokenizer.ggml.token_type'][4] = 3
  loaded = _load(metadata)
  rng = random.Random(0)
  parts = ['the', 'thing', ' ', 'and', 'a', 'b', 'c', '1', '2', '\n', '\n\n']
  parts += ['é', '漢', '<table>', 'x', 'on', 'an', 'd', '.']
  texts = [
    ''.join(rng.choices(parts, k=rng.randrange(1, 25))) for _ in range(300)
  ]
  # Longer runs of spaces than there are pieces for are cut in another way.
  for text in [*_TEXTS, *texts]:
    if ' ' * 6 not in text:
      assert loaded.encode(text) == _reference(text, metadata), text


@pytest.mark.parametrize('text', _TEXTS)
def test_text_comes_back(text, gemma):
  assert gemma.decode(gemma.encode(text)) == text


def test_equals_the_gemma_tokenizer_of_transformers(gemma):
  transformers = pytest.importorskip('transformers')
  model = json.loads(gemma.files['tokenizer.json'])['model']
  theirs = transformers.GemmaTokenizer(
    vocab=model['vocab'], merges=[tuple(pair) for pair in model['merges']]
  )
  theirs.add_tokens(['<table>', '\n', '\n\n'])
  for text in _TEXTS:
    assert theirs.encode(text, add_special_tokens=False) == gemma.encode(text)


def test_a_long_run_of_spaces_is_merged_and_not_cut_from_the_left(gemma):
  metadata = _sentence_piece()
  # As Gemma's published tokenizer.json does; SentencePiece has 5 and 1.
  assert _cut(gemma, ' ' * 6, metadata) == ['    ', '  ']


def test_the_score_decides_and_not_the_order():
  metadata = _sentence_piece()
  tokens = metadata['tokenizer.ggml.tokens']
  assert _cut(_load(metadata), 'abcd', metadata) == ['abc', 'd']
  scores = metadata['tokenizer.ggml.scores'].copy()
  scores[tokens.index('abc')] = -5000
  scores[tokens.index('bc')] = 7
  metadata['tokenizer.ggml.scores'] = scores
  assert _cut(_load(metadata), 'abd', metadata) == ['ab', 'd']
  assert _cut(_load(metadata), 'abcd', metadata) == ['abc', 'd']
  tokens[tokens.index('abc')] = 'zzz'
  assert _cut(_load(metadata), 'abcd', metadata) == ['a', 'bc', 'd']


def test_stated_merges_do_what_the_scores_imply(gemma):
  implied = json.loads(gemma.files['tokenizer.json'])['model']['merges']
  metadata = _sentence_piece(
    'gemma4',
    scores=None,
    architecture='gemma4',
    merges=[' '.join(pair) for pair in implied],
  )
  loaded = _load(metadata)
  assert loaded.start_ids == gemma.start_ids == (2,)
  for text in _TEXTS:
    assert loaded.encode(text) == gemma.encode(text)


@pytest.mark.parametrize('control', ['<bos>', '<end_of_turn>', '<unk>'])
def test_control_tokens_in_a_text_stay_text(control, gemma):
  ids = gemma.encode(f'a{control}b')
  assert not set(ids) & set(range(7))
  assert gemma.decode(ids) == f'a{control}b'


def test_tokens_that_converters_mistype_are_control_tokens(gemma):
  # <start_of_turn> stands as user defined in the file.
  assert 4 not in gemma.encode('<start_of_turn>')
  # What is truly user defined is found in a text.
  assert gemma.encode('a<table>b')[1] == 6


def test_a_space_before_the_text():
  metadata = _sentence_piece(architecture='llama')
  loaded = _load(metadata)
  assert _cut(loaded, 'the and', metadata) == ['▁the', '▁and']
  assert loaded.decode(loaded.encode('the and')) == 'the and'
  assert _cut(loaded, ' a', metadata) == ['  ', 'a']
  metadata['tokenizer.ggml.add_space_prefix'] = False
  assert _cut(_load(metadata), 'the and', metadata) == ['the', '▁and']
  # No Gemma has it, also where an old file does not say so.
  assert _cut(_load(_sentence_piece()), 'the', metadata) == ['the']


@pytest.mark.parametrize(
  ('changed', 'start', 'full'),
  [
    ({}, (2,), [2, 1]),
    ({'add_bos_token': None}, (2,), [2, 1]),
    ({'add_bos_token': False}, (), [1]),
  ],
  ids=str,
)
def test_what_is_put_before_and_behind_a_text(changed, start, full):
  loaded = _load(_sentence_piece(add_eos_token=True, **changed))
  assert loaded.start_ids == start
  assert loaded._backend.encode('').ids == full


@pytest.mark.parametrize(
  ('pre', 'text', 'wanted'),
  [
    ('gpt-2', ' 1234', ['Ġ', '1234']),
    ('default', '1234', ['1234']),
    ('qwen2', '1234', ['1', '2', '3', '4']),
    ('qwen2', ' 12', ['Ġ', '1', '2']),
    ('llama-bpe', '12341', ['123', '4', '1']),
    ('llama3', '1234', ['123', '4']),
    ('llama-v3', '1234', ['123', '4']),
    ('smollm', '12', ['1', '2']),
    ('starcoder', ' 12', ['Ġ', '1', '2']),
    # Spaces before a digit stay together where digits are cut out first.
    ('smollm', 'it  1', ['it', 'ĠĠ', '1']),
    ('gpt-2', 'it  1', ['it', 'Ġ', 'Ġ1']),
    ('qwen2', 'it  1', ['it', 'Ġ', 'Ġ', '1']),
    # Contractions: of any case in the newer ones.
    ('gpt-2', "it's", ['it', "'s"]),
    ('gpt-2', "it'S", ['it', "'", 'S']),
    ('qwen2', "it'S", ['it', "'S"]),
    ('llama-bpe', "it'S", ['it', "'S"]),
    # Line ends belong to the punctuation before them in the newer ones.
    ('gpt-2', '.\n\n', ['.', 'ĊĊ']),
    ('qwen2', '.\n', ['.Ċ']),
    ('llama-bpe', '.\n', ['.Ċ']),
    # Only Qwen composes characters.
    ('qwen2', 'e\u0301', ['Ã©']),
    ('llama-bpe', 'e\u0301', ['e', 'Ì', 'ģ']),
    ('gpt-2', 'é', ['Ã©']),
    # Only Llama 3 takes a whole word as it is.
    ('llama-bpe', 'words', ['words']),
    ('qwen2', 'words', ['word', 's']),
  ],
)
def test_text_is_cut_as_the_name_says(pre, text, wanted):
  metadata = _byte_level(pre)
  loaded = _load(metadata)
  assert _cut(loaded, text, metadata) == wanted


_CODE = [
  *_TEXTS,
  "it's It'S they'LL",
  'def f(x):\n    return  x ** 2  # 12 345\n\n',
  'a' + ' ' * 40 + '1',
  'e\u0301 ﬁ ² \u00a0\u200b',
  '<|im_end|> <|endoftext|><|im_start|>user',
  'a<tool>b',
]


@pytest.mark.parametrize('pre', vocabulary._CUTS)
def test_byte_level_text_comes_back_without_control_tokens(pre):
  metadata = _byte_level(pre)
  loaded = _load(metadata)
  control = set(np.flatnonzero(metadata['tokenizer.ggml.token_type'] == 3))
  for text in _CODE:
    ids = loaded.encode(text)
    assert not control & set(ids)
    want = text if pre != 'qwen2' else text.replace('e\u0301', 'é')
    # Nothing is tidied up: ` .` and ` 's` stay.
    assert loaded.decode(ids) == want


@pytest.mark.parametrize(
  ('pre', 'name'), [('qwen2', 'Qwen2Tokenizer'), ('gpt-2', 'GPT2Tokenizer')]
)
def test_equals_the_byte_level_tokenizers_of_transformers(pre, name):
  transformers = pytest.importorskip('transformers')
  loaded = _load(_byte_level(pre))
  model = json.loads(loaded.files['tokenizer.json'])['model']
  theirs = getattr(transformers, name)(
    vocab=model['vocab'], merges=[tuple(pair) for pair in model['merges']]
  )
  for text in _CODE:
    if '<' not in text:
      want = theirs.encode(text, add_special_tokens=False)
      assert loaded.encode(text) == want


def test_unused_tokens_are_no_part_of_it():
  metadata = _byte_level('qwen2')
  count = len(metadata['tokenizer.ggml.tokens'])
  loaded = _load(metadata)
  # <tool>, behind the control tokens.
  assert loaded.size == count - 2
  assert '[PAD1]' not in loaded.files['tokenizer.json'].decode()


def test_every_token_keeps_its_id():
  # Control tokens behind the pieces, between them, and before unused ones.
  for at in (None, 5, 40):
    metadata = _byte_level('llama-bpe')
    tokens = metadata['tokenizer.ggml.tokens']
    types = metadata['tokenizer.ggml.token_type']
    if at is not None:
      tokens.insert(at, '<|x|>')
      types = np.insert(types, at, 3)
      tokens.append('<|y|>')
      metadata['tokenizer.ggml.token_type'] = np.append(types, 3)
    loaded = _load(metadata)
    for i, token in enumerate(tokens):
      known = loaded._backend.token_to_id(token)
      assert known == (None if token.startswith('[PAD') else i)


def test_llama3_starts_texts_unless_told_otherwise():
  bos = _byte_level('qwen2')['tokenizer.ggml.bos_token_id']
  assert _load(_byte_level('llama-bpe')).start_ids == (bos,)
  assert _load(_byte_level('llama-bpe', add_bos_token=False)).start_ids == ()
  assert _load(_byte_level('qwen2')).start_ids == ()
  assert _load(_byte_level('qwen2', add_bos_token=True)).start_ids == (bos,)


_CHATML = (
  '{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}'
)
_TURNS = '<start_of_turn>{{ messages[0].content }}<end_of_turn>'


@pytest.mark.parametrize(
  ('metadata', 'ends'),
  [
    # A base model has the end that the file states.
    (_sentence_piece(), (1,)),
    (_sentence_piece(eot_token_id=5), (1, 5)),
    # An instruct model the end of a turn, and of a document, too.
    (_sentence_piece(chat_template=_TURNS), (1, 5)),
    (_sentence_piece(chat_template=_TURNS, eos_token_id=5), (5, 1)),
    (_sentence_piece(chat_template='{{ messages }}'), (1,)),
    # What ends training targets comes first, padding (0) never.
    (_byte_level('qwen2'), (277,)),
    (_byte_level('qwen2', chat_template=_CHATML), (277, 275)),
    (
      _byte_level('qwen2', chat_template=_CHATML, eos_token_id=275),
      (275, 277),
    ),
    # Only the end of a turn is stated.
    (_sentence_piece(eos_token_id=None, eot_token_id=5), (5,)),
  ],
)
def test_ends(metadata, ends):
  loaded = _load(metadata)
  assert loaded.end_ids == ends
  assert loaded.end_id == ends[0]


def test_special_tokens_and_the_template_are_handed_on():
  files = vocabulary.build(_sentence_piece(chat_template=_TURNS))
  assert files['chat_template.jinja'].decode() == _TURNS
  config = json.loads(files['tokenizer_config.json'])
  named = {k: v for k, v in config.items() if k.endswith('_token')}
  assert named == {
    'bos_token': '<bos>',
    'eos_token': '<eos>',
    'unk_token': '<unk>',
    'pad_token': '<pad>',
  }
  assert 'chat_template.jinja' not in vocabulary.build(_sentence_piece())


def test_transformers_reads_what_is_written(tmp_path):
  transformers = pytest.importorskip('transformers')
  for metadata in (_sentence_piece(), _byte_level('llama-bpe')):
    loaded = _load(metadata)
    tokenizer.save(loaded, str(tmp_path))
    theirs = transformers.AutoTokenizer.from_pretrained(str(tmp_path))
    for text in _TEXTS:
      assert theirs.encode(text) == loaded.prompts([text])[0]


@pytest.mark.parametrize(
  ('metadata', 'key', 'named'),
  [
    (_sentence_piece('bert'), 'model', "gemma4, gpt2, llama; got 'bert'"),
    (_sentence_piece(None), 'model', 'a string; got none'),
    (_byte_level('tekken'), 'pre', "smollm, starcoder; got 'tekken'"),
    (_byte_level(None), 'pre', 'got none'),
    (_byte_level('qwen2', merges=None), 'merges', 'list of strings; got none'),
    (_byte_level('qwen2', merges=['ab']), 'merges', "between; got 'ab'"),
    (_byte_level('qwen2', merges=['a ']), 'merges', "between; got 'a '"),
    (_byte_level('qwen2', merges=['a q']), 'merges', "'aq' in 'a q'"),
    (_byte_level('qwen2', merges=['漢 q']), 'merges', "'漢' in '漢 q'"),
    (_sentence_piece(scores=None), 'scores', 'array of floats; got none'),
    (_sentence_piece(scores=[0.0]), 'scores', 'got a list of float'),
    (_sentence_piece(scores=np.zeros(3, np.float32)), 'scores', 'got 3'),
    (_sentence_piece(bos_token_id=None), 'bos_token_id', 'got none'),
    (
      _byte_level('gpt-2', eos_token_id=None, add_eos_token=True),
      'eos_token_id',
      'got none',
    ),
    (_sentence_piece(add_bos_token=1), 'add_bos_token', 'true or false'),
    (_sentence_piece(add_space_prefix='no'), 'add_space_prefix', "str 'no'"),
  ],
  ids=lambda value: value if isinstance(value, str) else '',
)
def test_names_the_key_that_is_wrong(metadata, key, named):
  with pytest.raises(errors.InputError) as caught:
    vocabulary.build(metadata, label='model.gguf')
  message = str(caught.value)
  assert message.startswith(f'model.gguf: tokenizer.ggml.{key}: wanted ')
  assert named in message
  assert '\n' not in message


def test_scores_that_are_not_finite_are_refused():
  metadata = _sentence_piece()
  metadata['tokenizer.ggml.scores'][-3] = np.nan
  with pytest.raises(errors.InputError, match='wanted finite scores'):
    vocabulary.build(metadata)


def test_characters_without_a_piece_are_never_dropped():
  metadata = _sentence_piece(unknown_token_id=None)
  types = metadata['tokenizer.ggml.token_type']
  types[3] = 3
  assert _load(metadata).encode('漢')
  # Without one of the bytes, an unknown token is needed.
  types[20] = 5
  with pytest.raises(errors.InputError, match='256 byte tokens; got none and'):
    vocabulary.build(metadata)


@pytest.mark.parametrize(
  ('pieces', 'named'),
  [
    # Splits by the million.
    ([f'{i:05d}' + 'a' * 251 for i in range(16_000)], 'characters in all'),
    # Merges by the million, of few pieces.
    (
      [chr(0x4E00 + i) + 'a' * n for i in range(120) for n in range(250)]
      + ['a' * n for n in range(1, 250)],
      'merges of at most',
    ),
  ],
  ids=['pieces', 'merges'],
)
def test_the_work_on_a_hostile_vocabulary_is_bounded(pieces, named):
  tokens = ['<eos>', '<bos>', '<unk>', *pieces]
  metadata = _sentence_piece(
    tokens=tokens,
    token_type=np.array([3, 3, 3] + [1] * len(pieces), np.int32),
    scores=np.zeros(len(tokens), np.float32),
    bos_token_id=1,
    unknown_token_id=2,
  )
  with pytest.raises(errors.InputError, match=named):
    vocabulary.build(metadata)
