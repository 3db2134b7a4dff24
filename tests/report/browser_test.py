"""The sample browser: inert, quick, and usable by hand in a real browser."""

import dataclasses
import re
import time

import browser
import hostile
import pytest

from wcse_jax import errors, records, shardfiles, tasks
from wcse_jax.report import browser as pages
from wcse_jax.report import markup
from wcse_jax.report.browser import data
from wcse_jax.report.browser import page as one_page


def _problem(at, **changes):
  fields = {
    'id': f'p{at}',
    'task': 'arith',
    'question': f'How many apples are {at} and {at}?',
    'answer': str(2 * at),
    'solution': f'{at}+{at}={2 * at}',
    'level': str(at % 3),
  }
  return records.Problem(**{**fields, **changes})


def _rows(problem, index, text, correct, *, sound=None, why='', cut=False):
  verdict = {True: 'right', False: 'wrong', None: 'timeout'}[correct]
  return (
    records.Sample(
      problem_id=problem.id,
      index=index,
      text=text,
      tokens=(1,),
      finish_reason='length' if cut else 'stop',
      prompt_tokens=3,
      shared_prompt_tokens=0,
      output_tokens=1,
      logprob=-1.0,
    ),
    records.Grade(
      problem_id=problem.id,
      index=index,
      answer='7' if correct is False else problem.answer,
      correct=correct,
      verdict=verdict,
      sound=sound,
      why=why,
    ),
  )


def _write(folder, role, name, problems, made):
  """Writes `made(problem, at)`, rows of samples and grades, of all problems."""
  samples, grades = (
    shardfiles.ShardFolder(str(folder / kind / name), {'of': kind})
    for kind in ('samples', 'grades')
  )
  size = shardfiles.BLOCK_PROBLEMS
  for start in range(0, len(problems), size):
    part = problems[start : start + size]
    rows = [row for at, one in enumerate(part, start) for row in made(one, at)]
    last = max(row.index for row, _ in rows)
    shard = shardfiles.Shard(start, start + len(part) - 1, 0, last)
    samples.write(shard, [row for row, _ in rows])
    grades.write(shard, [row for _, row in rows])
  return data.Source(role, name, samples, grades)


def _five(problem, at):
  """Each kind of sample, right ones twice; of the third problem none is."""
  step = f'{at}+{at}=7'
  right = at != 2
  return [
    _rows(problem, 0, 'just so', right, sound=False, why='no step'),
    _rows(problem, 1, f'First {step}. So 7.', False, why=f'{step} is false'),
    _rows(problem, 2, 'and then and then', False, cut=True),
    _rows(problem, 3, 'slow', None),
    _rows(problem, 4, f'{at}+{at}={2 * at}', right, sound=True),
    _rows(problem, 5, f'{at}+{at}={2 * at}', right, sound=True),
  ]


def _none(problem, at):
  return [_rows(problem, 0, 'no idea', at == 0)]


@pytest.fixture(scope='module')
def study(tmp_path_factory):
  folder = tmp_path_factory.mktemp('study')
  problems = [_problem(at) for at in range(70)]
  sources = [
    _write(folder, 'wc', 'small', problems, _five),
    _write(folder, 'se', 'large', problems, _none),
  ]
  out = folder / 'browser'
  total = pages.write(list(enumerate(problems)), sources, str(out))
  assert total == 70 * 7
  return out


def _listed(page):
  return page.evaluate(
    '[...document.querySelectorAll("#list b")].map(one => one.textContent)'
  )


def _choose(page, name, label):
  page.evaluate(f"""(() => {{
    const select = document.getElementById({name!r});
    select.value = [...select.options].find(
      option => option.textContent === {label!r}).value;
    select.dispatchEvent(new Event('change'));
  }})()""")


def test_kinds_of_samples():
  problem = _problem(4)
  kinds = [data.kind(*row) for row in _five(problem, 4)]
  assert kinds == ['unsound', 'wrong', 'cut', 'ungraded', 'right', 'right']
  sample, _ = _rows(problem, 0, '', True)
  assert data.kind(sample, None) == 'ungraded'


@pytest.mark.parametrize(
  ('text', 'why', 'want'),
  [
    ('a 3+4=8 b', '3+4=8 is false', 'a <mark>3+4=8</mark> b'),
    ('a 3+4=7 b', '3+4=7 uses 4, which nothing gives', '<mark>3+4=7</mark>'),
    ('a <b> is', '<b> is false', 'a <mark>&lt;b&gt;</mark> is'),
    ('a 3+4=8 b', 'no final answer', 'a 3+4=8 b'),
    ('elsewhere', '3+4=8 is false', 'elsewhere'),
    ('', '', ''),
  ],
)
def test_the_wrong_step_is_marked(text, why, want):
  found = one_page.marked(text, why)
  assert isinstance(found, markup.Html)
  assert want in found
  assert ('<mark>' in found) == ('<mark>' in want)


def test_a_page_shows_each_text_once(study):
  page = (study / 'pages' / '000004.html').read_text()
  assert page.count('4+4=8') == 2  # The reference solution, and a sample.
  assert '2 samples: 4, 5' in page
  assert '<mark>4+4=7</mark>' in page
  assert '3 of 6 samples have the right answer.' in page
  assert 'script' not in page.replace("script-src 'none'", '')


def test_what_a_checker_finds_is_asked_of_wrong_answers_alone(tmp_path):
  asked = []

  def check(problem, text):
    asked.append(text)
    return f'{text.split()[0]} is false'

  source = _write(tmp_path, 'wc', 'small', [_problem(4)], _five)
  out = tmp_path / 'browser'
  pages.write([(0, _problem(4))], [source], str(out), check)
  # The other wrong one has a reason of its own.
  assert asked == ['and then and then']
  page = (out / 'pages' / '000000.html').read_text()
  assert '<mark>and</mark> then' in page


def test_workers_write_the_same_pages(tmp_path):
  """Also where a worker makes the checker, and finds the wrong step."""
  whole = tasks.load('arith').problems('train')[:70]

  def made(problem, at):
    text = problem.solution.replace('=', '=1') if at % 3 else problem.solution
    return [_rows(problem, 0, text, at % 3 == 0)]

  sources = [
    _write(tmp_path, role, name, whole, made)
    for role, name in (('wc', 'small'), ('se', 'large'))
  ]
  written = {}
  for few in (10**6, 0):
    out = tmp_path / f'browser-{few}'
    count = pages.write(
      list(enumerate(whole)),
      sources,
      str(out),
      lambda problem, text: tasks.load('arith').sound(problem, text)[1],
      task=('arith', ''),
      few=few,
    )
    assert count == 140
    written[few] = {
      path.relative_to(out): path.read_bytes()
      for path in out.rglob('*')
      if path.is_file()
    }
  here, apart = written.values()
  assert here == apart
  assert len(here) == 71
  assert sum(b'<mark>' in page for page in here.values()) > 30


def test_a_file_that_a_worker_cannot_read_is_named(tmp_path):
  problems = [_problem(at) for at in range(3)]
  source = _write(tmp_path, 'wc', 'small', problems, _none)
  path = tmp_path / 'samples' / 'small' / source.samples.shards[0].name
  path.write_bytes(path.read_bytes().replace(b'no idea', b'an idea'))
  with pytest.raises(errors.InputError, match=path.name):
    pages.write(
      list(enumerate(problems)),
      [source],
      str(tmp_path / 'browser'),
      task=('arith', ''),
      few=0,
    )


def test_problems_are_found_by_words_levels_and_verdicts(chromium, study):
  page = chromium.page(width=1200, height=800)
  page.open(study / 'index.html')
  assert len(_listed(page)) == 70
  assert page.evaluate('document.getElementById("count").textContent') == (
    '70 problems, 490 samples'
  )
  _choose(page, 'solved', 'both')
  assert _listed(page) == ['p0']
  _choose(page, 'solved', 'neither')
  assert _listed(page) == ['p2']
  _choose(page, 'solved', 'WC alone')
  assert len(_listed(page)) == 68
  _choose(page, 'level', '1')
  assert len(_listed(page)) == 23
  _choose(page, 'solved', 'any')
  _choose(page, 'level', 'any')
  _choose(page, 'kind', 'truncated')
  _choose(page, 'model', 'SE: large')
  assert _listed(page) == []
  _choose(page, 'model', 'WC: small')
  # Of the third problem the samples are wrong that are right elsewhere.
  assert page.evaluate('document.getElementById("count").textContent') == (
    '70 problems, 70 samples'
  )
  page.evaluate('document.getElementById("search").focus()')
  page.type('APPLES 69')
  assert _listed(page) == ['p69']
  assert (page.violations, page.errors) == ([], [])


def test_a_problem_is_shown_beside_the_list(chromium, study):
  page = chromium.page(width=1200, height=800)
  page.open(study / 'index.html')
  pages = [url for url in page.requests if '/pages/' in url]
  assert [url.rpartition('/')[2] for url in pages] == ['000000.html']
  page.press('n')
  page.press('n')
  page.press('p')
  page.wait('location.hash === "#000001"')
  page.click('#list li:nth-child(3) button')
  page.wait('location.hash === "#000002"')
  assert page.evaluate('document.getElementById("frame").src').endswith(
    '/pages/000002.html'
  )
  assert page.violations == []
  # As it was left.
  page.reload()
  assert (
    page.wait('document.querySelector("[aria-current] b")?.textContent') == 'p2'
  )


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_pages_fit_phones_and_desks_and_can_be_read(chromium, study, scheme):
  for width in (390, 1200):
    page = chromium.page(
      width=width, height=800, mobile=width < 600, scheme=scheme
    )
    for path in (study / 'index.html', study / 'pages' / '000004.html'):
      page.open(path)
      found = page.evaluate(browser.LOOK)
      assert found['scroll'] <= width
      assert found['unnamed'] == []
      assert found['faint'] == []


def test_further_models_have_a_name_and_a_colour_of_their_own(tmp_path):
  problems = [_problem(0)]
  sources = [
    _write(tmp_path, role, name, problems, _none)
    for role, name in (('wc', 'small'), ('se', 'large'), ('hot', 'larger'))
  ]
  sources[2] = dataclasses.replace(sources[2], label='SE, hotter')
  out = tmp_path / 'browser'
  pages.write([(0, problems[0])], sources, str(out))
  page = (out / 'pages' / '000000.html').read_text()
  assert re.findall(r'<h2><span class="key (\w+)">([^<]*)</span>', page) == [
    ('wc', 'WC'),
    ('se', 'SE'),
    ('m1', 'SE, hotter'),
  ]
  assert '>SE, hotter: larger</option>' in (out / 'index.html').read_text()


def test_hostile_text_runs_nothing(chromium, tmp_path):
  problems = [
    _problem(at, id=text, question=text, answer=text, solution=text, level=text)
    for at, text in enumerate(hostile.TEXTS)
  ]
  sources = [
    _write(
      tmp_path,
      'wc',
      'small',
      problems,
      lambda problem, at: [
        _rows(problem, 0, problem.id, False, why=f'{problem.id} is false')
      ],
    )
  ]
  out = tmp_path / 'browser'
  pages.write(list(enumerate(problems)), sources, str(out))
  page = chromium.page()
  page.before_load('var pwned = 0;')
  page.open(out / 'index.html')
  assert _listed(page) == hostile.TEXTS
  for at, text in enumerate(hostile.TEXTS):
    page.press('n')
    page.open(out / 'pages' / f'{at:06d}.html')
    texts = page.evaluate(
      '[...document.querySelectorAll(".text")].map(box => box.textContent)'
    )
    assert texts == [text, text, text.strip()]
    assert page.evaluate('pwned') == 0
    tags = page.evaluate(
      '[...new Set([...document.body.querySelectorAll("*")].map('
      'element => element.localName))].sort()'
    )
    assert ' '.join(tag for tag in tags if tag != 'mark') == (
      'article b details div h1 h2 header main p section span summary'
    )
  assert (page.violations, page.errors, page.dialogs) == ([], [], [])
  assert all(url.startswith('file:') for url in page.requests)


@pytest.mark.slow
def test_a_hundred_thousand_samples_open_and_filter_quickly(chromium, tmp_path):
  """1,000 problems x 2 models x 50 samples of different texts."""
  problems = [_problem(at) for at in range(1000)]

  def made(problem, at):
    return [
      _rows(problem, i, f'try {i} of {at}: ' + 'so on ' * 40, i % 3 == 0)
      for i in range(50)
    ]

  sources = [
    _write(tmp_path, role, name, problems, made)
    for role, name in (('wc', 'small'), ('se', 'large'))
  ]
  out = tmp_path / 'browser'
  assert pages.write(list(enumerate(problems)), sources, str(out)) == 100_000
  page = chromium.page(width=1200, height=800)
  began = time.monotonic()
  page.open(out / 'index.html')
  opened = time.monotonic() - began
  took = page.evaluate("""(() => {
    const began = performance.now();
    const search = document.getElementById('search');
    search.value = 'apples 99';
    search.dispatchEvent(new Event('input'));
    return (performance.now() - began) / 1000;
  })()""")
  print(f'{opened=:.2f} s, filtered in {took:.3f} s')
  assert 'p990' in _listed(page)
  assert len(_listed(page)) < 100
  # The limits; a busy machine has three times as long.
  assert opened < 3 * 3
  assert took < 3 * 0.5
