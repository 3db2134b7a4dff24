"""The whole page in a browser: inert, and readable on phones and desks."""

import browser
import hostile
import planted
import pytest

from wcse_jax.report import html


@pytest.mark.parametrize('string', hostile.joined(6))
def test_hostile_text_runs_nothing(chromium, results, tmp_path, string):
  planted.plant(results, string)
  html.write(results, str(tmp_path))
  page = chromium.page()
  page.before_load('var pwned = 0;')
  page.open(tmp_path / 'index.html')
  assert page.evaluate('document.querySelectorAll("figure").length') > 20
  assert string.strip() in page.evaluate(
    'document.querySelector("h1").textContent'
  )
  assert page.evaluate('pwned') == 0
  assert (page.violations, page.errors, page.dialogs) == ([], [], [])
  assert all(url.startswith('file:') for url in page.requests)


@pytest.mark.parametrize('scheme', ['light', 'dark'])
@pytest.mark.parametrize('width', [390, 1200])
def test_the_page_can_be_read(chromium, results, tmp_path, scheme, width):
  html.write(results, str(tmp_path))
  page = chromium.page(
    width=width, height=800, mobile=width < 600, scheme=scheme
  )
  page.open(tmp_path / 'index.html')
  page.evaluate(
    'document.querySelectorAll("details").forEach(one => { one.open = true; })'
  )
  found = page.evaluate(browser.LOOK)
  assert found['scroll'] <= width
  assert found['faint'] == []
  assert found['small'] == []
  assert found['unnamed'] == []
