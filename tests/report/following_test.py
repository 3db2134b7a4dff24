"""The report that follows a study: read only, made again when it changed."""

import contextlib
import hashlib
import json
import signal
import sys
import threading

import made
import pytest
import served

from wcse_jax import errors, storage
from wcse_jax.report import following, html


@pytest.fixture
def folder(tmp_path):
  """A run folder with the results of a study that has only begun."""
  (tmp_path / 'run' / 'ledger').mkdir(parents=True)
  _put(tmp_path / 'run', {'title': 'Begun'})
  return tmp_path / 'run'


def _put(folder, results, stage='sample'):
  (folder / 'kept.txt').write_text(json.dumps(results))
  (folder / 'ledger' / f'{stage}.json').write_text(json.dumps({'flops': 1}))


def _snapshot(folder):
  return lambda: json.loads((folder / 'kept.txt').read_text())


def _pages(folder, tmp_path, snapshot=None):
  snapshot = snapshot or _snapshot(folder)
  return following.Pages(str(folder), snapshot, str(tmp_path / 'pages'))


def _page(tmp_path):
  return (tmp_path / 'pages' / 'index.html').read_text()


def _content(folder):
  return {
    str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).digest()
    for path in folder.rglob('*')
    if path.is_file()
  }


def test_pages_are_made_when_a_stage_ends(folder, tmp_path):
  pages = _pages(folder, tmp_path)
  assert pages.refresh()
  assert '<h1>Begun</h1>' in _page(tmp_path)
  first = pages.version
  assert f'"version": "{first}"' in _page(tmp_path)
  assert not pages.refresh()
  # A shard alone is no stage.
  (folder / 'kept.txt').write_text(json.dumps({'title': 'Changed'}))
  assert not pages.refresh()
  _put(folder, {'title': 'Changed'}, 'grade')
  assert pages.refresh()
  assert '<h1>Changed</h1>' in _page(tmp_path)
  assert pages.version != first


def test_what_says_nothing_new_is_not_written(folder, tmp_path):
  pages = _pages(folder, tmp_path)
  pages.refresh()
  before = (tmp_path / 'pages' / 'index.html').stat().st_mtime_ns
  _put(folder, {'title': 'Begun'}, 'grade')
  assert not pages.refresh()
  assert (tmp_path / 'pages' / 'index.html').stat().st_mtime_ns == before


@pytest.mark.parametrize(
  ('name', 'counts'),
  [
    ('ledger/train-x.json', True),
    ('students/student/wc/r0/evaluation.json', True),
    ('grades/tiny-wc/manifest.json', True),
    ('plan/plan.json', True),
    ('samples/tiny-wc/shard-00000-00063-0000-0007.jsonl', False),
    ('report/index.html', False),
    ('report/samples/x.json', False),
    ('students/student/wc/r0/model/config.json', False),
    ('students/student/wc/r0/checkpoints/3/x.json', False),
    ('.lock', False),
    ('.evaluation.json.0123456789abcdef.tmp', False),
  ],
)
def test_what_counts_as_a_stage(folder, name, counts):
  before = following.stamp(str(folder))
  path = folder / name
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text('{}')
  assert (following.stamp(str(folder)) != before) == counts


def test_a_ledger_row_that_is_replaced_counts(folder):
  before = following.stamp(str(folder))
  (folder / 'ledger' / 'sample.json').write_text('{"flops": 2}')
  assert following.stamp(str(folder)) != before


def test_a_file_that_cannot_be_read_is_tried_again(folder, tmp_path):
  broken = [errors.InputError('x: wanted\na <file>.'), OSError('gone')]

  def snapshot():
    if broken:
      raise broken.pop(0)
    return {'title': 'Read'}

  pages = _pages(folder, tmp_path, snapshot)
  assert pages.refresh()
  assert 'Not newer yet: x: wanted a &lt;file&gt;.' in _page(tmp_path)
  assert pages.refresh()
  assert pages.refresh()
  assert '<h1>Read</h1>' in _page(tmp_path)
  assert 'Not newer yet' not in _page(tmp_path)
  assert not pages.refresh()


def test_samples_are_linked_where_the_study_wrote_them(folder, tmp_path):
  pages = _pages(folder, tmp_path)
  pages.refresh()
  assert 'samples/index.html' not in _page(tmp_path)
  samples = folder / 'report' / 'samples'
  samples.mkdir(parents=True)
  (samples / 'index.html').write_text('samples')
  kept = made.results()
  (folder / 'results.json').write_text(json.dumps({'samples_shown': 98_304}))
  _put(folder, kept, 'report')
  pages.refresh()
  assert 'All 98,304 samples' in _page(tmp_path)


@contextlib.contextmanager
def _served(folder):
  """Serves in a process of its own; yields the process and its address."""
  code = (
    'import json, sys; from absl import app, flags; sys.argv[1:] = []\n'
    'from wcse_jax import cli\nfrom wcse_jax.report import following\n'
    f'folder = {str(folder)!r}\n'
    'import signal; signal.signal(signal.SIGTERM, cli._terminate)\n'
    # Where the tests run in the background, it would be ignored.
    'signal.signal(signal.SIGINT, signal.default_int_handler)\n'
    'following.serve(folder, lambda: json.load(open(folder + "/kept.txt")),\n'
    '  look_s=0.05)\n'
  )
  with served.started([sys.executable, '-c', code]) as found:
    yield found


def test_the_page_loads_itself_again_when_it_changed(
  chromium, folder, tmp_path
):
  results = made.results()
  with _served(folder) as (_, url):
    page = chromium.page(width=1200, height=800)
    page.go(url)
    title = 'document.querySelector("h1")?.textContent'
    page.wait(f'{title} === "Begun"')
    results['title'] = 'Finished'
    _put(folder, results, 'evaluate')
    page.wait(f'{title} === "Finished" && document.readyState === "complete"')
    # A figure opens, and the dial turns.
    assert page.evaluate('document.querySelectorAll("figure").length') > 20
    page.evaluate('document.getElementById("dial").focus()')
    page.press('End')
    loads = page.loads
    assert page.evaluate(
      'fetch("figures/curve-coverage.svg").then(answer => answer.status)'
    ) == (200)
    # Nothing changed: it stays.
    page.wait('new Promise(done => setTimeout(() => done(true), 2500))')
    assert page.loads == loads
    assert (page.violations, page.errors) == ([], [])
    assert all(one.startswith(url) for one in page.requests)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_the_run_folder_is_as_it_was(folder, number):
  before = _content(folder)
  # The study holds its folder while it runs.
  with storage.lock(str(folder)):
    with _served(folder) as (process, url):
      assert '<h1>' in served.get(url)
      process.send_signal(number)
      assert process.wait(timeout=60) == 0
  assert _content(folder) == before


def test_a_page_that_is_not_served_asks_nobody(tmp_path):
  html.write(made.results(), str(tmp_path))
  page = (tmp_path / 'index.html').read_text()
  assert 'live-data' not in page
  assert 'connect-src' not in page


def test_no_thread_is_left(folder):
  before = threading.active_count()

  def snapshot():
    raise errors.Stopped

  following.serve(str(folder), snapshot, look_s=0.01)
  assert threading.active_count() == before
