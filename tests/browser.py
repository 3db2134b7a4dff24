"""A headless Chromium that tests drive as a person would: clicks and keys.

It is driven through a pipe, which needs no package and no port: the browser
reads commands from its file descriptor 3 and answers on 4, JSON texts with a
NUL behind each.  Source: Chrome DevTools Protocol, `--remote-debugging-pipe`.
"""

import base64
import contextlib
import fcntl
import json
import os
import pathlib
import select
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest


NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'chrome')
# Seconds for anything to happen; a busy machine may take long to start it.
DEADLINE_S = 60.0
_FLAGS = (
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--no-default-browser-check',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-dev-shm-usage',
  '--disable-extensions',
  '--disable-sync',
  '--disable-breakpad',
  '--password-store=basic',
  '--use-mock-keychain',
  '--remote-debugging-pipe',
)
# How a page looks: its width, what has no name, is too faint or too small.
LOOK = """(() => {
  const rgb = colour => colour.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const light = colour => {
    const [r, g, b] = rgb(colour).map(v => v / 255).map(
      v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (colour !== 'rgba(0, 0, 0, 0)') return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  const faint = [], small = [], unnamed = [];
  for (const element of document.querySelectorAll('body *')) {
    if (!element.checkVisibility() || element.closest('.unseen')) continue;
    if (element.matches('script, noscript, progress')) continue;
    const text = [...element.childNodes].some(
      node => node.nodeType === 3 && node.data.trim());
    if (text && !element.closest(':disabled')) {
      const [low, high] = [
        light(getComputedStyle(element).color), light(ground(element)),
      ].sort((a, b) => a - b);
      const ratio = (high + 0.05) / (low + 0.05);
      if (ratio < 4.5) faint.push([element.outerHTML.slice(0, 80), ratio]);
    }
    if (element.matches('button, textarea')) {
      const box = element.getBoundingClientRect();
      if (box.height < 36 || box.width < 36)
        small.push([element.textContent, box.width, box.height]);
      const name = element.ariaLabel || element.textContent.trim()
        || element.labels?.[0]?.textContent.trim();
      if (!name) unnamed.push(element.outerHTML);
    }
  }
  return {scroll: document.documentElement.scrollWidth, faint, small, unnamed};
})()"""
_KEYS = {
  'Escape': (27, ''),
  'Enter': (13, '\r'),
  'Tab': (9, ''),
  'End': (35, ''),
  'Home': (36, ''),
  'ArrowLeft': (37, ''),
  'ArrowRight': (39, ''),
}


@contextlib.contextmanager
def chromium(folder: pathlib.Path) -> Iterator['Browser']:
  """Starts a browser with its profile in `folder`; skips where there is none.

  In the end all its processes are killed, and the profile is removed.
  """
  program = next(filter(None, map(shutil.which, NAMES)), None)
  if program is None:
    pytest.skip(f'no Chromium on PATH (looked for {", ".join(NAMES)})')
  profile = folder / 'profile'
  profile.mkdir(parents=True)
  # Above 4, so that none is overwritten while 3 and 4 are set.
  ends = []
  for _ in range(2):
    for end in os.pipe():
      ends.append(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10))
      os.close(end)
  theirs_in, ours_out, ours_in, theirs_out = ends
  log = os.open(profile / 'log', os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC)
  pid = os.posix_spawn(
    program,
    [program, *_FLAGS, f'--user-data-dir={profile}', 'about:blank'],
    os.environ,
    file_actions=[
      (os.POSIX_SPAWN_DUP2, log, 1),
      (os.POSIX_SPAWN_DUP2, log, 2),
      (os.POSIX_SPAWN_DUP2, theirs_in, 3),
      (os.POSIX_SPAWN_DUP2, theirs_out, 4),
    ],
    setpgroup=0,
  )
  for end in (theirs_in, theirs_out, log):
    os.close(end)
  try:
    yield Browser(ours_in, ours_out)
  finally:
    os.close(ours_in)
    os.close(ours_out)
    with contextlib.suppress(ProcessLookupError):
      os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    _remove(profile)


def _remove(folder: pathlib.Path) -> None:
  """Removes a folder into which the last process may still write."""
  until = time.monotonic() + 5
  while folder.exists() and time.monotonic() < until:
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
      time.sleep(0.05)


class Browser:
  """A running browser; `events` holds what it told, as (method, params)."""

  def __init__(self, reading: int, writing: int):
    self._reading, self._writing = reading, writing
    os.set_blocking(writing, False)
    self._buffer = b''
    self._last = 0
    self._answers: dict[int, dict[str, Any]] = {}
    self.events: list[tuple[str, dict[str, Any], str]] = []

  def call(self, method: str, session: str = '', **params: Any) -> Any:
    """Returns what the browser answers to a command.

    Raises:
      RuntimeError: if it refuses the command.
      TimeoutError: if it does not answer.
    """
    number = self._send(method, session, params)
    self.wait(lambda: number in self._answers, method)
    answer = self._answers.pop(number)
    if 'error' in answer:
      raise RuntimeError(f'{method}: {answer["error"]["message"]}')
    return answer['result']

  def wait(self, done: Callable[[], Any], what: str) -> Any:
    """Returns what `done()` gives, once it is true; takes in events."""
    until = time.monotonic() + DEADLINE_S
    while not (found := done()):
      left = until - time.monotonic()
      if left <= 0:
        raise TimeoutError(f'{what}: nothing in {DEADLINE_S:.0f} s')
      self._read(min(left, 0.5))
    return found

  def page(self, **emulated: Any) -> 'Page':
    """Opens an empty page, apart from other pages' storage.

    Args:
      **emulated: width, height, mobile, scheme; see `Page.emulate`.
    """
    context = self.call('Target.createBrowserContext')['browserContextId']
    target = self.call(
      'Target.createTarget', url='about:blank', browserContextId=context
    )['targetId']
    session = self.call('Target.attachToTarget', targetId=target, flatten=True)[
      'sessionId'
    ]
    found = Page(self, session, context)
    if emulated:
      found.emulate(**emulated)
    return found

  def _send(self, method: str, session: str, params: dict[str, Any]) -> int:
    """Writes a command; returns the number that its answer will have."""
    self._last += 1
    number = self._last
    command = {'id': number, 'method': method, 'params': params}
    if session:
      command['sessionId'] = session
    self._write(json.dumps(command).encode() + b'\0')
    return number

  def _write(self, data: bytes) -> None:
    until = time.monotonic() + DEADLINE_S
    while data:
      _, writable, _ = select.select([], [self._writing], [], 0.5)
      if writable:
        data = data[os.write(self._writing, data) :]
      elif time.monotonic() > until:
        raise TimeoutError('the browser takes no commands')

  def _read(self, seconds: float) -> None:
    readable, _, _ = select.select([self._reading], [], [], seconds)
    if not readable:
      return
    data = os.read(self._reading, 1 << 20)
    if not data:
      raise RuntimeError('the browser ended')
    *whole, self._buffer = (self._buffer + data).split(b'\0')
    for text in whole:
      row = json.loads(text)
      if 'id' in row:
        self._answers[row['id']] = row
        continue
      session = row.get('sessionId', '')
      self.events.append((row['method'], row['params'], session))
      if row['method'] == 'Page.javascriptDialogOpening':
        # Nothing else of the page goes on before it is answered.
        self._send('Page.handleJavaScriptDialog', session, {'accept': True})


class Page:
  """One page.

  `violations` and `dialogs` hold what the content policy blocked and what the
  page said in dialogs, which are accepted; `requests` the addresses that it
  asked for.
  """

  def __init__(self, browser: Browser, session: str, context: str):
    self._browser, self._session = browser, session
    self._context = context
    self._seen = 0
    self._loads = 0
    self.violations: list[str] = []
    self.errors: list[str] = []
    self.dialogs: list[str] = []
    self.requests: list[str] = []
    for domain in ('Page', 'Runtime', 'Network', 'Log', 'DOM'):
      self.call(f'{domain}.enable')

  def call(self, method: str, **params: Any) -> Any:
    """Returns what the browser answers to a command about this page."""
    found = self._browser.call(method, self._session, **params)
    self._take()
    return found

  def emulate(
    self, width: int = 1200, height: int = 800, *, mobile=False, scheme='light'
  ) -> None:
    """Sets the window (CSS pixels), and the colours that the user wants."""
    self.call(
      'Emulation.setDeviceMetricsOverride',
      width=width,
      height=height,
      deviceScaleFactor=1,
      mobile=mobile,
    )
    self.call(
      'Emulation.setEmulatedMedia',
      features=[{'name': 'prefers-color-scheme', 'value': scheme}],
    )

  def before_load(self, script: str) -> None:
    """Runs a script before those of any page loaded from now on."""
    self.call('Page.addScriptToEvaluateOnNewDocument', source=script)

  def open(self, path: pathlib.Path) -> None:
    """Loads a file."""
    self.go(path.as_uri())

  def go(self, url: str) -> None:
    """Loads an address."""
    self._loading(lambda: self.call('Page.navigate', url=url))

  @property
  def loads(self) -> int:
    """How many pages were loaded so far."""
    self._take()
    return self._loads

  def reload(self) -> None:
    self._loading(lambda: self.call('Page.reload'))

  def evaluate(self, expression: str) -> Any:
    """Returns the JSON value of an expression."""
    found = self.call(
      'Runtime.evaluate',
      expression=expression,
      returnByValue=True,
      awaitPromise=True,
    )
    if 'exceptionDetails' in found:
      details = found['exceptionDetails']
      thrown = details.get('exception', {}).get('description', '')
      raise RuntimeError(f'{expression}: {details["text"]} {thrown}')
    return found['result'].get('value')

  def wait(self, expression: str) -> Any:
    """Returns the value of an expression, once it is true."""
    until = time.monotonic() + DEADLINE_S
    while not (found := self.evaluate(expression)):
      if time.monotonic() > until:
        raise TimeoutError(f'{expression}: not true in {DEADLINE_S:.0f} s')
      time.sleep(0.02)
    return found

  def click(self, selector: str) -> None:
    """Clicks into the middle of the one visible element of a selector."""
    box = self.evaluate(f"""(() => {{
      const found = [...document.querySelectorAll({json.dumps(selector)})]
        .filter(element => element.checkVisibility());
      if (found.length !== 1) return found.length;
      const at = () => {{
        const box = found[0].getBoundingClientRect();
        return [box.x + box.width / 2, box.y + box.height / 2];
      }};
      const hit = () => document.elementFromPoint(...at());
      // Out of sight, or below something that sticks.
      if (!found[0].contains(hit()))
        found[0].scrollIntoView({{block: 'center', behavior: 'instant'}});
      return found[0].contains(hit()) ? at() : String(hit()?.outerHTML);
    }})()""")
    assert isinstance(box, list), f'{selector}: not to be clicked: {box}'
    for kind in ('mousePressed', 'mouseReleased'):
      self.call(
        'Input.dispatchMouseEvent',
        type=kind,
        x=box[0],
        y=box[1],
        button='left',
        clickCount=1,
      )

  def press(self, key: str) -> None:
    """Presses and releases a key: a letter, or a name as `ArrowRight`."""
    code, text = _KEYS.get(key, (ord(key[0].upper()), key))
    row = {'key': key, 'windowsVirtualKeyCode': code}
    self.call(
      'Input.dispatchKeyEvent',
      type='keyDown' if text else 'rawKeyDown',
      **row,
      **({'text': text} if text else {}),
    )
    self.call('Input.dispatchKeyEvent', type='keyUp', **row)

  def type(self, text: str) -> None:
    """Puts a text in where the cursor is."""
    self.call('Input.insertText', text=text)

  def choose_file(self, selector: str, path: pathlib.Path) -> None:
    """Gives a file to a file input."""
    root = self.call('DOM.getDocument')['root']['nodeId']
    node = self.call('DOM.querySelector', nodeId=root, selector=selector)
    self.call('DOM.setFileInputFiles', nodeId=node['nodeId'], files=[str(path)])

  def download(
    self, act: Callable[[], None], folder: pathlib.Path
  ) -> tuple[str, bytes]:
    """Returns (name, content) of the file that `act` makes the page give."""
    folder.mkdir(parents=True, exist_ok=True)
    self._browser.call(
      'Browser.setDownloadBehavior',
      behavior='allowAndName',
      browserContextId=self._context,
      downloadPath=str(folder),
      eventsEnabled=True,
    )
    start = len(self._browser.events)
    act()

    def done() -> dict[str, Any] | None:
      for method, params, _ in self._browser.events[start:]:
        if (
          method == 'Browser.downloadProgress'
          and params['state'] == 'completed'
        ):
          return params
      return None

    guid = self._browser.wait(done, 'download')['guid']
    [name] = [
      params['suggestedFilename']
      for method, params, _ in self._browser.events[start:]
      if method == 'Browser.downloadWillBegin' and params['guid'] == guid
    ]
    return name, (folder / guid).read_bytes()

  def screenshot(self, path: pathlib.Path) -> None:
    """Writes a PNG of what the window shows."""
    data = self.call('Page.captureScreenshot', format='png')['data']
    path.write_bytes(base64.b64decode(data))

  def _loading(self, act: Callable[[], Any]) -> None:
    want = self._loads + 1
    act()

    def loaded() -> bool:
      self._take()
      return self._loads >= want

    self._browser.wait(loaded, 'load')

  def _take(self) -> None:
    """Takes in the events of this page."""
    new = self._browser.events[self._seen :]
    self._seen += len(new)
    for method, params, session in new:
      if session != self._session:
        continue
      if method == 'Page.loadEventFired':
        self._loads += 1
      elif method == 'Network.requestWillBeSent':
        self.requests.append(params['request']['url'])
      elif method == 'Runtime.exceptionThrown':
        self.errors.append(str(params['exceptionDetails']))
      elif method == 'Log.entryAdded':
        entry = params['entry']
        if entry['level'] in ('error', 'warning'):
          kind = entry['source'] == 'security'
          (self.violations if kind else self.errors).append(entry['text'])
      elif method == 'Page.javascriptDialogOpening':
        self.dialogs.append(params['message'])
