"""`launch/plan.py`: pilots in, a decision out."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from wcse_jax import (
  budget,
  checkpoints,
  errors,
  prices,
  records,
  runlog,
  shardfiles,
  storage,
  tasks,
)
from wcse_jax.plan import (
  curves,
  joint,
  planner,
  settings,
  shown,
  simulation,
  spending,
)
from wcse_jax.tasks import base


def write(path, right_Q, n, ids=None):
  ids = ids or [f'p{q}' for q in range(len(right_Q))]
  rows = [
    {'problem_id': one, 'index': i, 'correct': bool(i < right)}
    for one, right in zip(ids, right_Q, strict=True)
    for i in range(n)
  ]
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return str(path)


@pytest.fixture(scope='module')
def files(tmp_path_factory):
  folder = tmp_path_factory.mktemp('pilots')
  one = simulation.pilot('MATH', 0.8, np.random.default_rng(0), 300)
  return tuple(
    write(folder / f'{name}.jsonl', one.right_MQ[m], 16)
    for m, name in enumerate(one.names)
  )


@pytest.fixture(scope='module')
def config(files):
  return settings.PlanConfig(
    pilots=files, costs=(1.0, 3.0), currency='flops', budget=10, draws=60
  )


@pytest.fixture(scope='module')
def result(config, tmp_path_factory):
  folder = tmp_path_factory.mktemp('plan')
  found = planner.plan(config, str(folder))
  assert json.loads((folder / 'plan.json').read_text()) == found
  return found


def test_the_file_has_what_was_promised(result):
  assert result['currency'] == 'flops'
  assert 'unlimited population' in result['estimand']
  assert set(result['models']) == {'weak', 'strong'}
  for model in result['models'].values():
    assert model['n'] == 16
    ks = [row['k'] for row in model['curve']]
    assert {1, 10, 16, 30, 64} <= set(ks)
    for row in model['curve']:
      assert row['extrapolated'] == (row['k'] > 16)
      assert row['low'] < row['coverage'] < row['high']
      assert row['spread_low'] <= row['spread_high']
    assert len(model['fits']) == 8
    assert sum(one['belief'] for one in model['fits']) == pytest.approx(1)
    assert model['backtest']['k'] == 16
  (pair,) = result['pairs']
  assert (pair['weak'], pair['strong']) == ('weak', 'strong')
  assert (pair['k_strong'], pair['k_weak']) == (10, 30)
  curves = {
    name: {row['k']: row['coverage'] for row in model['curve']}
    for name, model in result['models'].items()
  }
  assert pair['gap'] == pytest.approx(curves['weak'][30] - curves['strong'][10])


def test_the_plan_spends_the_budget_and_beats_the_best_arm(result):
  plan = result['allocation']
  assert plan['cost'] == pytest.approx(plan['budget']) == pytest.approx(30)
  assert plan['value'] >= plan['best_pure']['value']
  assert plan['gain']['value'] == pytest.approx(
    plan['value'] - plan['best_pure']['value']
  )
  assert plan['low'] < plan['value'] < plan['high']
  assert sum(part['share'] for part in plan['parts']) == pytest.approx(1)
  spent = plan['samples']['weak'] + 3 * plan['samples']['strong']
  assert spent == pytest.approx(30)
  kinds = [row['value'] for row in plan['kinds']]
  assert kinds == sorted(kinds)
  # Nothing was judged.
  assert plan['false_positives'] == {'weak': None, 'strong': None}


def test_the_table_names_the_verdict_and_the_plan(result):
  text = shown.table(result)
  assert 'weak at 30 against strong at 10' in text
  assert result['pairs'][0]['verdict'] in text
  assert f'plan ({result["allocation"]["kind"]})' in text
  assert 'extrapolated' in text


def test_false_positives_are_foretold(config, tmp_path):
  asked = dataclasses.replace(
    config, false_positive_rates=(0.24, 0.17), policies=('pure',)
  )
  plan = planner.plan(asked, str(tmp_path))['allocation']
  for name, rate in (('weak', 0.24), ('strong', 0.17)):
    assert plan['false_positives'][name] == pytest.approx(
      rate * plan['right'][name]
    )


def test_a_known_number_of_problems_is_surer(config, result, tmp_path):
  known = planner.plan(
    dataclasses.replace(config, problems=300, policies=('pure',)),
    str(tmp_path),
  )
  assert 'coverage of 300 problems' in known['estimand']

  def width(found):
    return found['pairs'][0]['gap_high'] - found['pairs'][0]['gap_low']

  assert width(known) < 0.9 * width(result)


def test_right_samples_as_the_objective(config, tmp_path):
  plan = planner.plan(
    dataclasses.replace(config, objective='right'), str(tmp_path)
  )['allocation']
  assert plan['value'] == pytest.approx(sum(plan['right'].values()))
  # They come from the model with more right samples for the money.
  assert plan['right']['weak'] > plan['right']['strong']


@pytest.mark.parametrize(
  ('change', 'said'),
  [
    ({'pilots': ('a.jsonl',)}, 'pilots: wanted the grades of two models'),
    ({'currency': 'euro'}, 'currency: wanted one of params'),
    ({'objective': 'fun'}, 'objective: wanted one of'),
    ({'costs': (1.0,)}, 'costs: wanted one for each of the 2 pilots; got 1'),
    ({'costs': (1.0, -3.0)}, 'costs: wanted numbers > 0; got -3.0'),
    ({'costs': ()}, 'has no ledger: wanted --config.costs'),
    ({'budget': 0.0}, 'budget: wanted samples per problem > 0'),
    ({'budget': 0.1}, 'budget: wanted the cost of one sample of some model'),
    ({'policies': ('luck',)}, 'policies: wanted names among'),
    ({'problems': 10}, 'problems: wanted 0 or at least the 300'),
    ({'margin': 2.0}, 'margin: wanted a share'),
    ({'until': (0,)}, 'until: wanted counts >= 1'),
    ({'rounds': ()}, 'rounds: wanted counts >= 1'),
    ({'prompt_costs': (1.0, -1.0)}, 'prompt_costs: wanted numbers >= 0'),
    ({'false_positive_rates': (0.1, 2.0)}, 'false_positive_rates: wanted'),
    ({'objective': 'distinct'}, 'task: wanted the task of the pilots'),
    ({'task': 'arith'}, 'pilots: wanted problems of the split train of arith'),
  ],
)
def test_what_does_not_fit_is_refused(config, tmp_path, change, said):
  with pytest.raises(errors.InputError) as caught:
    planner.plan(dataclasses.replace(config, **change), str(tmp_path / 'run'))
  assert said in str(caught.value)
  assert '\n' not in str(caught.value)
  assert not (tmp_path / 'run').exists()


def test_pilots_that_do_not_fit_are_refused(config, files, tmp_path):
  other = write(tmp_path / 'other.jsonl', [1, 2], 4, ['p0', 'x'])
  few = write(tmp_path / 'few.jsonl', [1, 0, 1], 1)
  empty = tmp_path / 'empty.jsonl'
  empty.write_text('')
  twice = tmp_path / 'twice.jsonl'
  row = json.dumps({'problem_id': 'p', 'index': 0, 'correct': True})
  twice.write_text(f'{row}\n{row}\n')
  bad = tmp_path / 'bad.jsonl'
  bad.write_text('{"problem_id": "p", "index": 0, "correct": "yes"}\n')
  for pilots, said in (
    ((files[0], other), 'wanted the same problems in all; weak has 300'),
    ((few, few), 'wanted a name of its own'),
    (
      (few, write(tmp_path / 'less.jsonl', [1, 1, 1], 1)),
      'few: wanted 2 graded samples or more',
    ),
    ((files[0], str(empty)), 'wanted rows of grades; it is empty'),
    ((files[0], str(twice)), 'wanted one grade; there are two'),
    ((files[0], str(bad)), 'row 1: field "correct": wanted true'),
    ((files[0], 'nowhere.jsonl'), 'no such file'),
    ((files[0], str(tmp_path)), 'there are none'),
  ):
    with pytest.raises(errors.InputError) as caught:
      planner.plan(
        dataclasses.replace(config, pilots=pilots), str(tmp_path / 'run')
      )
    assert said in str(caught.value)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('right', [0, 6])
def test_pilots_that_tell_nothing_are_said_to(tmp_path, right):
  paths = tuple(
    write(tmp_path / f'{name}.jsonl', [right] * 30, 6) for name in 'ab'
  )
  found = planner.plan(
    settings.PlanConfig(pilots=paths, costs=(1, 2), budget=2, draws=40),
    str(tmp_path / 'run'),
  )
  assert found['pairs'][0]['verdict'] == 'cannot tell'
  for model in found['models'].values():
    for row in model['curve']:
      assert row['high'] - row['low'] >= 0.09


def test_a_budget_below_one_strong_sample_says_so(config, tmp_path):
  found = planner.plan(
    dataclasses.replace(config, budget=0.5), str(tmp_path / 'run')
  )
  (row,) = found['pairs']
  assert row['k_strong'] == 1
  assert 'The budget buys 0.5 of the strong.' in row['rounding']
  assert found['allocation']['cost'] <= found['budget'] * (1 + 1e-9)


def test_small_levels_are_planned_with_their_neighbours():
  random = np.random.default_rng(0)
  names = ['1'] * 10 + ['2'] * 40 + ['3'] * 50 + ['4'] * 20
  right_MQ = random.binomial(4, 0.5, (2, len(names)))
  n_MQ = np.full(right_MQ.shape, 4)
  # Too few samples of the third level.
  n_MQ[:, 50:100] = 1
  pilot = curves.Pilot(('a', 'b'), n_MQ, np.minimum(right_MQ, n_MQ))

  def groups(pilot):
    found = curves.Curves(pilot, draws=20)
    whole = joint.Population(found, nodes=64)
    return [
      (group.name, group.share)
      for group in spending._groups(
        settings.PlanConfig(draws=20), found, whole, names
      )
    ]

  assert groups(pilot) == [('', 1.0)]
  full = curves.Pilot(('a', 'b'), np.full(right_MQ.shape, 4), right_MQ)
  assert groups(full) == [
    ('1,2', pytest.approx(50 / 120)),
    ('3,4', pytest.approx(70 / 120)),
  ]


def test_one_problem_tells_nothing(tmp_path):
  paths = tuple(write(tmp_path / f'{name}.jsonl', [3], 6) for name in 'ab')
  found = planner.plan(
    settings.PlanConfig(pilots=paths, costs=(1, 2), budget=2, draws=40),
    str(tmp_path / 'run'),
  )
  assert found['pairs'][0]['verdict'] == 'cannot tell'
  assert found['models']['a']['curve'][0]['low'] is None
  shown.table(found)


@pytest.fixture(scope='module')
def runs(tmp_path_factory, tiny):
  """Two run folders with graded samples, of twice the tokens in one."""
  task = tasks.load('arith', '')
  problems = base.select(task, 'train', limit=40)
  shard = shardfiles.Shard(problems[0][0], problems[-1][0], 0, 3)
  found = []
  for name, tokens in (('once', 10), ('hot', 20)):
    folder = str(tmp_path_factory.mktemp('runs') / name)
    random = np.random.default_rng(tokens)
    rows, grades = [], []
    for _, problem in problems:
      for index in range(4):
        right = bool(random.random() < 0.4)
        rows.append(
          records.Sample(
            problem_id=problem.id,
            index=index,
            text=f'{random.integers(3)} = 1',
            tokens=(),
            finish_reason='stop',
            prompt_tokens=7,
            shared_prompt_tokens=0,
            output_tokens=tokens,
            logprob=0.0,
          )
        )
        grades.append(
          records.Grade(
            problem_id=problem.id,
            index=index,
            answer='1',
            correct=right,
            verdict='right' if right else 'wrong',
            sound=bool(index) if right else None,
            why='',
          )
        )
    for kind, part in (('samples', rows), ('grades', grades)):
      path = storage.join(folder, kind, 'model')
      shardfiles.ShardFolder(path, {'of': name}).write(shard, part)
    storage.publish_json(
      storage.join(folder, 'samples', 'model', 'source.json'),
      {'checkpoint': tiny},
    )
    runlog.book(
      folder,
      'sample-model',
      {
        'stage': 'sample',
        'model': 'model',
        'chips': 1,
        'chip_seconds': 2.0 * tokens,
        'prefill_tokens': 280,
        'decode_tokens': 160 * tokens,
        'flops': 1000 * tokens,
        'usd': None,
      },
    )
    found.append(folder)
  return tuple(found)


@pytest.mark.parametrize('currency', settings.CURRENCIES)
def test_costs_come_from_the_ledgers(
  runs, tiny, tmp_path, currency, monkeypatch
):
  row = prices.Price('cpu', 0.05, '', '', '')
  monkeypatch.setattr(prices, '_own', {'cpu': row})
  asked = settings.PlanConfig(
    pilots=runs,
    currency=currency,
    task='arith',
    chip='cpu',
    draws=40,
    budget=2,
  )
  found = planner.plan(asked, str(tmp_path))
  for name, tokens in (('once', 10), ('hot', 20)):
    want = {
      'flops': 1000 * tokens / 160,
      'tokens': tokens,
      'chip_seconds': 2 * tokens / 160,
      'usd': 2 * tokens / 160 * 0.05 / 3600,
      # Of one length for all, whatever they drew.
      'params': budget.flops_per_token(checkpoints.read_config(tiny)),
    }[currency]
    assert found['models'][name]['cost'] == pytest.approx(want)
  assert found['pilot']['levels']
  # Two chip-seconds a token, a price, and the share that is right.
  once = found['models']['once']
  share = once['right'] / once['samples']
  assert once['usd_per_million_right'] == pytest.approx(
    20 / 160 * 0.05 / 3600 / share * 1e6
  )
  # Of each model, three right samples of four were judged sound.
  for name, rate in found['allocation']['false_positives'].items():
    right = found['allocation']['right'][name]
    assert rate == pytest.approx(0.25 * right, rel=0.4)


def test_distinct_right_samples_as_the_objective(runs, tmp_path):
  asked = settings.PlanConfig(
    pilots=runs, task='arith', objective='distinct', draws=40, budget=3
  )
  plan = planner.plan(asked, str(tmp_path))['allocation']
  # Some repeat each other.
  assert 0 < plan['value'] < sum(plan['right'].values())


@pytest.fixture
def served(runs, tmp_path):
  """The same pilots, as if servers had drawn them; nobody knew the prices."""
  found = []
  for run in runs:
    name = run.rpartition('/')[2]
    folder = str(shutil.copytree(run, tmp_path / 'served' / name))
    storage.publish_json(
      storage.join(folder, 'samples', 'model', 'source.json'),
      {'server': 'http://localhost/v1', 'model': f'org/{name}'},
    )
    path = storage.join(folder, 'ledger', 'sample-model.json')
    row = storage.read_json(path)
    row |= {'chips': 0, 'chip_seconds': 0.0, 'flops': 0}
    runlog.book(folder, 'sample-model', row)
    found.append(folder)
  return tuple(found)


@pytest.mark.parametrize('currency', ['usd', 'tokens'])
def test_costs_of_models_of_servers(served, tmp_path, currency, monkeypatch):
  rows = [
    prices.ApiPrice(f'org/{n}', 1.0, 4.0, '', '') for n in ('once', 'hot')
  ]
  known = {row.model: row for row in rows if currency == 'usd'}
  monkeypatch.setattr(prices, '_own_api', known)
  asked = settings.PlanConfig(
    pilots=served,
    currency=currency,
    task='arith',
    chip='v5e',
    draws=40,
    budget=2,
  )
  found = planner.plan(asked, str(tmp_path / 'plan'))['models']
  for name, tokens in (('once', 10), ('hot', 20)):
    usd = (280 + 160 * tokens * 4.0) / 1e6 / 160
    model = found[name]
    assert model['cost'] == pytest.approx(usd if currency == 'usd' else tokens)
    # Each sample pays for its prompt, in however many rounds it is asked.
    assert model['cost_of_reading'] == 0
    assert model['checkpoint'] == ''
    dollars = usd / (model['right'] / model['samples']) * 1e6
    # What is not known is not nothing, whatever a chip costs.
    assert model['usd_per_million_right'] == (
      pytest.approx(dollars) if known else None
    )


@pytest.mark.parametrize(
  ('currency', 'said'),
  [
    ('usd', "wanted a price of the server's model"),
    ('flops', 'whose flops nobody tells: wanted usd or tokens'),
    ('params', 'whose params nobody tells'),
    ('chip_seconds', 'whose chip_seconds nobody tells'),
  ],
)
def test_what_nobody_tells_of_a_server(served, tmp_path, currency, said):
  with pytest.raises(errors.InputError, match=said):
    planner.plan(
      settings.PlanConfig(pilots=served, currency=currency, chip='v5e'),
      str(tmp_path / 'x'),
    )


def test_the_price_of_a_chip_must_be_known(runs, tmp_path):
  with pytest.raises(errors.InputError, match=r'chip: .* got'):
    planner.plan(
      settings.PlanConfig(pilots=runs, currency='usd'), str(tmp_path / 'x')
    )
