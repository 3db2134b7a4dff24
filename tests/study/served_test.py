"""A study of two models behind a server, at the same price."""

import json

import hostile
import loopback
import pytest

from wcse_jax import errors, exports, records, shardfiles, tasks
from wcse_jax import server as servers
from wcse_jax.sampler import settings as sampler_settings
from wcse_jax.sft import settings as sft_settings
from wcse_jax.study import run, settings


KEY = 'sk-planted-93c1f7aa'
PROBLEMS = 8
# Weak solves one text of two, strong each; what it says after is hostile.
SOLVES = {'gemini-1.5-flash': 2, 'gemini-1.5-pro': 1}


class _Rule:
  """Answers by question, seed and model alone; may fail after some replies."""

  def __init__(self):
    arith = tasks.load('arith')
    problems = [*arith.problems('train'), *arith.problems('test')]
    self.answers = {arith.ask(p.question, []): p.answer for p in problems}
    self.left = 10**9

  def __call__(self, body):
    if self.left <= 0:
      return loopback.Answer(500, {'error': {'message': hostile.TEXTS[0]}})
    self.left -= 1
    text = body['messages'][0]['content']
    seed, model = body['seed'], body['model']
    said = int(self.answers[text]) + (seed % SOLVES[model] > 0)
    tail = hostile.TEXTS[seed % len(hostile.TEXTS)]
    return loopback.said(f'{tail} {seed}\nThe answer is {said}.', len(text), 9)


@pytest.fixture(scope='module')
def rule():
  return _Rule()


@pytest.fixture(scope='module')
def served(rule):
  with loopback.serving(rule, whole=True) as found:
    yield found


@pytest.fixture(scope='module')
def config(served):
  def model(name):
    return settings.Model(
      server=served.url, model=name, label=hostile.TEXTS[0], retries=0
    )

  return settings.StudyConfig(
    models={
      'wc': model('gemini-1.5-flash'),
      'se': model('gemini-1.5-pro'),
      'student': settings.Model(checkpoint='tiny-student'),
    },
    currency='usd',
    budgets={'low': 1},
    problems=PROBLEMS,
    test=settings.TestSet(limit=8),
    validation_problems=4,
    truth_samples=0,
    cost_ratios=(2.0, 20.0),
    setups={'student': settings.usual_setups()['student']},
    replicates=1,
    majority=(),
    sampler=sampler_settings.SamplerConfig(
      max_new_tokens=48, slots=16, prefill_batch=8
    ),
    sft=sft_settings.SftConfig(
      steps=2, batch_size=8, max_length=256, checkpoints=1
    ),
  )


@pytest.fixture(scope='module')
def finished(rule, served, config, tmp_path_factory):
  """Returns (folder, results) of a study whose server broke down on the way."""
  folder = tmp_path_factory.mktemp('served')
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('OPENAI_API_KEY', KEY)
    patch.setattr(servers, '_WAIT_S', 0.01)
    rule.left = 100
    with pytest.raises(errors.Stopped, match='500'):
      run.run(config, str(folder))
    rule.left = 10**9
    results = run.run(config, str(folder))
  return folder, results


def test_as_many_samples_are_bought_as_the_price_says(finished, served):
  _, results = finished
  (budget,) = results['budgets']
  assert (budget['wc'], budget['se'], budget['currency']) == (35, 1, 'usd')
  assert results['quality']['low']['wc']['samples'] == 35 * PROBLEMS
  assert results['quality']['low']['se']['pass@1']['value'] == 1
  # One text of two is right: two samples cover three problems of four.
  even = results['break_even']['low']
  assert even['ratio'] > 4
  assert {row['k_wc'] for row in results['dial']} >= {1, 2, 35}
  assert [row['ratio'] for row in results['ratios']] == [2.0, 20.0, 35.0]
  # Ten replies that were under way at most are asked for twice.
  paid = [body for body in served.requests if body['model'] in SOLVES]
  assert 36 * PROBLEMS < len(paid) <= 36 * PROBLEMS + 10


def test_the_key_is_in_no_file(finished):
  folder, _ = finished
  files = [path for path in folder.rglob('*') if path.is_file()]
  assert len(files) > 20
  for path in files:
    assert KEY.encode() not in path.read_bytes(), path


def test_dollars_are_those_of_the_price_table(finished):
  folder, results = finished
  lines = (folder / 'ledger.jsonl').read_text(encoding='utf8').splitlines()
  rows = [row for row in map(json.loads, lines) if row['stage'] == 'sample']
  usd = {row['model']: row['usd'] for row in rows}
  samples = shardfiles.ShardFolder(
    str(folder / 'samples' / 'gemini-1.5-flash')
  ).rows(records.Sample)
  read = sum(row.prompt_tokens for row in samples)
  assert usd['gemini-1.5-flash'] == pytest.approx(
    (read * 0.075 + 35 * PROBLEMS * 9 * 0.30) / 1e6
  )
  (row,) = (row for row in results['currencies'] if row['currency'] == 'usd')
  assert row['wc'] == pytest.approx(usd['gemini-1.5-flash'] / (35 * PROBLEMS))


def test_students_and_exports_come_of_what_the_server_said(finished):
  folder, results = finished
  (setup,) = results['training']['setups']
  arms = {arm['arm']: arm for arm in setup['arms']}
  assert arms['se']['examples'] == [PROBLEMS]
  for row in results['exports']:
    assert exports.whole(str(folder / row['folder']))


def test_hostile_answers_and_names_run_nothing(finished, chromium):
  folder, _ = finished
  page = chromium.page()
  page.before_load('var pwned = 0;')
  page.open(folder / 'report' / 'index.html')
  assert hostile.TEXTS[0] in page.evaluate('document.body.textContent')
  browser = folder / 'report' / 'samples'
  page.open(browser / 'index.html')
  for at in range(PROBLEMS):
    page.open(browser / 'pages' / f'{at:06d}.html')
    assert page.evaluate('document.querySelectorAll(".text").length') > 30
  assert page.evaluate('pwned') == 0
  assert (page.violations, page.errors, page.dialogs) == ([], [], [])
  assert all(url.startswith('file:') for url in page.requests)
