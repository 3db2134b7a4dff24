"""Sampling a server's model, against a real server on this machine."""

import dataclasses
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

import hostile
import loopback
import pytest

import wcse_jax
from wcse_jax import (
  errors,
  grade,
  prices,
  records,
  runlog,
  selection,
  shardfiles,
  storage,
  tasks,
)
from wcse_jax import server as servers
from wcse_jax.sampler import inputs, remote, run, settings
from wcse_jax.sft import data as training


ROOT = pathlib.Path(wcse_jax.__file__).parent.parent
KEY = 'sk-planted-5b0e77c1'
SHARDS = [
  'shard-00000-00002-0000-0007.jsonl',
  'shard-00000-00002-0008-0011.jsonl',
]


@pytest.fixture(autouse=True)
def _no_key(monkeypatch):
  monkeypatch.delenv('OPENAI_API_KEY', raising=False)
  monkeypatch.setattr(servers, '_WAIT_S', 0.01)


def asked_of(body):
  return (
    body['messages'][0]['content'] if 'messages' in body else body['prompt']
  )


def answer(body):
  """A reply by question and seed alone, with counts of its own."""
  text = asked_of(body)
  seed = body.get('seed', 0)
  right = sum(map(int, text.rpartition(' = ?')[0].split()[-3::2]))
  said = f'By {seed}: {right + seed % 2}.\n#### {right + seed % 2}'
  return loopback.said(said, len(text), 5 + seed % 7, chat='messages' in body)


@pytest.fixture
def server():
  with loopback.serving(answer, whole=True) as found:
    yield found


@pytest.fixture
def config(problems, server):
  """Three problems, twelve samples of each: two shards."""
  return inputs.SampleConfig(
    server=server.url,
    model='org/some:model',
    task='gsm8k',
    data=problems,
    split='test',
    limit=3,
    samples_per_problem=12,
    retries=1,
    timeout=5.0,
    sampler=settings.SamplerConfig(temperature=0.5, max_new_tokens=20),
  )


def home(folder):
  return pathlib.Path(folder) / 'samples' / 'some-model'


def shards(folder):
  return {p.name: p.read_bytes() for p in home(folder).glob('shard-*.jsonl')}


def rows(folder):
  found = shardfiles.ShardFolder(str(home(folder)))
  return list(found.rows(records.Sample))


def ledger(folder):
  lines = (pathlib.Path(folder) / 'ledger.jsonl').read_text().splitlines()
  return [json.loads(line) for line in lines]


def test_every_sample_is_there_once_and_in_order(
  config, server, tmp_path, capsys
):
  cost = run.sample(config, str(tmp_path))
  assert sorted(shards(tmp_path)) == SHARDS
  found = rows(tmp_path)
  assert [(row.problem_id, row.index) for row in found] == [
    (f'gsm8k/test/{problem}', index)
    for indices in (range(8), range(8, 12))
    for problem in range(3)
    for index in indices
  ]
  assert len(server.requests) == len({row.text for row in found}) == 36
  work = inputs.prepare(config)
  texts = {p.id: work.questions[at] for at, p in work.chosen}
  for row in found:
    seed = remote.seed(config, row.problem_id, row.index)
    assert row.text.startswith(f'By {seed}: ')
    assert row.tokens == ()
    assert row.logprob is None
    assert row.output_tokens == 5 + seed % 7
    assert row.prompt_tokens == len(texts[row.problem_id])
    assert row.shared_prompt_tokens == 0
    assert row.finish_reason == 'stop'
  read = sum(row.prompt_tokens for row in found)
  drawn = sum(row.output_tokens for row in found)
  assert cost == {
    'prefill_tokens': read,
    'decode_tokens': drawn,
    'flops': 0,
    'chip_seconds': 0.0,
  }
  assert ledger(tmp_path) == [
    {
      'stage': 'sample',
      'model': 'some-model',
      'chips': 0,
      'chip_seconds': 0.0,
      'prefill_tokens': read,
      'decode_tokens': drawn,
      'flops': 0,
      'usd': None,
    }
  ]
  assert storage.read_json(str(home(tmp_path) / inputs.SOURCE)) == {
    'server': server.url,
    'model': 'org/some:model',
  }
  assert not (home(tmp_path) / 'replies').exists()
  err = capsys.readouterr().err
  assert 'sample some-model  36/36 samples' in err
  assert err.count("the price of 'org/some:model' is not known") == 1
  # All is there: nothing is asked, so that nobody need answer.
  gone = dataclasses.replace(config, server='http://localhost:1/v1')
  before = shards(tmp_path)
  assert remote.sample(gone, str(tmp_path)) == cost
  assert shards(tmp_path) == before


def test_what_is_sent(config, server, tmp_path):
  one = dataclasses.replace(config, limit=1, samples_per_problem=1)
  work = inputs.prepare(one)
  remote.sample(one, str(tmp_path / 'chat'))
  sampler = settings.SamplerConfig(
    temperature=1.0, top_p=0.9, top_k=3, min_p=0.25, max_new_tokens=9
  )
  plain = dataclasses.replace(
    one, chat='off', send_seed=False, sampler=sampler, shots=2
  )
  remote.sample(plain, str(tmp_path / 'plain'))
  first, second = server.requests
  assert server.paths == ['/v1/chat/completions', '/v1/completions']
  assert first == {
    'model': 'org/some:model',
    'messages': [{'role': 'user', 'content': work.questions[0]}],
    'temperature': 0.5,
    'top_p': 1.0,
    'max_tokens': 20,
    'stop': ['\nQ:'],
    'seed': remote.seed(one, 'gsm8k/test/0', 0),
  }
  assert second == {
    'model': 'org/some:model',
    'prompt': inputs.prepare(plain).prompts[0],
    'temperature': 1.0,
    'top_p': 0.9,
    'max_tokens': 9,
    'stop': ['\nQ:'],
    'top_k': 3,
    'min_p': 0.25,
  }
  assert second['prompt'].count('Q: ') == 3


def test_seeds_are_told_apart(config):
  other = dataclasses.replace(config, seed=1)
  found = {
    remote.seed(one, f'p{problem}', index)
    for one in (config, other)
    for problem in range(40)
    for index in range(40)
  }
  assert len(found) == 3200
  assert all(0 <= seed < 2**31 for seed in found)


def test_settings_that_few_servers_know_are_told_of(config, tmp_path, capsys):
  sampler = dataclasses.replace(config.sampler, top_k=3)
  remote.sample(
    dataclasses.replace(config, sampler=sampler, limit=1), str(tmp_path)
  )
  assert "sample: top_k are not of OpenAI's" in capsys.readouterr().err


def test_more_samples_and_problems_only_add_shards(config, server, tmp_path):
  remote.sample(config, str(tmp_path))
  before = shards(tmp_path)
  more = dataclasses.replace(config, limit=4, samples_per_problem=14)
  cost = remote.sample(more, str(tmp_path))
  after = shards(tmp_path)
  assert {name: after[name] for name in before} == before
  found = rows(tmp_path)
  assert len({(r.problem_id, r.index) for r in found}) == len(found) == 4 * 14
  assert len(server.requests) == 4 * 14
  assert cost['decode_tokens'] == sum(row.output_tokens for row in found)


@pytest.mark.parametrize(
  ('field', 'value', 'named'),
  [
    ('seed', 1, 'seed'),
    ('send_seed', False, 'send_seed'),
    ('shots', 1, 'shots'),
    ('chat', 'off', 'endpoint'),
    ('model', 'org/some model', 'model'),
    ('temperature', 0.25, r'sampler\.temperature'),
    ('top_k', 3, r'sampler\.top_k'),
    ('max_new_tokens', 8, r'sampler\.max_new_tokens'),
  ],
)
def test_another_run_in_the_folder_is_refused(
  config, server, tmp_path, field, value, named
):
  one = dataclasses.replace(config, limit=1, samples_per_problem=1)
  remote.sample(one, str(tmp_path))
  before = {p: p.read_bytes() for p in tmp_path.rglob('*') if p.is_file()}
  if hasattr(config.sampler, field):
    value = dataclasses.replace(config.sampler, **{field: value})
    field = 'sampler'
  other = dataclasses.replace(one, **{field: value})
  with pytest.raises(errors.InputError, match=f'{named}: wanted'):
    remote.sample(other, str(tmp_path))
  after = {p: p.read_bytes() for p in tmp_path.rglob('*') if p.is_file()}
  assert after == before
  assert len(server.requests) == 1


def test_the_same_model_elsewhere_is_the_same(config, tmp_path):
  remote.sample(config, str(tmp_path))
  more = dataclasses.replace(config, limit=4, concurrency=1, timeout=9.0)
  with loopback.serving(answer, whole=True) as other:
    remote.sample(dataclasses.replace(more, server=other.url), str(tmp_path))
  assert len(other.requests) == 12


def test_a_bad_shard_is_asked_for_again(config, server, tmp_path):
  remote.sample(config, str(tmp_path))
  before = shards(tmp_path)
  path = home(tmp_path) / SHARDS[1]
  path.write_bytes(path.read_bytes()[:-9])
  remote.sample(config, str(tmp_path))
  assert shards(tmp_path) == before
  assert len(server.requests) == 36 + 12


class Limited:
  """A server that answers so many requests as it should, then otherwise."""

  def __init__(self, count, otherwise):
    self._lock = threading.Lock()
    self.left, self._otherwise = count, otherwise
    self.good = 0

  def __call__(self, body):
    with self._lock:
      self.left -= 1
      if self.left < 0:
        return self._otherwise
      self.good += 1
    return answer(body)


def broken(status):
  return loopback.Answer(
    status, {'error': {'message': 'broken'}}, {'Retry-After': '0.01'}
  )


@pytest.mark.parametrize(
  ('otherwise', 'kind', 'got'),
  [
    (broken(500), errors.Stopped, 'status 500: broken'),
    (broken(429), errors.Stopped, 'status 429: broken'),
    (broken(402), errors.InputError, 'status 402: broken'),
    (
      loopback.Answer(200, b'<html>', {'Content-Type': 'text/html'}),
      errors.Stopped,
      'no JSON: "<html>"',
    ),
    (loopback.Answer(200, {'choices': []}), errors.Stopped, 'no list'),
    (loopback.said(None, completion=0), errors.Stopped, 'text is null'),
    (loopback.said('x', completion=-3), errors.Stopped, 'tokens" is -3'),
    (loopback.said('x', 10**15), errors.Stopped, 'is 1000000000000000'),
    (loopback.said(['x']), errors.Stopped, 'whose text is'),
    (loopback.said('x' * 10**6), errors.Stopped, 'a reply of more than'),
    (
      dataclasses.replace(loopback.said('x'), cut=5),
      errors.Stopped,
      'a reply that broke off',
    ),
  ],
  ids=[
    '500', '429', '402', 'html', 'empty', 'null', 'negative', 'absurd', 'list',
    'huge', 'cut',
  ],
)  # fmt: skip
def test_a_server_that_goes_bad_costs_nothing_twice(
  config, tmp_path, otherwise, kind, got
):
  rule = Limited(29, otherwise)
  with loopback.serving(rule, whole=True) as bad:
    with pytest.raises(kind) as caught:
      remote.sample(dataclasses.replace(config, server=bad.url), str(tmp_path))
  said = str(caught.value)
  start = f"server: wanted a chat completion of 'org/some:model' from {bad.url}"
  assert said.startswith(start)
  assert got in said
  assert len(said) < 350
  assert '\n' not in said
  # All that came is there, in whole shards or waiting for the rest.
  kept = storage.names(str(home(tmp_path) / 'replies'))
  assert len(kept) + len(rows(tmp_path)) == rule.good == 29
  before = shards(tmp_path)
  with loopback.serving(answer, whole=True) as good:
    remote.sample(dataclasses.replace(config, server=good.url), str(tmp_path))
  assert len(good.requests) == 36 - 29
  assert before.items() <= shards(tmp_path).items()
  assert not (home(tmp_path) / 'replies').exists()
  # As if nothing had been.
  with loopback.serving(answer, whole=True) as good:
    whole = tmp_path / 'whole'
    remote.sample(dataclasses.replace(config, server=good.url), str(whole))
  assert shards(tmp_path) == shards(whole)
  assert ledger(tmp_path) == ledger(whole)


def test_a_server_that_never_replies_leaves_no_samples(config, tmp_path):
  with loopback.serving(lambda _: broken(401), whole=True) as bad:
    with pytest.raises(errors.InputError, match='status 401'):
      remote.sample(dataclasses.replace(config, server=bad.url), str(tmp_path))
  assert not home(tmp_path).exists()
  # So that other settings may be tried.
  remote.sample(dataclasses.replace(config, seed=7), str(tmp_path))


def test_a_server_that_hangs_is_an_error_in_time(config, tmp_path):
  def rule(body):
    time.sleep(9)
    return answer(body)

  slow = dataclasses.replace(config, timeout=0.1, retries=0)
  with loopback.serving(rule, whole=True) as server:
    began = time.monotonic()
    with pytest.raises(errors.InputError, match='timed out'):
      remote.sample(dataclasses.replace(slow, server=server.url), str(tmp_path))
    assert time.monotonic() - began < 5


def test_what_came_serves_other_shards_too(config, tmp_path):
  """Fewer samples than were begun, then all of them."""
  with loopback.serving(Limited(20, broken(500)), whole=True) as bad:
    with pytest.raises(errors.Stopped):
      remote.sample(
        dataclasses.replace(config, server=bad.url, concurrency=1),
        str(tmp_path),
      )
  fewer = dataclasses.replace(config, samples_per_problem=4)
  with loopback.serving(answer, whole=True) as good:
    there = {'server': good.url}
    remote.sample(dataclasses.replace(fewer, **there), str(tmp_path))
    # Those of the first two problems, and four of the third one, were there.
    assert len(good.requests) == 0
    assert len(rows(tmp_path)) == 12
    assert len(storage.names(str(home(tmp_path) / 'replies'))) == 8
    remote.sample(dataclasses.replace(config, **there), str(tmp_path))
  assert len(good.requests) == 36 - 20
  found = rows(tmp_path)
  assert len({(r.problem_id, r.index) for r in found}) == len(found) == 36
  assert not (home(tmp_path) / 'replies').exists()


def test_replies_of_which_nobody_knows_the_question_are_refused(
  config, tmp_path
):
  config = dataclasses.replace(config, concurrency=1)
  with loopback.serving(Limited(5, broken(500)), whole=True) as bad:
    # One after another: some replies come before the first failure.
    one = dataclasses.replace(config, server=bad.url, concurrency=1)
    with pytest.raises(errors.Stopped):
      remote.sample(one, str(tmp_path))
  (home(tmp_path) / 'manifest.json').unlink()
  with pytest.raises(errors.InputError, match=r'wanted the manifest\.json'):
    remote.sample(config, str(tmp_path))


def test_a_shard_that_was_written_as_the_run_was_killed(
  config, server, tmp_path, monkeypatch
):
  """Between the shard and the end of its replies."""
  drop = remote.journal.Journal.drop

  def killed(self, cells):
    if [*cells]:
      raise KeyboardInterrupt
    drop(self, [])

  monkeypatch.setattr(remote.journal.Journal, 'drop', killed)
  with pytest.raises(KeyboardInterrupt):
    remote.sample(config, str(tmp_path))
  monkeypatch.undo()
  assert len(storage.names(str(home(tmp_path) / 'replies'))) >= 24
  remote.sample(config, str(tmp_path))
  assert len(server.requests) == 36
  assert not (home(tmp_path) / 'replies').exists()


def launch(config, folder):
  """Starts `launch/sample.py` where jax cannot be loaded."""
  fields = dataclasses.asdict(config)
  fields |= {f'sampler.{k}': v for k, v in fields.pop('sampler').items()}
  code = (
    'import runpy, sys; sys.modules["jax"] = None; sys.argv = sys.argv[1:]; '
    'runpy.run_path(sys.argv[0], run_name="__main__")'
  )
  return subprocess.Popen(
    [
      sys.executable,
      *('-c', code, 'launch/sample.py'),
      f'--workdir={folder}',
      *(f'--config.{name}={value}' for name, value in fields.items()),
    ],
    cwd=ROOT,
    env=os.environ | {'PYTHONPATH': str(ROOT), 'OPENAI_API_KEY': KEY},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


class Slow:
  """A server that takes its time, and tells the key to whoever asks."""

  def __init__(self):
    self.seconds = 0.05

  def __call__(self, body):
    time.sleep(self.seconds)
    found = answer(body)
    message = found.body['choices'][0]['message']
    message['content'] = message['content'].replace('By', f'{KEY} by')
    return found


@pytest.mark.parametrize(
  ('number', 'stops'), [(signal.SIGKILL, (12, 36)), (signal.SIGTERM, (24,))]
)
def test_a_stopped_run_pays_for_nothing_twice(
  config, tmp_path, monkeypatch, number, stops
):
  """No request is made again but those that were under way at a SIGKILL."""
  monkeypatch.setenv('OPENAI_API_KEY', KEY)
  config = dataclasses.replace(config, limit=5, concurrency=4)
  shown = ''
  rule = Slow()
  with loopback.serving(rule, whole=True) as server:
    config = dataclasses.replace(config, server=server.url)
    folder = tmp_path / 'run'
    for stop in stops:
      process = launch(config, folder)
      until = time.monotonic() + 120
      while len(server.requests) < stop and time.monotonic() < until:
        time.sleep(0.005)
      process.send_signal(number)
      out, err = process.communicate(timeout=120)
      shown += out + err
      if number == signal.SIGTERM:
        assert process.returncode == 75, err
        last = err.splitlines()[-1]
        assert last == 'stopped: SIGTERM; run it again to go on.'
      else:
        assert process.returncode == -signal.SIGKILL
    process = launch(config, folder)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    shown += out + err
    lost = len(server.requests) - 60
    whole = tmp_path / 'whole'
    rule.seconds = 0.0
    remote.sample(config, str(whole))
  if number == signal.SIGTERM:
    assert lost == 0
  else:
    assert 0 <= lost <= len(stops) * config.concurrency
  assert shards(folder) == shards(whole)
  assert ledger(folder) == ledger(whole)
  assert set(server.keys) == {f'Bearer {KEY}'}
  files = [path for path in tmp_path.rglob('*') if path.is_file()]
  assert len(files) >= 12
  for path in files:
    assert KEY.encode() not in path.read_bytes(), path
  assert KEY not in shown
  assert all(row.text.startswith('[key] by ') for row in rows(folder))
  assert not [path for path in files if path.name.endswith('.tmp')]


def test_a_server_that_refuses_the_key_does_not_tell_it(config, tmp_path):
  def rule(_):
    message = f'Incorrect API key: {KEY}'
    return loopback.Answer(401, {'error': {'message': message}})

  with loopback.serving(rule, whole=True) as server:
    process = launch(
      dataclasses.replace(config, server=server.url), tmp_path / 'run'
    )
    out, err = process.communicate(timeout=120)
  assert process.returncode == 2
  assert err.splitlines()[-1] == (
    "launch/sample.py: server: wanted a chat completion of 'org/some:model' "
    f'from {server.url}; got status 401: Incorrect API key: [key].'
  )
  assert KEY not in out + err
  for path in tmp_path.rglob('*'):
    assert path.is_dir() or KEY.encode() not in path.read_bytes()


def prices_of(monkeypatch, read, drawn):
  row = prices.ApiPrice('org/some:model', read, drawn, '', '')
  monkeypatch.setattr(prices, '_own_api', {row.model: row})


def test_dollars_by_the_price_of_the_model(
  config, tmp_path, monkeypatch, capsys
):
  prices_of(monkeypatch, 2.0, 8.0)
  cost = remote.sample(config, str(tmp_path))
  want = (cost['prefill_tokens'] * 2 + cost['decode_tokens'] * 8) / 1e6
  assert cost['usd'] == ledger(tmp_path)[0]['usd'] == pytest.approx(want)
  err = capsys.readouterr().err
  assert 'usd 0.00' in err
  assert 'not known' not in err


@pytest.mark.parametrize('currency', inputs.SERVED_CAPS)
def test_a_cap_ends_the_run_with_the_shard_that_reaches_it(
  config, server, tmp_path, monkeypatch, capsys, currency
):
  prices_of(monkeypatch, 0.0, 1e6)
  config = dataclasses.replace(config, limit=5)
  little = dataclasses.replace(config, cap=1.0, cap_in=currency)
  folder = str(tmp_path / 'run')
  cost = remote.sample(little, folder)
  assert len(server.requests) == len(rows(folder)) == 40
  assert {row.index for row in rows(folder)} == {*range(8)}
  assert (
    f'the cap of 1 {currency} is spent: 40 samples are drawn, and 1 sh'
    in (capsys.readouterr().err)
  )
  assert remote.sample(little, folder) == cost
  assert len(server.requests) == 40
  rich = dataclasses.replace(little, cap=1e9)
  remote.sample(rich, folder)
  assert len(rows(folder)) == 60
  remote.sample(config, str(tmp_path / 'whole'))
  assert shards(folder) == shards(tmp_path / 'whole')


def test_what_waits_for_its_shard_counts_towards_a_cap(config, tmp_path):
  config = dataclasses.replace(config, concurrency=1)
  with loopback.serving(Limited(29, broken(500)), whole=True) as bad:
    with pytest.raises(errors.Stopped):
      remote.sample(dataclasses.replace(config, server=bad.url), str(tmp_path))
  drawn = shardfiles.ShardFolder(str(home(tmp_path))).cost()['decode_tokens']
  capped = dataclasses.replace(config, cap=drawn + 1.0, cap_in='decode_tokens')
  with loopback.serving(answer, whole=True) as good:
    remote.sample(dataclasses.replace(capped, server=good.url), str(tmp_path))
  assert good.requests == []


def test_every_name_of_a_model_is_safe_as_a_folder():
  for model in [*hostile.TEXTS, '../..', '..', 'a\0b', '-x', '~', 'a b/ ']:
    name = inputs.served_name(model)
    assert re.fullmatch(r'([A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?)?', name)


@pytest.mark.parametrize(
  'model', [*hostile.TEXTS[::6], '../../x', '..', '@a/b@c']
)
def test_names_of_models_are_data(problems, server, tmp_path, model):
  config = inputs.SampleConfig(
    server=server.url, model=model, task='gsm8k', data=problems, split='test',
    limit=1,
  )  # fmt: skip
  workdir = tmp_path / 'run'
  if not inputs.served_name(model):
    with pytest.raises(errors.InputError, match='model: wanted a name'):
      remote.sample(config, str(workdir))
    return
  remote.sample(config, str(workdir))
  assert [r['model'] for r in server.requests] == [model]
  (folder,) = (workdir / 'samples').iterdir()
  assert folder.name == inputs.served_name(model)
  assert (
    json.loads((folder / 'manifest.json').read_text())['fingerprint']['model']
    == model
  )
  assert [path.name for path in tmp_path.iterdir()] == ['run']
  (row,) = ledger(workdir)
  assert row['model'] == folder.name


def test_texts_are_data_up_to_the_students_training_rows(tmp_path):
  """Hostile texts as replies, graded, measured, and chosen for training."""
  task = tasks.load('arith')
  by_question = {p.question: p for p in task.problems('train')}

  def rule(body):
    problem = by_question[asked_of(body).partition('\n\n')[0]]
    text = hostile.TEXTS[body['seed'] % len(hostile.TEXTS)]
    return f'{text} {problem.solution}'

  with loopback.serving(rule, whole=True) as server:
    remote.sample(
      inputs.SampleConfig(
        server=server.url, model='org/some:model', limit=10,
        samples_per_problem=10, concurrency=16,
      ),
      str(tmp_path),
    )  # fmt: skip
  found = rows(tmp_path)
  seen = {text for text in hostile.TEXTS if any(text in r.text for r in found)}
  assert len(seen) > 25
  measures = grade.grade(grade.GradeConfig(), str(tmp_path))['some-model']
  assert measures['samples'] == 100
  assert measures['mean_output_tokens'] == 3
  assert measures['pass@1']['value'] > 0.5
  assert [row['stage'] for row in runlog.merge_ledger(str(tmp_path))] == [
    'grade',
    'sample',
  ]
  examples, counts = training.read_graded(
    str(tmp_path), task, selection.Selection()
  )
  assert counts['rows'] == 100
  assert len(examples) > 50
  completions = {example.completion for example in examples}
  assert any('<script>' in text for text in completions)


@pytest.mark.parametrize(
  ('said', 'text', 'reason'),
  [
    (loopback.said('4\nQ: 5', finish='length'), '4', 'stop'),
    (loopback.said('4', finish='length'), '4', 'length'),
    (loopback.said('', completion=1), '', 'stop'),
    (loopback.said(None, completion=1, finish='length'), '', 'length'),
    (loopback.said('4', finish='content_filter'), '4', 'length'),
    (loopback.said('4', completion=50), '4', 'stop'),
  ],
)
def test_what_a_reply_becomes(config, tmp_path, capsys, said, text, reason):
  one = dataclasses.replace(config, limit=1, samples_per_problem=1)
  with loopback.serving(lambda _: said, whole=True) as server:
    remote.sample(dataclasses.replace(one, server=server.url), str(tmp_path))
  (row,) = rows(tmp_path)
  assert (row.text, row.finish_reason) == (text, reason)
  err = capsys.readouterr().err
  filtered = said.body['choices'][0]['finish_reason'] == 'content_filter'
  assert ('1 texts were cut by a filter' in err) == filtered
  assert (
    '1 samples have more tokens than max_new_tokens=20, up to 50' in err
  ) == (row.output_tokens == 50)


def test_a_server_that_draws_one_text_is_told_of(config, tmp_path, capsys):
  """As one that knows no temperature; one problem may have one answer."""
  said = 'all samples of any problem are one text'
  greedy = dataclasses.replace(config.sampler, temperature=0.0)
  for name, rule, changes, told in (
    ('same', lambda b: asked_of(b)[:5], {}, True),
    ('some', lambda b: '2' if '0 + 2' in asked_of(b) else answer(b), {}, False),
    ('one', lambda _: 'x', {'samples_per_problem': 1}, False),
    ('greedy', lambda _: 'x', {'sampler': greedy}, False),
  ):
    with loopback.serving(rule, whole=True) as server:
      one = dataclasses.replace(config, server=server.url, **changes)
      remote.sample(one, str(tmp_path / name))
    assert (said in capsys.readouterr().err) == told, name


def test_a_prompt_beyond_the_context_is_named(config, tmp_path):
  refusal = {'message': 'too long', 'code': 'context_length_exceeded'}
  with loopback.serving(
    lambda _: loopback.Answer(400, {'error': refusal}), whole=True
  ) as server:
    with pytest.raises(errors.InputError, match='does not') as caught:
      remote.sample(
        dataclasses.replace(config, server=server.url), str(tmp_path)
      )
  assert "'gsm8k/test/" in str(caught.value)


@pytest.mark.parametrize(
  ('changes', 'said'),
  [
    ({'server': 'localhost'}, 'server: wanted http'),
    ({'server': f'http://a:{KEY}@host/v1'}, 'without user name'),
    ({'server': ''}, "model: wanted a server that has it; got 'org/some:mod"),
    ({'model': ''}, 'model: wanted the name of a model'),
    ({'model': '//'}, 'model: wanted a name that leaves 1 to 100'),
    ({'model': 'x' * 101}, 'model: wanted a name that leaves 1 to 100'),
    ({'model': '\udcff'}, 'model: wanted UTF-8'),
    ({'key_variable': KEY}, 'key_variable: wanted the name of an env'),
    ({'concurrency': 0}, 'concurrency: wanted a count >= 1'),
    ({'retries': -1}, 'retries: wanted a count >= 0'),
    ({'timeout': 0.0}, 'timeout: wanted seconds > 0'),
    ({'timeout': float('nan')}, 'timeout: wanted seconds > 0'),
    ({'weights': 'int8'}, "weights: wanted '' beside a server"),
    ({'mesh': 'data=1'}, "mesh: wanted '' beside a server"),
    ({'dtype': 'float32'}, "dtype: wanted 'bfloat16' beside a server"),
    ({'chat': 'yes'}, 'chat: wanted'),
    ({'plan': 'plan.json'}, 'plan: wanted none beside a server'),
    ({'cap': 1.0}, 'cap_in: wanted decode_tokens or usd beside a server'),
    ({'cap': 1.0, 'cap_in': 'chip_seconds'}, 'whose chip_seconds nobody'),
    ({'cap': 1.0, 'cap_in': 'usd'}, "cap_in: wanted a price of 'org/some:m"),
    ({'task': 'none'}, 'task: wanted'),
  ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
  config, server, tmp_path, changes, said
):
  folder = tmp_path / 'run'
  with pytest.raises(errors.InputError) as caught:
    run.sample(dataclasses.replace(config, **changes), str(folder))
  assert said in str(caught.value)
  assert KEY not in str(caught.value)
  assert '\n' not in str(caught.value)
  assert not folder.exists()
  assert server.requests == []
