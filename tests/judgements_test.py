"""The files of judgements, torn and whole, and what they say."""

import json

import pytest
from scipy import stats

from wcse_jax import errors, judgements, records, storage


PRINT = {'judge': {'weights': 'a'}, 'salt': 's'}


def row(i, sound):
  return records.Judgement(problem_id=f'p/{i}', index=i % 3, sound=sound)


def canary(i, kind, sound):
  return judgements.Canary(problem_id='p/0', index=i, sound=sound, kind=kind)


@pytest.fixture
def path(tmp_path):
  """Returns the folder of one judge with two parts."""
  path = str(tmp_path / 'judgements' / 'model' / 'judge')
  folder = judgements.Folder(path, PRINT)
  folder.start()
  folder.write(
    [row(0, True), row(1, None)], [canary(0, 'hollow', True)], {'flops': 3}
  )
  folder.write([row(2, False)], [], {'flops': 4, 'chip_seconds': 0.5})
  return path


def test_written_and_read(path, tmp_path):
  workdir = str(tmp_path)
  assert judgements.judges(workdir, 'model') == ['judge']
  assert judgements.judges(workdir, 'other') == []
  assert judgements.read(workdir, 'model') == {
    'judge': {('p/0', 0): True, ('p/1', 1): None, ('p/2', 2): False}
  }
  found = judgements.canaries(workdir, 'model')['judge']
  assert found['hollow']['accepted'] == 1
  folder = judgements.Folder(path, PRINT)
  assert folder.cost() == {'flops': 7, 'chip_seconds': 0.5}
  assert folder.check() == []
  assert sorted(storage.names(path)) == [
    'canaries-00000.jsonl',
    'canaries-00001.jsonl',
    'manifest.json',
    'part-00000.jsonl',
    'part-00001.jsonl',
  ]


def test_what_is_there_never_changes(path):
  folder = judgements.Folder(path)
  with pytest.raises(ValueError, match='never change'):
    folder.write([row(2, True)], [], {})
  with pytest.raises(ValueError, match='never change'):
    folder.write([row(7, True), row(7, True)], [], {})
  before = storage.read_bytes(f'{path}/manifest.json')
  folder.start()
  assert storage.read_bytes(f'{path}/manifest.json') == before


def test_another_fingerprint_is_refused_by_field(path):
  other = {'judge': {'weights': 'b'}, 'salt': 's'}
  with pytest.raises(errors.InputError, match=r'judge\.weights: wanted'):
    judgements.Folder(path, other)


@pytest.mark.parametrize('name', ['part-00000.jsonl', 'canaries-00000.jsonl'])
@pytest.mark.parametrize('fault', ['torn', 'flipped', 'missing'])
def test_bad_files_are_found_and_made_again(path, tmp_path, name, fault):
  file = tmp_path / 'judgements' / 'model' / 'judge' / name
  whole = file.read_bytes()
  match fault:
    case 'torn':
      file.write_bytes(whole[:-5])
    case 'flipped':
      file.write_bytes(whole.replace(b'true', b'null'))
    case 'missing':
      file.unlink()
  reader = judgements.read if name.startswith('part') else judgements.canaries
  with pytest.raises(errors.InputError, match=name):
    reader(str(tmp_path), 'model')
  folder = judgements.Folder(path, PRINT)
  bad_part = name.startswith('part')
  assert (('p/0', 0) in folder.have()) is not bad_part
  assert ('p/2', 2) in folder.have()
  assert folder.check() == [name]
  assert folder.have() == {('p/2', 2)}
  assert file.with_name(f'{name}.bad').exists() is (fault != 'missing')
  folder.write(
    [row(0, True), row(1, None)], [canary(0, 'hollow', True)], {'flops': 3}
  )
  assert file.read_bytes() == whole
  assert judgements.Folder(path).check() == []


def test_a_part_whose_manifest_was_not_written_does_not_count(path):
  before = storage.read_bytes(f'{path}/manifest.json')
  judgements.Folder(path).write([row(3, True)], [], {})
  storage.publish(f'{path}/manifest.json', before)
  folder = judgements.Folder(path)
  assert ('p/3', 0) not in folder.have()
  folder.write([row(3, False)], [], {})
  assert judgements.Folder(path).judged()['p/3', 0] is False


@pytest.mark.parametrize(
  ('change', 'wanted'),
  [
    (lambda m: m.pop('parts'), 'list "parts"'),
    (lambda m: m.update(fingerprint=1), 'object "fingerprint"'),
    (lambda m: m['parts'].append(3), 'the files of one part'),
    (lambda m: m['parts'].append(m['parts'][0]), 'the files of one part'),
    (lambda m: m['parts'][0]['files'].popitem(), 'the files of one part'),
    (lambda m: m['parts'][0].pop('cost'), 'the files of one part'),
    (lambda m: m['parts'][0].update(cost={'x': 'y'}), 'the files of one part'),
    (
      lambda m: m['parts'][0]['files'].update({'../x': {'sha256': 'a' * 64}}),
      'the files of one part',
    ),
  ],
)
def test_bad_manifests(path, change, wanted):
  manifest = storage.read_json(f'{path}/manifest.json')
  change(manifest)
  storage.publish(f'{path}/manifest.json', json.dumps(manifest))
  with pytest.raises(errors.InputError, match=wanted):
    judgements.Folder(path)


def test_no_folder():
  with pytest.raises(errors.InputError, match='no such file'):
    judgements.Folder('/no/such')


def test_rows_of_canaries():
  one = canary(3, 'planted', None)
  assert judgements.Canary.from_json(one.to_json()) == one
  with pytest.raises(errors.InputError, match='kind'):
    judgements.Canary.from_json(one.to_json().replace('planted', 'other'))


@pytest.mark.parametrize(('k', 'n'), [(0, 5), (3, 7), (5, 5), (50, 100)])
def test_wilson(k, n):
  low, high = judgements.wilson(k, n)
  known = stats.binomtest(k, n).proportion_ci(method='wilson')
  assert (low, high) == pytest.approx((known.low, known.high), abs=1e-12)
  assert judgements.wilson(0, 0) == (None, None)


def test_summary_and_warnings():
  rows = [canary(i, 'reference', True) for i in range(9)]
  rows += [canary(9 + i, 'planted', i < 2) for i in range(10)]
  rows += [canary(20 + i, 'hollow', None if i else True) for i in range(4)]
  found = judgements.summary(rows)
  assert found['planted']['value'] == 0.2
  assert found['planted']['n'] == 10
  assert found['hollow'] == {
    'sound': False,
    'asked': 4,
    'unparsed': 3,
    'accepted': 1,
    'value': 1.0,
    'low': pytest.approx(0.2065, abs=1e-4),
    'high': 1.0,
    'n': 1,
  }
  planted, hollow = judgements.warnings(found)
  assert 'accepted 2 of 10 planted' in planted
  assert 'not to be believed without an audit' in planted
  assert 'accepted 1 of 1 hollow' in hollow


def test_no_warning_at_a_tenth():
  rows = [canary(i, 'planted', i < 1) for i in range(10)]
  rows += [canary(10 + i, 'reference', i > 0) for i in range(10)]
  assert judgements.warnings(judgements.summary(rows)) == []
  rows.append(canary(20, 'planted', True))
  rows.append(canary(21, 'reference', False))
  assert len(judgements.warnings(judgements.summary(rows))) == 2


def test_a_judge_without_verdicts_is_told():
  rows = [canary(i, 'hollow', None) for i in range(6)]
  (line,) = judgements.warnings(judgements.summary(rows))
  assert 'no verdict on any of 6 hollow' in line
  assert judgements.summary(rows)['hollow']['value'] is None
  assert judgements.warnings(judgements.summary([])) == []
