"""Overlap of training and test problems."""

import json
import pathlib
import time

import numpy as np
import pytest

import wcse_jax
from wcse_jax import contamination, errors, records


DATA = pathlib.Path(wcse_jax.__file__).parents[2] / 'shared' / 'data'
_LONG = (
  'a train leaves at noon and runs for three hours before it stops at last'
)


def _problems(prefix, questions):
  return [
    records.Problem(id=f'{prefix}{i}', task='t', question=text, answer='1')
    for i, text in enumerate(questions)
  ]


def _overlap(train, test):
  return contamination.overlap(_problems('r', train), _problems('t', test))


def test_equal_but_for_signs_and_case():
  (match,) = _overlap(
    ['something else', _LONG], [_LONG.upper().replace(' ', ', ') + '?']
  ).matches
  assert match == contamination.Match('t0', 'r1', 1.0, True, True)


def test_thirteen_words_in_a_row():
  words = _LONG.split()
  other = [f'w{i}' for i in range(20)]
  for shared, long in ((13, True), (12, False)):
    test = ' '.join([*words[:shared], 'x', *other[:4]])
    (match,) = _overlap([' '.join(['y', *words[:shared], 'z'])], [test]).matches
    assert match.long == long
    assert not match.equal
    grams = len(test.split()) - 7
    assert match.share == pytest.approx((shared - 7) / grams)


def test_short_problems_match_as_a_whole_only():
  found = _overlap(
    ['what is 2 + 2', 'now tell me what is 3 + 3'],
    ['What is 2+2?', 'what is 3 + 3'],
  )
  first, second = found.matches
  assert (first.equal, first.long, first.share) == (True, True, 1.0)
  assert (second.equal, second.long, second.train_id) == (False, False, None)


def test_share_is_of_the_best_single_problem():
  words = [f'w{i}' for i in range(40)]
  test = ' '.join(words)
  train = [
    ' '.join(words[:20]),
    ' '.join(words[10:35]),
    ' '.join(words[20:]),
    ' '.join(words[10:35]),
  ]
  (match,) = _overlap(train, [test]).matches
  # Of equal shares the first training problem is named.
  assert match.train_id == 'r1'
  assert match.share == pytest.approx((25 - 7) / (40 - 7))


def test_equals_comparing_every_pair():
  random = np.random.default_rng(0)
  words = list('abc')

  def draw():
    return ' '.join(random.choice(words, size=int(random.integers(5, 40))))

  def grams(text, n):
    words = text.split()
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}

  train, test = [draw() for _ in range(60)], [draw() for _ in range(40)]
  train[5] = test[7]
  found = _overlap(train, test)
  best = dict.fromkeys((f'r{i}' for i in range(60)), 0.0)
  for match, text in zip(found.matches, test):
    shares = [
      1.0
      if other == text
      else len(grams(text, 8) & grams(other, 8)) / max(1, len(grams(text, 8)))
      for other in train
    ]
    assert match.share == pytest.approx(max(shares))
    assert match.equal == (text in train)
    assert match.long == (
      match.equal or any(grams(text, 13) & grams(other, 13) for other in train)
    )
    if match.share:
      assert match.train_id == f'r{shares.index(max(shares))}'
    for i, share in enumerate(shares):
      best[f'r{i}'] = max(best[f'r{i}'], share)
  assert found.shares == pytest.approx({k: v for k, v in best.items() if v})


def test_dropping_leaves_nothing_above_the_threshold():
  words = [f'w{i}' for i in range(400)]
  test = [' '.join(words[i : i + 30]) for i in range(0, 300, 30)]
  train = [' '.join(words[i : i + 25]) for i in range(0, 360, 7)]
  problems = _problems('r', train)
  found = contamination.overlap(problems, _problems('t', test))
  kept, dropped = contamination.clean(problems, found, 0.5)
  assert kept
  assert dropped
  assert len(kept) + len(dropped) == len(problems)
  again = contamination.overlap(kept, _problems('t', test))
  assert max(match.share for match in again.matches) < 0.5
  alone = contamination.overlap(dropped, _problems('t', test))
  assert min(alone.shares.values()) >= 0.5
  summary = found.summary()
  assert summary['share_of_8_grams'][1]['share'] == 0.5
  assert summary['share_of_8_grams'][1]['train'] == len(dropped)
  with pytest.raises(errors.InputError, match='share'):
    contamination.clean(problems, found, 0)


def test_thousands_of_problems_take_seconds():
  random = np.random.default_rng(1)
  words = np.array([f'w{i}' for i in range(3000)])

  def draw(n):
    return [' '.join(random.choice(words, 45)) for _ in range(n)]

  train, test = _problems('r', draw(7473)), _problems('t', draw(1319))
  start = time.process_time()
  found = contamination.overlap(train, test)
  # About 1 s; every pair would be ten million comparisons.
  assert time.process_time() - start < 10
  assert found.summary()['any_13_gram'] == 0


def _write(path, rows):
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return str(path)


def test_command(tmp_path, capsys):
  train = _write(
    tmp_path / 'train.jsonl',
    [{'id': 'a', 'problem': _LONG, 'more': [1]}, {'problem': 'other words'}],
  )
  test = _write(tmp_path / 'test.jsonl', [{'question': f'Say, {_LONG}!'}])
  out, keep = tmp_path / 'matches.jsonl', tmp_path / 'kept.jsonl'
  flags = [f'--train={train}', f'--test={test}']
  assert contamination.main([*flags, f'--matches={out}', f'--keep={keep}']) == 0
  printed = json.loads(capsys.readouterr().out)
  assert (printed['train'], printed['test'], printed['any_13_gram']) == (
    2,
    1,
    1,
  )
  assert printed['dropped'] == {'share': 0.5, 'train': 1}
  (row,) = map(json.loads, out.read_text().splitlines())
  assert (row['id'], row['train_id']) == ('row 1', 'a')
  assert json.loads(keep.read_text()) == {'problem': 'other words'}


@pytest.mark.parametrize(
  ('text', 'wanted'),
  [
    ('', 'it is empty'),
    ('{"question": "a"}\nnonsense\n', 'row 2'),
    ('{"question": 3}\n', 'row 1'),
    ('{"id": "x", "question": "a"}\n{"id": "x", "question": "b"}\n', 'each id'),
  ],
)
def test_bad_files_are_named(tmp_path, capsys, text, wanted):
  path = tmp_path / 'bad.jsonl'
  path.write_text(text)
  assert contamination.main([f'--train={path}', f'--test={path}']) == 2
  error = capsys.readouterr().err
  assert wanted in error
  assert error.count('\n') == 1


@pytest.mark.skipif(not DATA.is_dir(), reason='needs the shared data')
def test_gsm8k_has_hardly_any_overlap():
  train, test = (
    contamination.read(str(DATA / 'gsm8k' / f'{split}.jsonl'))
    for split in ('train', 'test')
  )
  found = contamination.overlap(train, test)
  summary = found.summary()
  assert (summary['equal'], summary['any_13_gram']) == (0, 3)
  # The same sentences with other numbers.
  best = max(found.matches, key=lambda match: match.share)
  assert (best.id, best.train_id) == ('gsm8k/test/602', 'gsm8k/train/1314')
