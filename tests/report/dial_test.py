"""The dial of the cost ratio, turned in a browser by keys and clicks."""

import json
import re

import hostile
import pytest

from wcse_jax.report import dial, html, text


_TABLE = """[...document.querySelectorAll('#dial-table tbody tr')].map(
  row => [...row.children].map(cell => cell.innerText.replace(/\\s+/g, ' ')))"""


def test_a_row_holds_until_the_next_and_the_last_while_it_is_affordable():
  rows = [{'ratio': k / 2, 'k_se': 2, 'k_wc': k} for k in (2, 3, 6)]
  found = {
    ratio: (dial.at(rows, ratio) or {}).get('k_wc')
    for ratio in (0.9, 1, 1.4, 1.5, 2.9, 3.0, 3.4, 3.5, 9)
  }
  assert found == {
    **{0.9: None, 1: 2, 1.4: 2, 1.5: 3, 2.9: 3, 3.0: 6, 3.4: 6},
    **{3.5: None, 9: None},
  }


def test_a_budget_without_samples_at_a_ratio_says_so(
  chromium, results, tmp_path
):
  results['dial'] = [
    row for row in results['dial'] if row['budget'] == 'low' or row['ratio'] < 2
  ]
  html.write(results, str(tmp_path))
  page = chromium.page(width=1200, height=900)
  page.open(tmp_path / 'index.html')
  low, high = page.evaluate(_TABLE)
  assert low == _rows(results, 2.98)[0]
  assert high == [
    *('high budget', 'not known', '– beyond the samples drawn', '–', '–')
  ]


@pytest.fixture
def page(chromium, results, tmp_path):
  html.write(results, str(tmp_path))
  page = chromium.page(width=1200, height=900)
  page.open(tmp_path / 'index.html')
  return page


def _rows(results, ratio):
  """Returns what the table must show at the ratio that is nearest."""
  found = []
  for budget in ('low', 'high'):
    rows = [row for row in results['dial'] if row['budget'] == budget]
    row = [row for row in rows if row['ratio'] <= ratio * (1 + 1e-9)][-1]
    winner = {'weak': 'WC ahead', 'strong': 'SE ahead'}
    gap = text.estimate(row['gap'], 'points')
    found.append(
      [
        f'{budget} budget',
        winner.get(row['verdict'], 'cannot tell'),
        gap.replace('(', '').replace(')', ''),
        str(row['k_se']),
        str(row['k_wc']),
      ]
    )
  return found


def _ratio(page):
  return float(
    page.evaluate('document.getElementById("dial-ratio").textContent')
  )


def test_it_begins_at_this_pairs_own_ratio(page, results):
  assert _ratio(page) == 2.98
  assert page.evaluate(_TABLE) == _rows(results, 2.98)


def test_keys_turn_it(page, results):
  page.evaluate('document.getElementById("dial").focus()')
  before = page.evaluate('document.querySelector(".cursor").getAttribute("x1")')
  for key, ratio in (('Home', 1.1), ('End', 1.1 * 1.05**39)):
    page.press(key)
    assert _ratio(page) == pytest.approx(ratio, rel=0.01)
    assert page.evaluate(_TABLE) == _rows(results, ratio)
  page.press('ArrowLeft')
  spoken = page.evaluate(
    'document.getElementById("dial").getAttribute("aria-valuetext")'
  )
  assert re.fullmatch(r'7.03 times; low: WC ahead; high: WC ahead', spoken)
  after = page.evaluate('document.querySelector(".cursor").getAttribute("x1")')
  assert float(after) > float(before) + 50
  assert (page.violations, page.errors) == ([], [])


def test_buttons_set_it_to_other_currencies(page, results):
  page.click('#dial-own button:nth-of-type(3)')
  assert _ratio(page) == 1.72
  assert page.evaluate(_TABLE) == _rows(results, 1.72)
  # What costs less than a sample of WC is not on the dial.
  assert page.evaluate('document.querySelectorAll("#dial-own button").length')
  assert 'tokens' not in page.evaluate(
    'document.getElementById("dial-own").textContent'
  )


def test_it_has_a_name_and_is_not_printed(page):
  assert page.evaluate('document.getElementById("dial").labels[0].innerText')
  page.call('Emulation.setEmulatedMedia', media='print')
  shown = """['dial', 'dial-table', 'dial-charts'].map(
    id => document.getElementById(id).checkVisibility())"""
  assert page.evaluate(shown) == [False, True, True]


def test_without_its_script_the_tables_are_there(chromium, results, tmp_path):
  html.write(results, str(tmp_path))
  page = chromium.page(width=1200, height=900)
  page.call('Emulation.setScriptExecutionDisabled', value=True)
  page.open(tmp_path / 'index.html')
  page.call('Emulation.setScriptExecutionDisabled', value=False)
  assert not page.evaluate('document.getElementById("dial").checkVisibility()')
  assert page.evaluate(_TABLE) == _rows(results, 2.98)
  rows = 'document.querySelectorAll("#ratio details tbody tr").length'
  assert page.evaluate(rows) == len(results['dial'])
  assert page.evaluate(
    'getComputedStyle(document.querySelector(".cursor")).visibility'
  ) == ('hidden')


def test_without_currencies_it_begins_at_the_planned_ratio(results):
  del results['currencies']
  held = json.loads(re.search(r'id="dial-data">(.*?)<', dial.dial(results))[1])
  [own] = held['own']
  assert held['ratios'][own] == '2.98'


def test_hostile_names_run_nothing(chromium, results, tmp_path):
  """Each budget has another name, so that all are in the data of the script."""
  row = results['dial'][20]
  results['dial'] = [
    {**row, 'budget': name, 'verdict': name, 'ratio': row['ratio'] + step}
    for name in hostile.TEXTS
    for step in (0, 1)
  ]
  html.write(results, str(tmp_path))
  page = chromium.page()
  page.before_load('var pwned = 0;')
  page.open(tmp_path / 'index.html')
  page.evaluate('document.getElementById("dial").focus()')
  page.press('End')
  page.press('Home')
  shown = page.evaluate(
    """[...document.querySelectorAll('#dial-table tbody .key')].map(
      one => one.textContent)"""
  )
  assert shown == hostile.TEXTS
  assert page.evaluate('pwned') == 0
  assert (page.violations, page.errors, page.dialogs) == ([], [], [])
  assert all(url.startswith('file:') for url in page.requests)
