import base64
import copy
import hashlib
import html.parser
import json
import re
import shutil
import subprocess
from typing import Any

import hostile
import planted
import pytest

from wcse_jax import storage
from wcse_jax.report import html as page
from wcse_jax.report import style


_VOID = {'meta', 'br', 'input'}
# Of the frames below, with and without a scroll bar.
_WIDTHS = (391, 391, 1201, 1201)
_HARNESS = """<!doctype html><title>harness</title><body>
<iframe src="short/index.html" width="390" height="800"></iframe>
<iframe src="long/index.html" width="390" height="800"></iframe>
<iframe src="short/index.html" width="1200" height="800"></iframe>
<iframe src="long/index.html" width="1200" height="800"></iframe>
<pre id="out"></pre>
<script>
function look(frame) {
  const page = frame.contentDocument, view = frame.contentWindow;
  page.querySelectorAll('details').forEach(d => { d.open = true; });
  const root = page.documentElement, small = [], outside = [], crossing = [];
  for (const svg of page.querySelectorAll('svg')) {
    const sheet = svg.getBoundingClientRect(), seen = [];
    for (const text of svg.querySelectorAll('text')) {
      const box = text.getBoundingClientRect();
      const pixels = parseFloat(view.getComputedStyle(text).fontSize)
        * svg.getScreenCTM().a;
      if (pixels < 11) small.push([text.textContent, pixels]);
      if (box.left < sheet.left - 1 || box.right > sheet.right + 1
          || box.top < sheet.top - 1 || box.bottom > sheet.bottom + 1)
        outside.push(text.textContent);
      for (const [words, other] of seen)
        if (box.left < other.right - 1 && other.left < box.right - 1
            && box.top + 3 < other.bottom - 3
            && other.top + 3 < box.bottom - 3)
          crossing.push([words, text.textContent]);
      seen.push([text.textContent, box]);
    }
  }
  return {
    width: root.clientWidth, scroll: root.scrollWidth,
    charts: page.querySelectorAll('svg').length,
    caption: view.getComputedStyle(
      page.querySelector('figcaption')).fontSize,
    scrollers: [...page.querySelectorAll('.scroll')].filter(
      box => box.scrollWidth > box.clientWidth).length,
    small, outside, crossing};
}
addEventListener('load', () => {
  const found = [...document.querySelectorAll('iframe')].map(look);
  document.getElementById('out').textContent = JSON.stringify(found);
});
</script>
"""


class _Page(html.parser.HTMLParser):
  """Records the tags and texts of a page; complains where tags do not match."""

  def __init__(self, source: str):
    super().__init__(convert_charrefs=True)
    self.tags: list[tuple[str, tuple]] = []
    self.texts: list[str] = []
    self.scripts: list[str] = []
    self.other: list[str] = []
    self._open: list[str] = []
    self.feed(source)
    self.close()
    assert not self._open

  def handle_starttag(self, tag: str, attrs: list) -> None:
    self.tags.append((tag, tuple(attrs)))
    if tag not in _VOID:
      self._open.append(tag)

  def handle_endtag(self, tag: str) -> None:
    assert self._open.pop() == tag

  def handle_data(self, data: str) -> None:
    if self._open and self._open[-1] == 'script':
      self.scripts.append(data)
    else:
      self.texts.append(data)

  def handle_comment(self, data: str) -> None:
    self.other.append(data)

  def handle_pi(self, data: str) -> None:
    self.other.append(data)

  def unknown_decl(self, data: str) -> None:
    self.other.append(data)

  @property
  def text(self) -> str:
    return '\n'.join(self.texts)


def _estimates(tree: Any) -> list[dict[str, Any]]:
  """Returns all estimates in results."""
  if isinstance(tree, list):
    return [e for item in tree for e in _estimates(item)]
  if not isinstance(tree, dict):
    return []
  if {'value', 'low', 'high', 'n'} <= tree.keys():
    return [tree]
  return [e for item in tree.values() for e in _estimates(item)]


def _matched(quality: dict[str, Any]) -> dict[str, Any]:
  """Returns the measures with only the k of their budget."""
  quality = copy.deepcopy(quality)
  for arms in quality.values():
    for m in arms.values():
      for curve in ('coverage', 'diversity', 'distinct_chains'):
        m[curve] = [r for r in m[curve] if r['k'] == m['samples_per_problem']]
  return quality


def test_page_is_well_formed_and_loads_nothing(results):
  source = page.render(results)
  found = _Page(source)
  assert not found.other
  assert {tag for tag, _ in found.tags}.isdisjoint(
    {'link', 'img', 'iframe', 'object', 'embed', 'base', 'form'}
  )
  names = {name for _, attrs in found.tags for name, _ in attrs}
  assert 'style' not in names
  assert not [name for name in names if name.startswith('on')]
  values = [v for _, attrs in found.tags for _, v in attrs if v]
  assert not [v for v in values if re.search(r'https?:|//|url\(', v)]
  assert 'url(' not in style.SHEET
  assert '@import' not in style.SHEET
  hrefs = [v for _, attrs in found.tags for k, v in attrs if k == 'href']
  ids = [v for _, attrs in found.tags for k, v in attrs if k == 'id']
  assert hrefs
  files = {
    f'figures/{chart}.{kind}'
    for chart in re.findall(r'id="([a-z0-9-]+)-title"', source)
    for kind in ('svg', 'csv')
  }
  files |= {'summary.md'}
  assert set(hrefs) - files <= {f'#{one}' for one in ids}
  assert files <= set(hrefs)
  assert len(ids) == len(set(ids))


def _hash(source: str) -> str:
  digest = hashlib.sha256(source.encode()).digest()
  return f"'sha256-{base64.b64encode(digest).decode()}'"


def _policy(source: str) -> dict[str, str]:
  [policy] = [
    dict(attrs)['content']
    for tag, attrs in _Page(source).tags
    if tag == 'meta' and ('http-equiv', 'Content-Security-Policy') in attrs
  ]
  return dict(rule.split(' ', 1) for rule in policy.split('; '))


def test_policy_allows_style_sheet_and_script_by_their_hashes(results):
  source = page.render(results)
  rules = _policy(source)
  sheet = re.search(r'<style>(.*?)</style>', source, re.DOTALL)[1]
  assert rules.pop('style-src') == _hash(sheet)
  data, script = _Page(source).scripts
  assert json.loads(data)['kinds'] == ['wc', 'se', 'other']
  assert rules.pop('script-src') == _hash(script)
  assert rules.pop('require-trusted-types-for') == "'script'"
  assert rules.pop('default-src') == "'none'"
  assert set(rules.values()) == {"'none'"}


def test_a_page_without_a_dial_has_no_script(results):
  del results['dial']
  source = page.render(results)
  assert _Page(source).scripts == []
  assert set(_policy(source)) == {
    *('default-src', 'style-src', 'img-src', 'base-uri', 'form-action')
  }


def test_charts_have_a_title_and_a_description(results):
  found = _Page(page.render(results))
  ids = {v for _, attrs in found.tags for k, v in attrs if k == 'id'}
  charts = [dict(attrs) for tag, attrs in found.tags if tag == 'svg']
  assert len(charts) > 10
  for chart in charts:
    assert set(chart['aria-labelledby'].split()) <= ids
    assert chart['role'] == 'img'


@pytest.mark.parametrize('string', hostile.joined(6))
def test_hostile_text_is_inert_and_reads_as_it_was(results, string):
  hostile, harmless = copy.deepcopy(results), results
  planted.plant(hostile, string)
  planted.plant(harmless, 'x' * len(string))
  found, want = _Page(page.render(hostile)), _Page(page.render(harmless))
  assert found.tags == want.tags
  assert not found.other
  # In the legends and rows of charts a long name may be shortened.
  assert found.text.count(string) >= 60
  texts = [text.replace(string, 'x' * len(string)) for text in found.texts]
  differ = [t for t, w in zip(texts, want.texts, strict=True) if t != w]
  assert all(text.endswith('…') for text in differ)


def test_text_that_html_cannot_hold_is_shown_by_a_picture(results, tmp_path):
  results['examples'][0]['samples'][0]['text'] = 'a\0b\x1b[31m\ud800c\r\n'
  page.write(results, storage.join(str(tmp_path), 'report'))
  source = storage.read_text(str(tmp_path / 'report' / 'index.html'))
  assert 'a\u2400b\u241b[31m\ufffdc\u240d\n' in _Page(source).text


def test_every_estimate_is_shown_with_its_interval_and_n(results):
  # Of a measure's curves the report shows the budget's k; the others are in
  # `curves`.  Each estimate gets its own n, to be told from the others.
  results['quality'] = _matched(results['quality'])
  for at, estimate in enumerate(_estimates(results)):
    estimate['n'] = 100_000 + at
  text = _Page(page.render(results)).text
  shown = _estimates(results)
  assert len(shown) > 200
  for estimate in shown:
    assert re.search(rf'\d to [+−]?[\d.]+, n = {estimate["n"]:,}\b', text)


def test_the_answer_shows_what_each_setup_compares_above_all(results):
  assert 'Trained students, WC data − SE data, in points' in page.render(
    results
  )
  setup = results['training']['setups'][0]
  for contrast in setup['contrasts']:
    contrast |= {'a': 'human', 'primary': contrast['metric'] == 'pass@1'}
  found = page.render(results)
  assert 'Trained students, main comparisons, in points' in found
  named = f'{setup["title"]}, high budget: Reference solutions − SE data: '
  assert f'<title>{named}' in found
  assert '>Reference solutions − SE data</text>' in found


def test_no_difference_seen_is_said(results):
  text = _Page(page.render(results)).text
  assert results['answer']['sentence'] in text
  assert 'cannot tell: the interval holds 0' in text
  results['gaps']['high'] = {'value': 0.1, 'low': 0.05, 'high': 0.15, 'n': 9}
  results['gaps_of'] = []
  text = _Page(page.render(results)).text
  assert 'cannot tell: the interval holds 0' not in text


def test_false_positive_is_named(results):
  text = _Page(page.render(results)).text
  assert 'right answer, wrong reasoning: a false positive' in text


def test_plan_and_outcome_are_side_by_side(results):
  text = _Page(page.render(results)).text
  assert 'Verdict: the weaker model covers more' in text
  assert 'at 15 samples of tiny-wc' in text
  assert 'Break-even cost ratio 1.6' in text
  assert (
    '20 of tiny-wc in rounds of 4, then 2 of tiny-se, until 1 right' in text
  )
  assert 'at most nothing' in text
  for outcome in ('+7.3 points', '81.0%', '83.3%'):
    assert outcome in text
  results['plan']['followed'] = results['plan']['gap'] = None
  results['plan']['pair']['break_even_ratio'] = None
  text = _Page(page.render(results)).text
  assert 'No cost ratio would make them equal.' in text
  assert 'not measured' in text


def test_an_unfinished_study_renders(results):
  for nothing in ({}, dict.fromkeys(results), {**results, 'status': 'x'}):
    found = _Page(page.render(nothing))
    assert 'This study is unfinished.' in found.text
  empty = _Page(page.render({})).text
  assert empty.count('this part has not run yet.') >= 10
  assert 'this part has not run yet' not in _Page(page.render(results)).text


def test_any_part_may_be_null(results):
  for key, part in results.items():
    page.render({**results, key: None})
    if isinstance(part, list) and isinstance(part[0], dict):
      page.render({**results, key: [None, *part]})
    for name, inner in part.items() if isinstance(part, dict) else ():
      page.render({**results, key: {**part, name: None}})
      if key in ('quality', 'curves') and isinstance(inner, dict):
        for low in inner:
          page.render({**results, key: {**part, name: {**inner, low: None}}})


def test_estimates_may_be_null_or_undefined(results):
  for estimate in _estimates(results):
    estimate.update(value=None, low=None, high=None, n=0)
  text = _Page(page.render(results)).text
  assert 'undefined' in text
  assert not re.search(r'\b(None|nan|inf)\b', text)


def test_page_lays_out_on_a_phone_and_a_desk(results, tmp_path):
  chromium = shutil.which('chromium')
  if chromium is None:
    pytest.skip('no `chromium` on PATH')
  page.write(results, str(tmp_path / 'short'))
  planted.plant(results, 'a name of many words, ' * 8 + 'and_one_' * 20)
  page.write(results, str(tmp_path / 'long'))
  (tmp_path / 'harness.html').write_text(_HARNESS, encoding='utf-8')
  done = subprocess.run(
    [
      chromium,
      '--headless',
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      '--allow-file-access-from-files',
      '--enable-logging=stderr',
      f'--user-data-dir={tmp_path / "profile"}',
      '--dump-dom',
      f'file://{tmp_path / "harness.html"}',
    ],
    capture_output=True,
    text=True,
    check=True,
    timeout=60,
  )
  assert 'Content Security Policy' not in done.stderr
  [out] = re.findall(r'<pre id="out">(.*?)</pre>', done.stdout, re.DOTALL)
  layouts = json.loads(html.unescape(out))
  widths = [found['width'] for found in layouts]
  assert all(wide > width > wide - 40 for wide, width in zip(_WIDTHS, widths))
  for found in layouts:
    # 0.88rem: the style sheet was let in by the policy.
    assert found['caption'] == '14.08px'
    assert found['charts'] > 10
    assert found['scroll'] <= found['width']
    assert found['small'] == []
    assert found['outside'] == []
    assert found['crossing'] == []
  assert layouts[0]['scrollers'] > 0


def test_the_sample_browser_is_linked_where_there_is_one(results):
  assert 'samples/index.html' not in page.render(results)
  found = page.render(results | {'samples_shown': 98_304})
  assert 'href="samples/index.html"' in found
  assert 'All 98,304 samples' in found
