"""The audit page: inert, and usable by hand in a real browser."""

import csv
import html.parser
import io
import json
import re

import browser
import hostile
import pytest

from wcse_jax import audits, storage
from wcse_jax.report import auditpage


CODE = '0123456789abcdef'
NOTES = [
  '=HYPERLINK("x")',
  'step 2: "48" is wrong,\nsee; there',
  "'quoted' \U0001f600",
  '-1',
]


def items_of(texts):
  """Returns an item of each text, which stands in every field of it."""
  return [
    audits.Item(
      digest=audits.digest('model', f'{i}{text}', i, text),
      problem_id=f'{i}{text}',
      index=i,
      level=text,
      question=text,
      reference=text,
      answer=text,
      text=text,
      solution=text,
      judged=((text, text),),
    )
    for i, text in enumerate(texts)
  ]


PLAIN = items_of(['2+2=4. The answer is 4.', '=5\r\nThe answer is 5.', 'six'])


def write(folder, items, given=None, **options):
  path = folder / 'page.html'
  source = auditpage.render(items, given or {}, code=CODE, **options)
  storage.publish(str(path), source)
  return path


def table_of(data):
  """Returns what a downloaded CSV says, as (verdict, note) by digest."""
  rows = audits.parse(data, 'download.csv')
  return {row.digest: (row.verdict, row.note) for row in rows}


class _Tags(html.parser.HTMLParser):
  def __init__(self, source):
    super().__init__(convert_charrefs=True)
    self.tags, self.texts = [], []
    self.feed(source)
    self.close()

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, attrs))

  def handle_data(self, data):
    self.texts.append(data)


def test_page_loads_nothing_and_runs_one_script():
  found = _Tags(auditpage.render(PLAIN, {}, code=CODE, model='wc'))
  names = [tag for tag, _ in found.tags]
  assert names.count('script') == 2
  assert {'link', 'img', 'iframe', 'object', 'form', 'a'}.isdisjoint(names)
  attributes = [pair for _, attrs in found.tags for pair in attrs]
  assert not [k for k, _ in attributes if k.startswith('on') or k == 'style']
  assert not [v for _, v in attributes if v and re.search(r'https?:|//|url', v)]
  ids = [v for k, v in attributes if k == 'id']
  assert len(ids) == len(set(ids))
  rules = dict(rule.split(' ', 1) for rule in auditpage.policy().split('; '))
  assert rules.pop('default-src') == "'none'"
  assert re.fullmatch("'sha256-[^' ]+'", rules.pop('script-src'))
  assert re.fullmatch("'sha256-[^' ]+'", rules.pop('style-src'))
  assert rules.pop('require-trusted-types-for') == "'script'"
  assert set(rules.values()) == {"'none'"}


@pytest.mark.parametrize('text', hostile.TEXTS)
def test_hostile_text_adds_no_tag(text):
  acting = _Tags(auditpage.render(items_of([text]), {}, code=CODE, model=text))
  plain = _Tags(auditpage.render(items_of(['x']), {}, code=CODE, model='x'))
  for found in (acting, plain):
    assert [t for t, _ in found.tags].count('article') == 1
  assert acting.tags == plain.tags
  assert ''.join(acting.texts).count(text) >= 8
  assert [t for t in acting.texts if t.startswith('{')] != []
  [data] = [t for t in acting.texts if t.startswith('{"key"')]
  assert not re.search('[<>&]', data)


def test_the_code_says_nothing_of_the_model():
  code = auditpage.code('model', {'seed': 0})
  assert re.fullmatch('[0-9a-f]{16}', code)
  assert code != auditpage.code('other', {'seed': 0})
  assert code != auditpage.code('model', {'seed': 1})
  source = auditpage.render(PLAIN, {}, code=code)
  assert 'Samples of' not in source
  assert '<dd>' not in source


def test_an_audit_by_clicks_and_keys(chromium, tmp_path):
  path = write(tmp_path, PLAIN)
  page = chromium.page(width=1200, height=800)
  page.open(path)
  # What is not filled in yet is what was exported, byte for byte.
  _, data = page.download(lambda: page.click('#save'), tmp_path / 'got')
  assert data == audits.table(PLAIN, {}).encode()
  # By hand.
  page.click('button[data-verdict="unsound"]')
  page.click('textarea')
  page.type(NOTES[1])
  page.press('Escape')
  # By keys: next, sound, note.
  page.press('n')
  page.press('1')
  page.press('e')
  page.type(NOTES[0])
  page.press('2')
  page.press('Escape')
  page.click('button[aria-label="Next"]')
  page.press('3')
  page.press('1')
  page.press('1')
  assert page.evaluate('document.querySelector("#count").textContent') == (
    '2 of 3'
  )
  page.press('ArrowLeft')
  assert page.evaluate(
    'document.querySelector("article:not([hidden]) h2").textContent'
  ) == ('Sample 2 of 3')
  page.press('ArrowRight')
  page.press('3')
  assert 'All 3 are done' in page.evaluate(
    'document.querySelector("#status").textContent'
  )
  want = {
    PLAIN[0].digest: ('unsound', NOTES[1]),
    PLAIN[1].digest: ('sound', NOTES[0] + '2'),
    PLAIN[2].digest: ('unsure', ''),
  }
  name, data = page.download(lambda: page.click('#save'), tmp_path / 'got')
  assert name == 'audit-012345.csv'
  assert data == audits.table(PLAIN, want).encode()
  assert table_of(data) == want
  # It is still there after a reload, which begins at the first open one.
  page.reload()
  _, again = page.download(lambda: page.click('#save'), tmp_path / 'got')
  assert again == data
  assert not page.evaluate('document.querySelector("#guide").open')
  page.click('#map summary')
  page.click('#reset')
  assert page.dialogs == ['Forget all verdicts and notes of this page?']
  _, data = page.download(lambda: page.click('#save'), tmp_path / 'got')
  assert data == audits.table(PLAIN, {}).encode()
  assert (page.violations, page.errors) == ([], [])


def test_only_open_ones(chromium, tmp_path):
  given = {PLAIN[1].digest: ('sound', '')}
  page = chromium.page()
  page.open(write(tmp_path, PLAIN, given))
  page.click('#open')
  at = 'document.querySelector("article:not([hidden]) h2").textContent'
  assert page.evaluate(at) == 'Sample 1 of 3'
  page.press('n')
  assert page.evaluate(at) == 'Sample 3 of 3'
  assert page.evaluate(
    'document.querySelector("article:not([hidden]) .steps button:last-child")'
    '.disabled'
  )
  page.click('#open')
  page.press('p')
  assert page.evaluate(at) == 'Sample 2 of 3'
  assert page.evaluate(
    'document.querySelector("article:not([hidden]) [data-verdict=sound]")'
    '.ariaPressed'
  ) == ('true')


@pytest.mark.parametrize('form', ['page', 'spreadsheet'])
def test_a_file_is_gone_on_from(chromium, tmp_path, form):
  items = items_of(['a', 'b', '=c\nd', 'e'])
  want = {
    item.digest: (('sound', 'unsound', 'unsure', '')[i], NOTES[i])
    for i, item in enumerate(items)
  }
  data = audits.table(items, want).encode()
  if form == 'spreadsheet':
    rows = list(csv.reader(io.StringIO(data.decode('utf-8-sig'), newline='')))
    rows[1][7] = ' Sound '
    rows += [[''] * 10, [*rows[1][:9], 'sha-1']]
    out = io.StringIO(newline='')
    csv.writer(out, delimiter=';', lineterminator='\n').writerows(rows)
    data = ('sep=;\n' + out.getvalue()).encode('utf-16')
  source = tmp_path / 'filled.csv'
  source.write_bytes(data)
  page = chromium.page()
  page.open(write(tmp_path, items))
  page.choose_file('input[type=file]', source)
  status = page.wait('document.querySelector("#status").textContent')
  assert status.startswith('Taken from the file: 4 rows; 3 of 4 done.')
  assert ('Not understood: 1' in status) == (form == 'spreadsheet')
  _, data = page.download(lambda: page.click('#save'), tmp_path / 'got')
  assert table_of(data) == want
  source.write_bytes(b'\xff\xfeno')
  page.choose_file('input[type=file]', source)
  page.wait(
    'document.querySelector("#status").textContent.includes("in UTF-8")'
  )
  assert (page.violations, page.errors) == ([], [])


def test_a_browser_that_keeps_nothing_says_so_and_works(chromium, tmp_path):
  page = chromium.page()
  page.before_load(
    "Object.defineProperty(window, 'localStorage', {get() {"
    " throw new DOMException('denied', 'SecurityError'); }});"
  )
  page.open(write(tmp_path, PLAIN))
  assert page.evaluate('document.querySelector("#refused").checkVisibility()')
  page.press('2')
  _, data = page.download(lambda: page.click('#save'), tmp_path / 'got')
  assert table_of(data)[PLAIN[0].digest] == ('unsound', '')
  assert page.errors == []


def test_hostile_text_runs_nothing(chromium, tmp_path):
  items = items_of(hostile.TEXTS)
  given = {item.digest: ('sound', item.text) for item in items}
  page = chromium.page(width=1200, height=800)
  page.before_load("""
    var pwned = 0, blocked = [];
    document.addEventListener('securitypolicyviolation', event =>
      blocked.push(event.violatedDirective + ' ' + event.sample));
  """)
  path = write(tmp_path, items, given, model=hostile.TEXTS[0])
  page.open(path)
  for _ in items:
    page.press('n')
  page.press('2')
  tags = page.evaluate(
    '[...new Set([...document.body.querySelectorAll("*")].map('
    'element => element.localName))].sort()'
  )
  assert ' '.join(tags) == (
    'article button dd details div dl dt h1 h2 h3 header input kbd label li '
    'main nav noscript p progress script span summary textarea ul'
  )
  shown = page.evaluate(
    '[...document.querySelectorAll(".solution")].map(box => box.textContent)'
  )
  assert shown == hostile.TEXTS
  notes = page.evaluate(
    '[...document.querySelectorAll("textarea")].map(box => box.value)'
  )
  assert notes == hostile.TEXTS
  assert page.evaluate('pwned') == 0
  assert page.evaluate('blocked') == []
  assert (page.violations, page.errors, page.dialogs) == ([], [], [])
  assert page.requests == [path.as_uri()]
  _, data = page.download(lambda: page.click('#save'), tmp_path / 'got')
  rows = audits.parse(data, 'download.csv')
  audits.check(rows, {item.digest: item for item in items}, 'download.csv')
  assert [row.note for row in rows] == hostile.TEXTS


def test_the_policy_would_block_what_slips_through(chromium, tmp_path):
  source = auditpage.render(PLAIN, {}, code=CODE)
  slipped = '<script>pwned = 1</script><img src=x onerror=pwned=1></main>'
  path = tmp_path / 'page.html'
  path.write_text(source.replace('</main>', slipped))
  page = chromium.page()
  page.before_load('var pwned = 0;')
  page.open(path)
  assert page.evaluate('pwned') == 0
  assert len(page.violations) >= 2
  with pytest.raises(RuntimeError, match='TrustedHTML'):
    page.evaluate('document.body.innerHTML = "<b>x</b>"')


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_page_fits_phones_and_desks_and_can_be_read(chromium, tmp_path, scheme):
  long = 'a long text of many words ' * 40 + 'and_one_' * 60
  path = write(tmp_path, items_of([long, 'short']), model=long)
  for width in (390, 1200):
    page = chromium.page(
      width=width, height=800, mobile=width < 600, scheme=scheme
    )
    page.open(path)
    page.evaluate(
      'document.querySelector("#map details").open = true;'
      'document.querySelector("[data-verdict=unsure]").click();'
    )
    found = page.evaluate(browser.LOOK)
    assert found['scroll'] <= width
    assert found['unnamed'] == []
    # WCAG 2.2: contrast of text (1.4.3), size of targets (2.5.8).
    assert found['faint'] == []
    assert found['small'] == []
    # The verdict buttons are in sight without scrolling.
    page.press('n')
    box = page.evaluate(
      'document.querySelector("article:not([hidden]) .verdicts")'
      '.getBoundingClientRect().toJSON()'
    )
    assert box['top'] >= 0
    assert box['bottom'] <= 800


def test_cells_are_risky_in_the_page_as_in_the_table(chromium, tmp_path):
  texts = [
    prefix + text
    for text in (
      *hostile.TEXTS,
      *NOTES,
      *'=+-@\t\r\n0159a',
      '0012',
      '1/2',
      '1e5',
    )
    for prefix in ('', "'", ' ', '\u00a0', '\uff1d', 'jan ', 'TRUE', 'x')
  ]
  page = chromium.page()
  page.open(write(tmp_path, PLAIN))
  found = page.evaluate(
    'const risky = new RegExp(JSON.parse('
    'document.getElementById("data").textContent).risky);'
    f'{json.dumps(texts)}.map(text => risky.test(text))'
  )
  assert found == [audits.encode(text) != text for text in texts]
  assert len(set(found)) == 2
