"""Cards of data sets: what they tell, and that no text acts in them."""

import dataclasses
import re

import hostile
import pytest
import yaml

from wcse_jax import contamination, selection, tasks
from wcse_jax.checkpoints import card as model_cards
from wcse_jax.exports import card, facts, table
from wcse_jax.metrics import judged


TASK = tasks.load('arith')
COUNTS = {
  'rows': 2000,
  'unjudged': 7,
  'right': 1200,
  'sound': 30,
  'distinct': 4,
  'per_problem': 0,
  'chosen': 766,
  'problems': 300,
  'problems_chosen': 250,
  'chosen_right': 700,
  'chosen_known': 760,
}


def _tally(*names):
  tally = table.Tally()
  for name in names:
    tally.add(
      {
        'problem_id': ['p', 'q'],
        'model': [name, name],
        'verdict': [None, None] if name is None else ['right', 'wrong'],
        'sound': [None, None] if name is None else [False, None],
      }
    )
  return tally


def _rendered(known, tally=None, counts=None):
  """Returns (front matter, text) as the hub takes a card apart."""
  names = [model.name for model in known.models] or [None]
  text = card.render(known, tally or _tally(*names), counts)
  match = re.match(r'---\n(.*?)\n---\n(.*)', text, re.DOTALL)
  return yaml.safe_load(match[1]), match[2]


def _section(text, name):
  return text.partition(f'\n## {name}\n')[2].partition('\n## ')[0]


def _estimate(value, low=None, high=None, n=0):
  return {'value': value, 'low': low, 'high': high, 'n': n}


def _full(text='wc'):
  """Returns facts with every field set, all texts being `text`."""
  model = facts.Model(
    name=text,
    checkpoint=text,
    card=model_cards.Card(
      base_model=(text,),
      license='other',
      license_name=text,
      license_link=text,
      license_files={text: b''},
    ),
    architecture=text,
    weights=text,
    tokenizer=text,
    settings={text: text, 'seed': 0},
    versions={text: text},
    prompt=facts.Prompt(
      plain=f'Q: {text}', chat=f'{text}.', shots=2, sha256=text
    ),
    samples=2000,
    problems=300,
    cost={'decode_tokens': 12345, 'flops': 1.5},
  )
  rate = {
    'judge': text,
    'judged': 800,
    'rate': _estimate(0.2, 0.1, 0.3, 9),
    'corrected': None,
  }
  return facts.Facts(
    problems=facts.Problems(
      task=text,
      split=text,
      origin=facts.base.Origin('', '', text, text),
      card=model_cards.Card(license='other', license_files={text: b''}),
      sha256=text,
    ),
    models=[model],
    title='Title',
    rules=selection.Selection(sound=True, seed=3),
    budget=text,
    judges={text: [rate]},
    overlap=contamination.overlap(
      TASK.problems('train')[:9], TASK.problems('test')[:9]
    ).summary(),
    decontaminate=0.5,
    decontaminated=3,
    notes=[text],
  )


def _skeleton(text):
  """Returns what of a card acts: all but code and escaped signs."""
  lines, mark = [], ''
  for line in text.split('\n'):
    fence = re.match('`{3,}', line)
    if mark:
      mark = '' if line == mark else mark
    elif fence:
      mark = fence[0]
      lines.append('fence')
    else:
      line = re.sub(r'\\.', '', line)
      line = re.sub('`[^`]+`', '`', line)
      lines.append(re.sub('[^-#|<>`*_~!&$\\[\\]]|\\w', '', line))
  assert not mark
  return lines


@pytest.mark.parametrize(
  'text',
  [
    *hostile.TEXTS,
    'a|b',
    '```\n# out\n```',
    '---\nlicense: mit\n---\n',
    '[x](https://example.org)',
    '{a: [b',
    'yes',
    "it's: \"'",
    '\x85a\x00\x1b',
  ],
)
def test_no_text_acts(text):
  front, body = _rendered(_full(text), _tally(text), COUNTS)
  plain_front, plain_body = _rendered(_full('x'), _tally('x'), COUNTS)
  assert front == plain_front | {'license_name': front['license_name']}
  assert body.count('\n## ') == plain_body.count('\n## ')
  # Dashes of a sentence do not act.
  seen, wanted = (
    [line.replace('-', '') for line in _skeleton(one)]
    for one in (body, plain_body)
  )
  assert seen == wanted


@pytest.mark.parametrize('text', hostile.TEXTS)
def test_no_title_acts(text):
  known = dataclasses.replace(_full('x'), title=text)
  front, body = _rendered(known)
  heading = body.split('\n')[1]
  assert heading.startswith('# ')
  assert not set('<>[]`*_|#') & set(re.sub(r'\\.', '', heading[2:]))
  assert isinstance(front['pretty_name'], str)
  assert '\n' not in front['pretty_name']


def test_front_matter(known):
  front, body = _rendered(known)
  assert front['configs'] == [
    {
      'config_name': 'default',
      'data_files': [{'split': 'train', 'path': 'data/train-*.parquet'}],
    }
  ]
  features = front['dataset_info']['features']
  assert [one['name'] for one in features] == table.SCHEMA.names
  assert {one['dtype'] for one in features} == {'string', 'int32', 'bool'}
  assert front['pretty_name'] == 'Solutions of arith by wc'
  assert front['size_categories'] == ['n<1K']
  assert body.startswith('\n# Solutions of arith by wc\n')
  assert 'load_dataset(' in _section(body, 'Loading')


@pytest.mark.parametrize(
  ('rows', 'size'),
  [(999, 'n<1K'), (1000, '1K<n<10K'), (10**6, '1M<n<10M'), (10**9, 'n>100M')],
)
def test_sizes(known, rows, size):
  front = yaml.safe_load(card.front(known, rows))
  assert front['size_categories'] == [size]


def test_what_each_rule_dropped(known):
  rules = selection.Selection(
    verifier='majority', share=0.5, sound=True, per_problem=2, seed=3
  )
  known = dataclasses.replace(known, rules=rules)
  text = _section(_rendered(known, counts=COUNTS)[1], 'Selection')
  assert 'Of 2,000 graded samples of 300 problems, 766 rows of 250' in text
  rows = [
    [cell.strip() for cell in line.strip('|').split('|')]
    for line in text.split('\n')
    if line.startswith('| `')
  ]
  assert [(row[0], row[2]) for row in rows] == [
    ('`right`', '1,200'),
    ('`sound`', '30'),
    ('`distinct`', '4'),
    ('`per_problem`', '0'),
  ]
  assert 'at least 0.5 of the samples' in rows[0][1]
  assert rows[1][1].endswith('what is not judged is dropped')
  assert rows[2][1] == 'off'
  assert rows[3][1] == 'at most 2 of a problem'
  assert '7 samples whose reasoning was not judged; they were dropped' in text
  assert '760 have a verdict, and 700 of these are right' in text
  assert 'by the seed 3' in text
  assert 'Nothing was selected' in _section(_rendered(known)[1], 'Selection')


def test_verdicts_and_false_positives(known):
  rates = [
    {
      'judge': judged.TASK,
      'judged': 800,
      'rate': _estimate(0.2, 0.1, 0.3, 90),
      'corrected': _estimate(0.25, 0.2, 0.35, 20),
    },
    {'judge': 'gemma', 'judged': 5, 'rate': _estimate(None)},
    {'judge': '', 'judged': 5, 'rate': None},
  ]
  known = dataclasses.replace(known, judges={'wc': rates}, grader=3)
  text = _section(_rendered(known)[1], 'Grading')
  assert 'version 3' in text
  assert '| `wc` | 1 | 1 | 0 | 0 | 0 | 0 | 1 | 1 |' in text
  assert (
    "| `wc` | the task's own check | 800 | 20.0% (10.0% to 30.0%), n = 90 | "
    '25.0% (20.0% to 35.0%), n = 20 |'
  ) in text
  assert '| `wc` | `gemma` | 5 | unknown | - |' in text
  assert '| `wc` | people | 5 | - | - |' in text
  known = dataclasses.replace(known, judges={})
  assert 'was not measured' in _section(_rendered(known)[1], 'Grading')


def test_overlap(known):
  assert 'not looked for' in _section(
    _rendered(known)[1], 'Overlap with test problems'
  )
  train = TASK.problems('train')[:9]
  known = dataclasses.replace(
    known,
    overlap=contamination.overlap(train, train[:3]).summary(),
    decontaminate=0.5,
    decontaminated=1,
  )
  text = _section(_rendered(known)[1], 'Overlap with test problems')
  assert 'Of the 3 problems of the test split, 3 have the very words' in text
  assert '| all | 3 | 3 |' in text
  assert '1 problem with a share of 50% or more' in text


def test_prompts(known):
  prompt = facts.Prompt(
    plain='Q: ```\nA:', chat='Solve', shots=2, sha256='abc', template='off'
  )
  models = [
    facts.Model(name='wc', prompt=prompt),
    facts.Model(name='se', prompt=prompt),
    facts.Model(name='lone'),
  ]
  known = dataclasses.replace(known, models=models, chat=True)
  text = _section(_rendered(known)[1], 'Prompts')
  assert 'what a user says to a chat model' in text
  assert '`wc`, `se`: asked by the plain prompt, with 2 worked examples' in text
  assert '````text\nQ: ```\nA:\n````' in text
  assert text.count('<details>') == 1
  assert 'Solve' not in text
  assert '`lone`: how it was asked is unknown.' in text
  shown = dataclasses.replace(prompt, template='', shots=0)
  known = dataclasses.replace(
    known, models=[facts.Model(name='wc', prompt=shown)]
  )
  text = _section(_rendered(known)[1], 'Prompts')
  assert '```text\nSolve\n```' in text
  assert 'without worked examples.' in text


def test_of_own_solutions_no_model_is_told():
  known = facts.Facts(problems=facts.of_problems(TASK, 'train'))
  front, body = _rendered(known)
  assert front['license'] == 'apache-2.0'
  assert 'no model was sampled' in body
  assert _section(body, 'Models').startswith('\nNone: ')
  assert 'were not graded' in _section(body, 'Grading')


def test_a_study_may_mix_own_solutions_in(known):
  text = _section(_rendered(known, _tally('wc', None))[1], 'Models')
  assert "2 rows of the set's own solutions besides" in text
