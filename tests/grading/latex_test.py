import json
import pathlib
import time

import pytest

from wcse_jax.grading import latex, workers


_CASES = pathlib.Path(__file__).parents[3] / 'shared' / 'data' / 'grading_cases'
_needs_shared = pytest.mark.skipif(
  not _CASES.is_dir(), reason='needs the shared data'
)

# Answers that hang a computer algebra system or what reads it, or try to.
HOSTILE = (
  '9^{9^{9^{9}}}',
  '9^9^9^9',
  '9**9**9**9',
  '10^{10^{9}}',
  '1e10^9',
  '2^{999999999}',
  '99999999!',
  '((9999!)!)!',
  '170!^{170!}',
  r'\frac{' * 1000 + '1' + '}{2}' * 1000,
  '(' * 200 + '1' + ')' * 200,
  r'\sqrt{' * 49 + '2' + '}' * 49,
  r'\frac{1}{' * 25 + 'x' + '}' * 25,
  r'\begin{pmatrix}' + r'1 & 2 \\' * 5000 + r'\end{pmatrix}',
  r'\sum_{n=1}^{\infty} \frac{1}{n^{3.7}\sin^2 n}',
  r'\prod_{n=1}^{10^{8}} (1+\frac{1}{n^2})',
  r'\int_0^\infty \frac{\sin(x^3+\cos x)}{\ln(x+e^x)} dx',
  r'\lim_{n\to\infty} (\sum_{k=1}^{n} \frac{1}{k} - \ln n)',
  r'(x+y+z+w+1)^{400}',
  r'(a+b+c+d)^{99}(a-b)^{99}',
  r'\binom{1000000}{500000}',
  "__import__('os').system('touch {mark}')",
  r"\text{__import__('os').system('touch {mark}')}",
  'exec("while True: pass")',
  '\u202e\u0000\U0001f4a3' * 50,
  'x' * 1_000_000,
  '9' * 1_000_000,
  '9' * 1001,
  '{1,' * 45 + '1' + '}' * 45,
  r'\{' + ','.join(map(str, range(90))) + r'\}',
)


@pytest.mark.parametrize(
  ('text', 'answer'),
  [
    (r'so $x=\boxed{\frac{1}{2}}$.', r'\frac{1}{2}'),
    (r'\boxed{1}, then \boxed{2}', '2'),
    (r'\boxed{-2} \quad \text{and} \quad \boxed{1}', '-2, 1'),
    (r'\boxed{\text{(B)}}', r'\text{(B)}'),
    (r'\boxed{\{1,2\}} done', r'\{1,2\}'),
    (r'\boxed 5 is it', '5'),
    (r'\boxed{3} but the answer is 4', '3'),
    (r'\boxed{} The answer is 4.', '4'),
    ('#### 1,234', '1,234'),
    ('The answer is 5.', '5'),
    ('Final Answer: The final answer is $[2,5)$. I hope it', '[2,5)'),
    ('Final answer: $1$, $3$ and $4$.', '1, 3, 4'),
    ('answer: **42**', '42'),
    ('The answer is $5.00 a day', '$5.00'),
    ('Answer: the largest $n$ is 34.', '34'),
    ('The answer is Evelyn.', 'Evelyn'),
    ('Thus $x = 5$ and so on.', 'x = 5'),
    ('Hence the total is 12 cm.', '12'),
    (r'x^2 + 1', 'x^2 + 1'),
    ('Two of them: 1/2 and 28 percent of it', '28 percent'),
    ('No idea at all about this one', None),
    ('', None),
    # What a model writes behind its answer, and before it has one.
    ('The answer is 6.\n\nQuestion: and 2+2?\nThe answer is 4.', '6'),
    ('so $\\boxed{6}$.\n\nProblem: 2+2?\n\\boxed{4}', '6'),
    ('Problem: 2+2? It is \\boxed{4}.', '4'),
    (r'The answer is $\boxed{12', None),
    (r'so $\boxed{\frac{1}{2', None),
    (r'so $\boxed{12$ is it', '12'),
    ('### 17', '17'),
    ('p^2+3pq-q^2', 'p^2+3pq-q^2'),
    ('uv/(u+v)', 'uv/(u+v)'),
    ('The answer is June 3.', 'June 3'),
    ('Monday, June 3', 'Monday, June 3'),
    ('It took 3 million years', '3 million'),
    ('5√2π', '5√2π'),
  ],
)
def test_finds_the_answer_of_a_text(text, answer):
  assert latex.extract(text) == answer


@pytest.mark.parametrize(
  ('answer', 'reference'),
  [
    ('0.5', r'\frac12'),
    (r'33 \frac{1}{3}', '100/3'),
    ('1 1/2', '3/2'),
    (r'\$1,234.50', '1234.5'),
    (r'10\,000', r'10{,}000'),
    (r'900000000', r'900,\!000,\!000'),
    (r'5 \text{ cm}', '5'),
    ('5 inches', r'5\text{ inches}'),
    (r'60^\circ', '60'),
    (r'50\%', '50'),
    (r'50\%', '0.5'),
    ('x=5', '5'),
    ('sin x', r'\sin x'),
    ('2,1', '1,2'),
    (r'\{1,2\}', '2, 1'),
    ('5 or 6', r'6 \text{ and } 5'),
    (r'2\pm\sqrt3', r'2+\sqrt{3},2-\sqrt{3}'),
    ('B', r'\text{(B)}'),
    ('(B) 12', r'\text{(B)}'),
    ('4', r'\mbox{four}'),
    ('June 20', r'\text{June 20}'),
    ('4:30 PM', r'\text{4:30 p.m.}'),
    (r'x\geq 3', r'[3,\infty)'),
    (r'(3,\infty)\cup(-\infty,2)', r'(-\infty,2) \cup (3,\infty)'),
    (r'\left( 0.5, \dfrac{\pi}{2} \right)', r'(\frac12,\frac{\pi}{2})'),
    (
      r'\begin{bmatrix}0.5\\2\end{bmatrix}',
      r'\begin{pmatrix} 1/2 \\ 2 \end{pmatrix}',
    ),
    ('y=1,x=2', 'x=2,y=1'),
    ('(2,1)', 'x=2,y=1'),
    ('0.333333', r'\frac{1}{3}'),
    ('3:2', 'a:b = 3:2'),
    (r'$$\boxed{7}$$', '7'),
    # Numbers in other spellings.
    (r'0.\overline{27}', r'\frac{3}{11}'),
    (r'2.4\bar{6}', r'\frac{37}{15}'),
    (r'3.2\times10^4', '32,000'),
    ('4e-3', r'\frac{1}{250}'),
    ('5 million', '5,000,000'),
    (r'\$7\text{ thousand}', '7000'),
    ('twenty-four', '24'),
    ('8 123 456', '8123456'),
    ('⅜', '3/8'),
    ('x¹²', 'x^{12}'),
    ('1101₂', '1101_2'),
    (r'8\ ', '8'),
    (r'80 \frac{\text{mi}}{\text{h}}', '80'),
    ('4.9 m/s^2', '4.9'),
    ('31 in.', '31'),
    (r'4-\mathrm{i}', '4-i'),
    (r'\log_e 7', r'\ln 7'),
    ('6m', '6'),
    ('2 out of 7', r'\frac27'),
    ('11{:}20 a.m.', r'11:20\text{ AM}'),
    ('7 AM', r'7:00\text{ a.m.}'),
    ('10:4', '5:2'),
    ('10:4', r'\frac52'),
    (r'3\text{ to }5', '3:5'),
    # Ranges and lists.
    (r'x<1 \text{ or } x>4', r'(-\infty,1)\cup(4,\infty)'),
    (r'x<1, x>4', r'(4,\infty)\cup(-\infty,1)'),
    (r'x=0 \text{ or } x>4', r'\{0\}\cup(4,\infty)'),
    (r'x>1 \text{ and } x\le4', '(1,4]'),
    (r'4\geq x>1', r'1<x\leq 4'),
    (r'\{t \mid t<2\}', r'(-\infty,2)'),
    (r'\mathbb{R}', r'(-\infty,\infty)'),
    (r'\text{all real numbers}', r'\mathbb R'),
    (r'\{ \}', r'\emptyset'),
    (r'\langle 1,-2\rangle', '(1,-2)'),
    ('x=1, y=2', '(x,y)=(1,2)'),
    (r'n\equiv 4\pmod 9', '4'),
    (r'0.125=\frac18', '1/8'),
    (r'\frac23=0.67', r'\frac23'),
  ],
)
def test_equal_without_algebra(answer, reference):
  assert latex.quick(answer, reference) is True


@pytest.mark.parametrize(
  ('answer', 'reference'),
  [
    ('0.33', '1/3'),
    ('12', '1,2'),
    ('2030', '20,30'),
    ('32, 349', '32349'),
    ('112', '1 1/2'),
    ('-1', '1'),
    ('50', '0.5'),
    ('(1,2)', '[1,2]'),
    ('(2,1)', '(1,2)'),
    ('(1,2,3)', '(1,2)'),
    ('1,2', 'x=2,y=1'),
    ('B', r'\text{(C)}'),
    (r'\text{east}', r'\text{west}'),
    ('1101_2', '1101_3'),
    ('25', '25_8'),
    ('3:1', '1:3'),
    ('4:30 a.m.', '4:30 p.m.'),
    (r'x\geq 3', r'(3,\infty)'),
    (r'\begin{pmatrix}1\\2\end{pmatrix}', r'\begin{pmatrix}2\\1\end{pmatrix}'),
    ('', '0'),
    (r'0.\overline{27}', '0.27'),
    (r'0.\overline{27}', r'0.2\overline{7}'),
    (r'3.2\times10^{-4}', '32000'),
    ('5 million', '5 billion'),
    ('5 million', '5'),
    ('twenty', '24'),
    ('7 p.m.', r'7\text{ a.m.}'),
    ('2:5', '5:2'),
    (r'x>1 \text{ or } x\le4', '(1,4]'),
    (r'x<1 \text{ or } x>4', '(1,4)'),
    (r'4\geq x\geq 1', r'1<x\leq 4'),
    (r'111, \! 111', r'111, \! 111, \! 111'),
  ],
)
def test_unequal_without_algebra(answer, reference):
  assert latex.quick(answer, reference) is False


@pytest.mark.parametrize(
  ('answer', 'reference', 'same'),
  [
    ('(x-1)(x+1)', 'x^2-1', True),
    (r'\frac{\sqrt{3}}{2}', r'\frac{3}{2\sqrt{3}}', True),
    (r'\sec^2 y', r'\tan^2 y + 1', True),
    ('-x > -1', 'x < 1', True),
    (r'y=-\frac12x+\frac34', '2x+4y-3=0', True),
    ('x=1,y=2', 'x=2,y=1', False),
    ('0.866', r'\frac{\sqrt{3}}{2}', False),
    ('a-b', 'b-a', False),
    ('3i', '-3i', False),
    ('11a+c', '7=11a+c', False),
    ('2x', 'x^2', False),
    # What math-verify alone gets wrong.
    (r'\frac{1}{900!}', r'\frac{2}{900!}', False),
    ('2k+2m', '2k+2', False),
    ('2m+2k', '2(k+m)', True),
    (r'1\cdot y', 'y', True),
    (r'p\cdot q\cdot c', 'pcq', True),
    (r'4-\mathrm{i}', '4', False),
    ('0.5-0.5i', r'\frac{1-i}{2}', True),
    ('(1+2i)^2', '4i-3', True),
    (r'4\frac12\pi', r'\frac{9\pi}{2}', True),
    (r'\cos 120^\circ', r'\cos\frac{2\pi}{3}', True),
    (r'\dbinom63', '20', True),
    (r'\sqrt[3]7', '7^{1/3}', True),
    (r'4\pmod 7', r'4\pmod 9', False),
    ('x=2, y=1', '(x,y)=(1,2)', False),
    ('3^{70}', str(3**70 + 2), False),
  ],
)
def test_equal_by_algebra(answer, reference, same):
  assert latex.quick(answer, reference) is None
  assert latex.equal(answer, reference) is same


def test_refused_is_no_verdict_of_wrong():
  verdict, answer, why = latex.verdict(rf'\boxed{{{"x+" * 200}1}}', 'x')
  assert verdict == 'error'
  assert len(answer) == latex.MAX_ANSWER
  assert '401 characters' in why


@pytest.mark.parametrize(
  'answer', ['x^5+12x^2+3x+9', 'e^{x^2}', 'x^{2005}', '2^{4181}', '20!']
)
def test_plain_powers_are_not_refused(answer):
  assert latex.verdict(rf'\boxed{{{answer}}}', 'x^3')[0] == 'wrong'


def test_no_text_takes_long_to_read():
  pieces = (
    '$', r'\(', r'\[', r'\boxed{', 'answer ', 'answer is: ', '1/', '1,', '(',
    r'\frac{1', ' ', '-', r'\boxed{1} and ', '{', r'\text{', '$1$, ', '\\',
    '\nQ: ', '\nProblem: ', 'sqrt(', '\\boxed{1', '1 or ',
  )  # fmt: skip
  for piece in pieces:
    text = piece * (2 * latex.latex_text.MAX_TEXT // len(piece))
    began = time.process_time()
    latex.extract(text)
    assert time.process_time() - began < 10, piece


@pytest.mark.slow
def test_hostile_answers_get_their_verdict_and_harm_nobody(tmp_path):
  mark = tmp_path / 'mark'
  fair = json.dumps([r'so \boxed{2x+2}', '2(x+1)', None, False])
  lines = []
  for reference in ('5', r'\frac{\sqrt{3}}{2}'):
    for answer in HOSTILE:
      answer = answer.replace('{mark}', str(mark))
      text = rf'so \boxed{{{answer}}}'
      lines += [json.dumps([text, reference, None, False]), fair]
  with workers.Pool(latex.WORKER, processes=1) as pool:
    assert pool.one(fair).status == 'done'
    for at, line in enumerate(lines):
      began = time.monotonic()
      reply = pool.one(line)
      # A fair one may wait until a new worker has started.
      assert time.monotonic() - began < (60 if line == fair else 6)
      if line == fair:
        assert json.loads(reply.text)[0] == 'right', lines[at - 1]
      elif reply.status == 'done':
        assert json.loads(reply.text)[0] != 'right', line
  assert not mark.exists()


def test_a_hostile_answer_is_timeout_or_error_not_wrong():
  line = json.dumps([r'\boxed{(x+y+z+w+1)^{400}}', '5', None, False])
  with workers.Pool(latex.WORKER, processes=1, deadline=0.5) as pool:
    assert pool.one(line).status == 'timeout'


@pytest.mark.slow
@_needs_shared
def test_agrees_with_the_reviewed_pairs():
  lines = (_CASES / 'pairs.jsonl').read_text(encoding='utf-8').split('\n')
  rows = [json.loads(line) for line in lines if line]
  rows = [row for row in rows if row['review'] == 'ok']
  lines = [
    json.dumps([row['answer'], row['gold'], None, False]) for row in rows
  ]
  with workers.Pool(latex.WORKER) as pool:
    verdicts = [json.loads(reply.text)[0] for reply in pool.map(lines)]
  accepted = [verdict == 'right' for verdict in verdicts]
  right = [row['equivalent_math'] for row in rows]
  assert not any(a and not r for a, r in zip(accepted, right))
  assert sum(a == r for a, r in zip(accepted, right)) >= 0.99 * len(rows)


def test_of_several_boxes_the_last_one_alone_may_be_the_reference():
  text = r'So $x$ is $\boxed{3}$ or $\boxed{\frac{2}{5}}$.'
  for reference, want in (
    (r'3, \frac{2}{5}', 'right'),
    (r'\frac{2}{5}', 'right'),
    ('3', 'wrong'),
    ('5', 'wrong'),
  ):
    verdict, answer, _ = latex.verdict(text, reference)
    assert (verdict, answer) == (want, r'3, \frac{2}{5}')
  # Boxes of steps before it never were part of the answer.
  assert latex.verdict(r'First $\boxed{3}$, so in all $\boxed{7}$.', '3')[
    0
  ] == ('wrong')
