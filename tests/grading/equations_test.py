import json
import pathlib
import re
import time

import pytest

import wcse_jax
from wcse_jax.grading import arithmetic, equations, numeric


_SHARED = pathlib.Path(wcse_jax.__file__).parents[2] / 'shared' / 'data'


def _answer(text):
  """Returns the last number of a text."""
  return re.findall(r'\d[\d,. ]*', text)[-1].replace(' ', '').rstrip('.,')


@pytest.mark.parametrize(
  'text',
  [
    'He has 3 + 4 = 7 cats.',
    '7 x $2 = $14.00',
    '7x2=14',
    '3 × 4 = 12',
    '12 ÷ 4 = 3',
    '8/3 ÷ 1/3 = 8',
    r'\frac{480 \text{ miles}}{60 \text{ miles/hour}} = 8',
    r'\[ 3 \times \frac{1}{2} = 1.5 \]',
    '1,000 * 2 = 2,000',
    '1 000 + 2 500 = 3 500',
    'The (3 + 4) * 2 = 7 * 2 = 14',
    '2(3 + 4) = 14',
    '1 1/2 * 2 = 3',
    '20% of 50 = 10',
    '1/2 of 18 = 9',
    '20% * 50 = 10',
    '30/120 = 25%',
    '30/120 * 100 = 25%',
    '100 - 20% = 80',
    '100% - 20% = 80%',
    '10/3 = 3.33',
    '20/3 = 6.66',
    '24/180 * 100 = 13.33%',
    '10 / 3 ≈ 3',
    '10 boxes / 3, rounded up, so 10 / 3 = 4',
    '8 miles / 4 miles/hour = 2',
    '12 miles (to work) + 3 miles (back) = 15',
    '8.75 pounds (donuts) - (-6.25 pounds (oats)) = 15',
    '4 hours = 4 * 60 = 240',
    '3/2 = 1.5 + 3 = 4.5',
    '**3 + 4 = 7**',
    '- 3 + 4 = 7',
    '-3 + 5 = 2',
    '3 plus 4 equals 7',
    'So 5 x 3 is 15.',
    '2^3 = 8',
    'x = 6 / 1.5 = 4',
    '7,980 : 420 = 19',
  ],
)
def test_what_holds_is_sound(text):
  sound, why, judged = equations.check(text, _answer(text))
  assert (sound, why) == (True, '')
  assert judged


@pytest.mark.parametrize(
  ('text', 'shown'),
  [
    ('3 + 4 = 8', '3+4=8'),
    ('3 + 4 = 7 * 2 = 15', '3+4=7*2=15'),
    ('<<3*4=13>>', '3*4=13'),
    ('It is 5 x 3 is 16', '5*3=16'),
    ('39 / (10/1) = 390', '39/(10/1)=390'),
    ('10 / 3 = 3', '10/3=3'),
    ('10 / 3 = 3.4', '10/3=3.4'),
    ('5.67 + 9 = 15', '5.67+9=15'),
    ('2.5 * 3 = 7.4', '2.5*3=7.4'),
    ('20% of 50 = 100', '20*50=100'),
    ('200 - (20 * 40%) = 200 - 80 = 120', '200-20*40=200-80=120'),
    (r'\frac{1}{2} \times 8 = 6', '1/2*8=6'),
    ('28 apples / 2 = 9 apples', '28/2=9'),
    ('1,218 + 42 = 1,360', '1218+42=1360'),
    ('2 + 2 = 4. Then 4 + 4 = 9. Then 9 - 1 = 8', '4+4=9'),
  ],
)
def test_what_is_false_is_unsound(text, shown):
  sound, why, judged = equations.check(text, _answer(text))
  assert sound is False
  assert why == f'{shown} is false'
  assert [one.shown for one in judged if one.holds is False] == [shown]


@pytest.mark.parametrize(
  'text',
  [
    '',
    'The answer is 7.',
    '6B + 7 = 37',
    'x = 4 and y = 5',
    '4 W^2 = 100',
    'x + 5 = 12',
    '6 miles/day x 5 days/week = ?',
    '9:00 + 2 hours = 11:00',
    '11 AM + 3 = 2 PM',
    '1 bag = 5 apples',
    '3/0 = 7',
    '9^9^9 = 7',
    '45 * 0,2 = 7',
    'Week 2 = 7',
    '12 x 1 and 1/4 = 7',
    '3 >= 7, 4 != 7',
  ],
)
def test_what_cannot_be_read_is_not_judged(text):
  assert equations.check(text, '7')[0] is None


def test_the_answer_must_come_of_an_equation():
  text = '3 + 4 = 7. 7 * 2 = 14.'
  assert equations.check(text, '14')[0] is True
  # Of an earlier one too: a later one may answer an aside.
  assert equations.check(text, '7')[0] is True
  assert equations.check(text, '15') == (
    None,
    'no equation gives 15',
    [equations.Judged('3+4=7', True), equations.Judged('7*2=14', True)],
  )
  assert equations.check('10 / 4 = 2.5 hours', '3')[0] is True
  assert equations.check('3 * 50 = 150 cents', '1.50')[0] is True
  assert equations.check('1 + 1 = 2', 'many')[0] is None


def test_rounded_results_are_used_as_what_they_stand_for():
  assert equations.check('10 / 7 = 1.43. 1.43 * 7 = 10', '10')[0] is True
  assert equations.check('1.43 * 7 = 10', '10')[0] is False
  assert equations.check('0.33 * 90 = 30', '30')[0] is True


def test_units_convert():
  for text in (
    '4 feet = 48 inches',
    '2 * 30 minutes = 1 hour',
    '300 cents = 3',
  ):
    sides = arithmetic.equations(text)[0]
    assert equations._holds(sides, {}) is True
  assert equations.check('2 * 30 minutes = 2 hours', '2')[0] is False


def test_a_text_of_too_many_equations_is_not_judged():
  text = '1+1=2\n' * 401
  assert equations.check(text, '2')[:2] == (None, 'more than 400 equations')
  assert equations.check(text[:1200], '2')[0] is True
  long = '1+1=2\n' + 'word ' * 5000
  assert equations.check(long, '2')[1] == 'longer than 20000 characters'
  assert equations.check('1+1=3\n' + long, '2')[0] is False


@pytest.mark.parametrize(
  ('text', 'want'),
  [
    ('8.75 - (-6.25) = 15', '8.75--6.25=15'),
    ('2 - (3 - 4) = 3', '2-(3-4)=3'),
    ('8 / (4 / 2) = 4.50', '8/(4/2)=4.5'),
    ('3 boxes x 4 pens/box = 12 pens', '3*4=12'),
    (r'\frac{10 + 2}{4} = 3', '(10+2)/4=3'),
    ('x = 3 + 4 = 7', '3+4=7'),
    ('2*3=<<2*3=6>>6', '2*3=6'),
    ('.5 * 4 = 2', '0.5*4=2'),
    ('x = 7', ''),
  ],
)
def test_a_chain_has_one_spelling(text, want):
  assert equations.chain(text) == want


@pytest.mark.parametrize(
  'unit',
  [
    *('1', '1+', '= ', '1=', '1=2\n', '(', '(1', '1=(', ')', '{', '\\frac{'),
    *('\\frac{1}{', '<<', '<<1=1>>', ' ', '\n', '\n=', '1 1/1 ', '9^'),
    *('1/7+', '5 is ', '1+1 is 2 ', '1,', '1 ', '1 000 ', '1:11', '- ', '**'),
    *('a ', '2 of ', '\\', '\\text', '1 x ', '1=1=', 'x = ', '\0'),
    '7' * 24 + '/',
  ],
  ids=ascii,
)
def test_hostile_texts_take_bounded_time(unit):
  text = unit * 200_000
  start = time.process_time()
  equations.check(text + '= 2', '7')
  equations.chain(text)
  assert time.process_time() - start < 2.0


def _rows(path):
  return [json.loads(line) for line in path.read_text().split('\n') if line]


@pytest.mark.skipif(not _SHARED.is_dir(), reason='needs the shared data')
def test_references_are_sound():
  rows = _rows(_SHARED / 'gsm8k' / 'test.jsonl')
  verdicts = [
    equations.check(row['answer'], numeric.extract(row['answer']))[0]
    for row in rows
  ]
  assert verdicts.count(True) >= 0.97 * len(rows)
  assert verdicts.count(False) <= 0.01 * len(rows)


@pytest.mark.skipif(not _SHARED.is_dir(), reason='needs the shared data')
def test_what_people_found_sound_is_never_called_unsound():
  rows = _rows(_SHARED / 'processbench' / 'processbench.jsonl')
  sound = wrong = 0
  for row in rows:
    if row['set'] != 'gsm8k':
      continue
    text = '\n'.join(row['steps'])
    verdict = equations.check(text, numeric.extract(text) or '')[0]
    if row['label'] == -1:
      assert verdict is not False
      sound += verdict is True
    else:
      wrong += verdict is False
  assert sound >= 0.9 * 193
  assert wrong >= 20
