"""Whole judging runs: a server whose verdicts are known, and a checkpoint."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import loopback
import pytest

from wcse_jax import (
  errors,
  grade,
  judge,
  judgements,
  records,
  right_samples,
  shardfiles,
  storage,
  tasks,
)
from wcse_jax.grading import canaries


ROOT = pathlib.Path(__file__).parents[1]
TASK = tasks.load('arith')
PROBLEMS = TASK.problems('test')[:48]
BY_QUESTION = {p.question: p for p in TASK.problems('test')}


def texts():
  """Yields (problem, index, text): one sound, one lucky, one wrong."""
  for problem in PROBLEMS:
    yield problem, 0, problem.solution
    yield problem, 1, f'The answer is {problem.answer}.'
    yield problem, 2, 'who knows'


def sampled(folder, model='model', rows=None, shard=None):
  """Writes samples of a model, and grades them."""
  shards = shardfiles.ShardFolder(
    str(folder / 'samples' / model), {'seed': model}
  )
  shards.write(
    shard or shardfiles.Shard(0, 47, 0, 2),
    [
      records.Sample(
        problem_id=problem.id,
        index=index,
        text=text,
        tokens=(1,),
        finish_reason='stop',
        prompt_tokens=3,
        shared_prompt_tokens=0,
        output_tokens=1,
        logprob=-1.0,
      )
      for problem, index, text in rows or texts()
    ],
  )
  grade.grade(grade.GradeConfig(split='test'), str(folder))


@pytest.fixture
def folder(tmp_path):
  sampled(tmp_path)
  return tmp_path


def parts(prompt):
  """Returns (problem, text, verdict code) of a prompt."""
  found = re.search(
    r'Problem:\n(.*)\n\nReference answer: .*\n\n'
    r'===== BEGIN SOLUTION (\w+) =====\n(.*)\n===== END SOLUTION \2 =====\n'
    r'.*\nVERDICT (\w+) X\n',
    prompt,
    re.DOTALL,
  )
  return BY_QUESTION[found[1]], found[3], found[4]


def honest(prompt, _=None):
  """A judge that knows: by the step checker of the task."""
  problem, text, code = parts(prompt)
  sound, why = TASK.sound(problem, text)
  return f'{why}\nVERDICT {code} ' + ('SOUND' if sound else 'UNSOUND')


def config(server, **changes):
  return judge.JudgeConfig(
    **{
      'split': 'test',
      'server': server.url,
      'model': 'org/judge',
      'samples': 0,
      'key_variable': '',
      'concurrency': 4,
      **changes,
    }
  )


def contents(folder):
  return {
    name: storage.read_bytes(str(folder / name))
    for name in storage.names(str(folder))
  }


HOME = pathlib.Path('judgements', 'model', 'org-judge')


def test_an_honest_judge(folder, capsys):
  """Its figures are known: half of the right samples are hollow."""
  with loopback.serving(honest) as server:
    found = judge.judge(config(server), str(folder))['model']
  assert found['counts'] == {
    'judged': 96,
    'sound': 48,
    'unsound': 48,
    'unparsed': 0,
  }
  assert found['right'] == 96
  assert found['warnings'] == []
  by_kind = found['canaries']
  assert {k: one['asked'] for k, one in by_kind.items()} == {
    'reference': 4,
    'planted': 3,
    'hollow': 3,
  }
  assert by_kind['reference']['value'] == 1.0
  assert by_kind['planted']['value'] == by_kind['hollow']['value'] == 0.0
  assert len(server.requests) == 96 + 10
  assert {r['model'] for r in server.requests} == {'org/judge'}

  # What grading reads.
  (name,) = judgements.judges(str(folder), 'model')
  read = judgements.read(str(folder), 'model')[name]
  assert name == 'org-judge'
  assert read == {
    (problem.id, index): index == 0
    for problem, index, _ in texts()
    if index < 2
  }
  assert judgements.canaries(str(folder), 'model')[name] == by_kind
  ledger = [
    json.loads(line)
    for line in (folder / 'ledger.jsonl').read_text().splitlines()
  ]
  row = next(row for row in ledger if row['stage'] == 'judge')
  assert row['prefill_tokens'] == 7 * 106
  assert row['decode_tokens'] == 3 * 106
  assert row['usd'] is None
  assert 'judge model' in capsys.readouterr().err
  text = judgements.table({'model': found})
  assert 'judged 96 of 96 right samples: sound 48, unsound 48' in text
  assert 'hollow    accepted 0.000 [0.000, 0.561] n=3' in text
  assert 'warning' not in text


def test_a_gullible_judge_is_told_of(folder):
  def rule(prompt, _):
    return f'VERDICT {parts(prompt)[2]} SOUND'

  with loopback.serving(rule) as server:
    found = judge.judge(config(server, samples=4), str(folder))['model']
  assert found['counts']['sound'] == 4
  assert [text.split(';')[0] for text in found['warnings']] == [
    'the judge accepted 2 of 2 planted canaries',
    'the judge accepted 2 of 2 hollow canaries',
  ]
  assert 'warning: the judge accepted' in judgements.table({'model': found})


def test_canaries_look_like_samples(folder):
  with loopback.serving(honest) as server:
    judge.judge(config(server, canaries=0.5), str(folder))
  prompts = [r['messages'][0]['content'] for r in server.requests]
  own = {(p.question, text) for p, _, text in texts()}
  made = [i for i, p in enumerate(prompts) if _shown(p) not in own]
  # 48 of 144, some of which equal a sample to the letter.
  assert 30 <= len(made) <= 48
  # Neither in front nor at the end, and in the very same words.
  assert min(made) < 40
  assert max(made) > 100
  shapes = {re.sub(r'\b[0-9a-f]{8}\b', 'code', _frame(p)) for p in prompts}
  assert len(shapes) == 1


def _shown(prompt):
  problem, text, _ = parts(prompt)
  return problem.question, text


def _frame(prompt):
  """Returns a prompt without question, answer and text."""
  problem, text, _ = parts(prompt)
  frame = prompt.replace(f'=====\n{text}\n=====', '').replace(
    problem.question, ''
  )
  return re.sub(r'Reference answer: \d+', '', frame)


def test_more_samples_keep_those_before(folder):
  with loopback.serving(honest) as server:
    first = judge.judge(config(server, samples=20), str(folder))
    before = contents(folder / HOME)
    more = judge.judge(config(server, samples=90), str(folder))
    after = contents(folder / HOME)
    asked = len(server.requests)
    again = judge.judge(config(server, samples=90), str(folder))
    fewer = judge.judge(config(server, samples=5), str(folder))
  assert first['model']['counts']['judged'] == 20
  assert more['model']['counts']['judged'] == 90
  assert again == more
  assert fewer == more
  assert asked == len(server.requests) == 90 + 9
  for name in before.keys() - {'manifest.json'}:
    assert after[name] == before[name]
  numbers = [c.index for c in judgements.Folder(str(folder / HOME)).canaries()]
  assert numbers == list(range(9))


def test_the_order_is_that_of_the_audit(folder):
  with loopback.serving(honest) as server:
    judge.judge(config(server, samples=7, least=1), str(folder))
  chosen = right_samples.choose(
    str(folder),
    'model',
    'arith',
    {p.id: p for p in PROBLEMS},
    count=7,
    least=1,
  )
  found = judgements.read(str(folder), 'model')['org-judge']
  assert found.keys() == chosen.texts.keys()
  # Six levels, one of each first.
  by_id = {p.id: p for p in PROBLEMS}
  assert len({by_id[name].level for name, _ in list(chosen.texts)[:6]}) == 6


def test_samples_that_come_later_are_added(folder):
  """A larger sample and its grades do not unmake what was judged."""
  later = [(p, 3, p.solution) for p in PROBLEMS]
  with loopback.serving(honest) as server:
    judge.judge(config(server), str(folder))
    before = contents(folder / HOME)
    shards = shardfiles.ShardFolder(str(folder / 'samples' / 'model'))
    path = folder / 'later'
    sampled(path, rows=later, shard=shardfiles.Shard(0, 47, 3, 3))
    rows = shardfiles.ShardFolder(str(path / 'samples' / 'model'))
    shard = shardfiles.Shard(0, 47, 3, 3)
    shards.write(shard, rows.read(shard, records.Sample))
    grade.grade(grade.GradeConfig(split='test'), str(folder))
    found = judge.judge(config(server), str(folder))
  assert found['model']['counts'] == {
    'judged': 144,
    'sound': 96,
    'unsound': 48,
    'unparsed': 0,
  }
  after = contents(folder / HOME)
  assert all(after[n] == before[n] for n in before if n != 'manifest.json')


def test_a_torn_part_is_made_again(folder, caplog):
  with loopback.serving(honest) as server:
    judge.judge(config(server), str(folder))
    before = contents(folder / HOME)
    part = folder / HOME / 'part-00000.jsonl'
    part.write_bytes(part.read_bytes()[:-9])
    judge.judge(config(server), str(folder))
  after = contents(folder / HOME)
  assert after.pop('part-00000.jsonl.bad') == before['part-00000.jsonl'][:-9]
  manifests = [json.loads(c.pop('manifest.json')) for c in (before, after)]
  assert after == before
  assert manifests[0] == manifests[1]


def test_another_fingerprint_is_refused(folder):
  with loopback.serving(honest) as server:
    judge.judge(config(server, samples=3), str(folder))
    before = contents(folder / HOME)
    for changes, field in (
      ({'seed': 1}, 'seed'),
      ({'canaries': 0.2}, 'canaries'),
      ({'max_characters': 9}, 'max_characters'),
      ({'model': 'org judge'}, 'judge.model'),
    ):
      with pytest.raises(errors.InputError, match=f'{field}: wanted'):
        judge.judge(config(server, **changes), str(folder))
    # Under another name it is another judge.
    judge.judge(config(server, seed=1, name='two', samples=3), str(folder))
  assert contents(folder / HOME) == before
  assert judgements.judges(str(folder), 'model') == ['org-judge', 'two']


def test_several_models_and_one_without_right_samples(folder):
  sampled(folder, 'other', [(p, i, 'none') for p, i, _ in texts()])
  storage.publish(str(folder / 'grades' / 'outside' / 'grades.jsonl'), '')
  with loopback.serving(honest) as server:
    found = judge.judge(config(server, samples=5), str(folder))
  assert found['model']['counts']['judged'] == 5
  assert found['other']['counts']['judged'] == found['other']['right'] == 0
  assert 'outside' not in found


def test_long_samples_have_no_verdict(folder):
  with loopback.serving(honest) as server:
    found = judge.judge(config(server, max_characters=25), str(folder))
  # "The answer is 10." is short enough, most solutions are not.
  short = sum(len(p.solution) <= 25 for p in PROBLEMS)
  assert short < 10
  assert found['model']['counts'] == {
    'judged': 96,
    'sound': short,
    'unsound': 48,
    'unparsed': 48 - short,
  }


def launch(workdir, *arguments):
  return subprocess.Popen(
    [
      sys.executable,
      str(ROOT / 'launch' / 'judge.py'),
      f'--workdir={workdir}',
      '--config.split=test',
      *arguments,
    ],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    cwd=ROOT,
    # The machine's own device, not the eight of these tests.
    env=os.environ | {'XLA_FLAGS': '', 'OPENAI_API_KEY': 'sk-planted-key'},
  )


def test_killed_and_resumed(folder):
  """SIGKILL in the second part; the files are those of a run in one go."""
  slow = []

  def rule(prompt, before):
    # From the second part on.
    if slow and sum(before.values()) >= 80:
      time.sleep(0.3)
    return honest(prompt)

  with loopback.serving(rule) as server:
    arguments = (
      f'--config.server={server.url}',
      '--config.model=org/judge',
      '--config.samples=0',
    )
    slow.append(True)
    process = launch(folder, *arguments)
    part = folder / HOME / 'part-00000.jsonl'
    until = time.monotonic() + 60
    while len(server.requests) < 90 and time.monotonic() < until:
      time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    slow.clear()
    assert part.exists()
    assert not (folder / HOME / 'part-00001.jsonl').exists()
    kept = part.read_bytes()
    # What was on its way may still come.
    killed = -1
    while killed != len(server.requests):
      killed = len(server.requests)
      time.sleep(0.5)
    process = launch(folder, *arguments)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert 'judged 96 of 96' in out
    assert part.read_bytes() == kept
    # Only the second part was asked again: 32 samples and 3 canaries.
    assert len(server.requests) - killed == 35

    # In one go, with the same salt.
    whole = folder / 'whole'
    sampled(whole)
    manifest = storage.read_json(str(folder / HOME / 'manifest.json'))
    storage.publish_json(
      str(whole / HOME / 'manifest.json'), {**manifest, 'parts': []}
    )
    judge.judge(config(server), str(whole))
  resumed, one_go = contents(folder / HOME), contents(whole / HOME)
  for found in (resumed, one_go):
    # Its costs are those of both; here they are equal too.
    assert json.loads(found.pop('manifest.json')) == storage.read_json(
      str(folder / HOME / 'manifest.json')
    )
  assert resumed == one_go
  assert len(resumed) == 4
  assert server.keys[0] == 'Bearer sk-planted-key'
  for path in folder.rglob('*'):
    assert path.is_dir() or b'sk-planted-key' not in path.read_bytes()
  assert 'sk-planted-key' not in out + err


def test_a_checkpoint_as_judge(folder, capsys):
  """The smallest model keeps no grammar: nothing is judged, and it is said."""
  process = launch(
    folder,
    '--config.checkpoint=tiny-wc',
    '--config.samples=3',
    '--config.sampler.max_new_tokens=2',
    '--config.sampler.slots=2',
    '--config.sampler.prefill_batch=2',
    '--config.mesh=data=1',
  )
  out, err = process.communicate(timeout=120)
  assert process.returncode == 0, err
  assert 'judged 3 of 96 right samples: sound 0, unsound 0, unparsed 3' in out
  assert 'no verdict on any of 2 hollow canaries' in out
  found = judgements.read(str(folder), 'model')
  assert list(found) == ['tiny-wc']
  assert set(found['tiny-wc'].values()) == {None}
  path = folder / 'judgements' / 'model' / 'tiny-wc' / 'part-00000.jsonl'
  assert len(records.read_rows(str(path), records.Judgement)) == 3
  made = judgements.Folder(str(path.parent)).canaries()
  assert len(made) == canaries.LEAST


def refused(workdir, arguments, *wanted):
  process = launch(workdir, *arguments)
  _, err = process.communicate(timeout=60)
  assert process.returncode == 2, err
  lines = [
    x for x in err.splitlines() if x and not x.startswith(('I', 'W0', 'W1'))
  ]
  assert len(lines) == 1, err
  for text in wanted:
    assert text in lines[0]


def test_bad_arguments_on_the_command_line(tmp_path):
  workdir = tmp_path / 'run'
  refused(workdir, ['--config.checkpoint=tiny-wc'], 'grades', 'there are none')
  assert not workdir.exists()


def test_a_server_that_is_not_there_changes_nothing(folder):
  with loopback.serving(honest) as server:
    pass
  with pytest.raises(errors.InputError, match='wanted a chat completion'):
    judge.judge(config(server, samples=2, retries=0), str(folder))
  assert list(judgements.read(str(folder), 'model')['org-judge']) == []


SERVER = {'server': 'http://localhost/v1', 'model': 'm'}


@pytest.mark.parametrize(
  ('changes', 'wanted'),
  [
    ({}, 'neither'),
    ({'checkpoint': 'tiny-wc', **SERVER}, 'both'),
    ({'checkpoint': 'tiny-xx'}, 'tiny-xx'),
    ({'checkpoint': 'tiny-wc', 'model': 'm'}, 'model: wanted'),
    ({'server': 'http://localhost/v1'}, 'model: wanted'),
    ({**SERVER, 'server': 'localhost'}, 'server: wanted http'),
    ({**SERVER, 'server': 'http://a:b@host/v1'}, 'without user name'),
    ({**SERVER, 'model': '//'}, 'name: wanted'),
    ({**SERVER, 'name': '../x'}, 'name: wanted'),
    ({**SERVER, 'samples': -1}, 'samples: wanted'),
    ({**SERVER, 'least': -1}, 'least: wanted'),
    ({**SERVER, 'seed': -1}, 'seed: wanted'),
    ({**SERVER, 'concurrency': 0}, 'concurrency: wanted'),
    ({**SERVER, 'timeout': 0.0}, 'timeout: wanted'),
    ({**SERVER, 'canaries': 1.5}, 'canaries: wanted'),
    ({**SERVER, 'max_characters': 0}, 'max_characters: wanted'),
    ({**SERVER, 'dtype': 'float16'}, 'dtype: wanted'),
    ({**SERVER, 'chat': 'yes'}, 'chat: wanted'),
    ({**SERVER, 'task': 'mbpp'}, 'judged by their tests'),
    ({**SERVER, 'task': 'none'}, 'task: wanted'),
    ({**SERVER, 'split': 'none'}, 'split: wanted'),
    ({**SERVER, 'task': 'gsm8k', 'data': 'none'}, 'none'),
  ],
)
def test_bad_configurations(folder, changes, wanted):
  before = sorted(folder.rglob('*'))
  changes = {'split': 'test', **changes}
  with pytest.raises(errors.InputError, match=wanted):
    judge.judge(judge.JudgeConfig(**changes), str(folder))
  assert sorted(folder.rglob('*')) == before


def test_the_names_of_judges():
  def name(**changes):
    return judge.JudgeConfig(**changes).judge_name()

  assert name(model='org/Model:free', server='x') == 'org-Model-free'
  assert name(checkpoint='a/b/model.gguf') == 'model'
  assert name(checkpoint='org/model@main') == 'model'
  assert name(checkpoint='tiny-wc', name='other') == 'other'
