import numpy as np
import pytest

from wcse_jax import errors, pieces


def _metadata(**changed):
  metadata = {
    'tokens': ['<unk>', '<s>', '</s>', 'a', '  ', '<b>', '<0x00>', '[PAD]'],
    'token_type': np.array([2, 3, 3, 1, 4, 4, 6, 5], np.int32),
    'bos_token_id': 1,
    'eos_token_id': 2,
  } | changed
  return {
    f'tokenizer.ggml.{key}': value
    for key, value in metadata.items()
    if value is not None
  }


def _pieces(kind='llama', **changed):
  fields = pieces.Fields(_metadata(**changed), 'model.gguf')
  return pieces.Pieces(fields, kind)


def test_tokens_by_type():
  found = _pieces()
  assert list(found.of_type(pieces.NORMAL, pieces.BYTE)) == [3, 6]
  assert [i for i in range(8) if found.is_control(i)] == [1, 2]
  assert found.ids['bos'] == 1
  # By its type, where no key names it.
  assert found.ids['unk'] == 0
  assert _pieces(unknown_token_id=3).ids['unk'] == 3
  assert found.ids['eot'] is None


def test_added_tokens_are_found_as_they_are_written():
  added = _pieces().added()
  assert [(t['id'], t['content'], t['special']) for t in added] == [
    (0, '<unk>', True),
    (1, '<s>', True),
    (2, '</s>', True),
    (5, '<b>', False),
  ]
  assert not any(token['normalized'] for token in added)


def test_runs_of_spaces_are_pieces_of_sentencepiece_alone():
  assert _pieces('llama').tokens[4] == '▁▁'
  found = _pieces('gpt2')
  assert found.tokens[4] == '  '
  assert '  ' in [token['content'] for token in found.added()]


def test_what_starts_and_ends_a_text_is_a_control_token():
  # Whatever the type of the end of a turn.
  assert _pieces(eot_token_id=5).is_control(5)
  assert _pieces(eom_token_id=3).is_control(3)
  # Padding may be any piece, and stays it; an unused one has a use.
  assert not _pieces(padding_token_id=3).is_control(3)
  assert _pieces(padding_token_id=7).is_control(7)


@pytest.mark.parametrize(
  'token', ['<start_of_turn>', '<end_of_turn>', '<|channel>', '<tool_call|>']
)
def test_control_tokens_that_are_typed_as_user_defined(token):
  tokens = _metadata()['tokenizer.ggml.tokens']
  tokens[5] = token
  assert _pieces('gemma4', tokens=tokens).is_control(5)


def test_the_models_own_pieces():
  everything = {'<unk>': 0, '<s>': 1, '</s>': 2, 'a': 3, '▁▁': 4, '<b>': 5}
  found = _pieces()
  assert found.vocab(with_added=True) == everything | {'<0x00>': 6}
  # The added ones stand before a piece: they must stay, to keep their ids.
  assert found.vocab(with_added=False) == everything | {'<0x00>': 6}
  found = _pieces(
    'gpt2',
    tokens=['a', 'b', '<s>', '</s>', '[PAD]'],
    token_type=np.array([1, 1, 3, 3, 5], np.int32),
    bos_token_id=2,
    eos_token_id=3,
  )
  assert found.vocab(with_added=False) == {'a': 0, 'b': 1}
  assert found.vocab(with_added=True) == {'a': 0, 'b': 1, '<s>': 2, '</s>': 3}


@pytest.mark.parametrize(
  ('changed', 'message'),
  [
    ({'tokens': None}, 'tokens: wanted a list of strings; got none.'),
    ({'tokens': []}, 'tokens: wanted tokens; got none.'),
    ({'tokens': 'abc'}, "tokens: wanted a list of strings; got str 'abc'."),
    (
      {'tokens': ['a', 1]},
      'tokens: wanted a list of strings; got a list of int and str.',
    ),
    (
      {'tokens': ['a', '']},
      'tokens: wanted tokens of 1 to 256 characters; got one of 0.',
    ),
    (
      {'tokens': ['a' * 257]},
      'tokens: wanted tokens of 1 to 256 characters; got one of 257.',
    ),
    (
      {'tokens': ['a', 'b\ud800']},
      "tokens: wanted Unicode text; got the lone surrogate '\\ud800'.",
    ),
    (
      {'tokens': [*'abcdefa', '\n']},
      "tokens: wanted each token once; got 'a' twice.",
    ),
    # A run of spaces may not be there in both spellings.
    (
      {'tokens': [*'abcd', '  ', '▁▁', 'g', 'h']},
      "tokens: wanted each token once; got '▁▁' twice.",
    ),
    (
      {'token_type': None},
      'token_type: wanted an array of integers; got none.',
    ),
    (
      {'token_type': np.zeros(8, np.float32)},
      'token_type: wanted an array of integers; got an array of float32.',
    ),
    (
      {'token_type': np.ones(7, np.int32)},
      'token_type: wanted 8, one for each of tokenizer.ggml.tokens; got 7.',
    ),
    (
      {'token_type': np.arange(8)},
      'token_type: wanted one of 1, 2, 3, 4, 5, 6; got 0.',
    ),
    ({'bos_token_id': 8}, 'bos_token_id: wanted an id below 8; got 8.'),
    ({'eos_token_id': -1}, 'eos_token_id: wanted an id below 8; got -1.'),
    (
      {'eot_token_id': True},
      "eot_token_id: wanted a token id; got bool 'True'.",
    ),
    (
      {'padding_token_id': '1'},
      "padding_token_id: wanted a token id; got str '1'.",
    ),
  ],
  ids=lambda value: '' if isinstance(value, dict) else value[:40],
)
def test_names_the_key_that_is_wrong(changed, message):
  with pytest.raises(errors.InputError) as caught:
    _pieces(**changed)
  assert str(caught.value) == f'model.gguf: tokenizer.ggml.{message}'


def test_the_automaton_of_a_hostile_file_is_bounded():
  tokens = [f'{i:06d}' + 'a' * 200 for i in range(5_000)]
  with pytest.raises(errors.InputError, match='of 1,000,000 characters; got'):
    _pieces(tokens=tokens, token_type=np.full(5_000, 4))


def test_text_is_checked_for_what_cannot_be_written():
  fields = pieces.Fields({'key': 'a\udfff', 'number': 1}, 'model.gguf')
  with pytest.raises(errors.InputError, match=r"got the lone .* '\\udfff'"):
    fields.text('key')
  with pytest.raises(errors.InputError, match="a string; got int '1'"):
    fields.text('number')
  assert fields.text('none', required=False) is None
