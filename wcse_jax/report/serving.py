"""A server of the report's files, for this machine alone.

It listens on the loopback address, answers to no other host name, and gives out
nothing but files of the kinds that a report has, below its folders.
"""

import http.server
import os
import re
import socketserver
import threading
from collections.abc import Mapping
from typing import Any

from wcse_jax import errors, storage
from wcse_jax.report import live


HOST = '127.0.0.1'
_NAMES = (HOST, 'localhost')
_KINDS = {
  'html': 'text/html; charset=utf-8',
  'svg': 'image/svg+xml',
  'csv': 'text/csv; charset=utf-8',
  'md': 'text/markdown; charset=utf-8',
}
# Nothing is decoded: what is encoded in a path is in no name of a report.
_PATH = re.compile(rf'/((?:[\w-]+/)*)([\w-]+\.({"|".join(_KINDS)}))', re.ASCII)
_HEADERS = {
  'Cache-Control': 'no-store',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Referrer-Policy': 'no-referrer',
  'X-Content-Type-Options': 'nosniff',
  'X-Frame-Options': 'SAMEORIGIN',
}
# A chart alone needs its own style and nothing else.
_CHART = "default-src 'none'; style-src 'unsafe-inline'; sandbox"


class Server:
  """Serves folders until it is closed; a context.

  Attributes:
    url: where it begins.
    version: what it tells of the page.
  """

  def __init__(self, folders: Mapping[str, str], *, port: int = 0):
    """Starts to serve.

    Args:
      folders: beginning of a path, as `samples/` -> the folder that it is of;
        the longest that fits is taken.
      port: 0 for any that is free.

    Raises:
      InputError: if the port cannot be had.
    """
    self.version = ''
    self._folders = dict(folders)
    try:
      self._server = _Listener((HOST, port), _Handler)
    except OSError as error:
      raise errors.InputError(
        f'port: wanted a free port of this machine; got {port}: '
        f'{error.strerror}.'
      ) from None
    self._server.owner = self
    self.port = self._server.server_port
    self.url = f'http://{HOST}:{self.port}/'
    self._thread = threading.Thread(
      target=self._server.serve_forever, args=(0.05,), daemon=True
    )
    self._thread.start()

  def __enter__(self) -> 'Server':
    return self

  def __exit__(self, *exception: object) -> None:
    self._server.shutdown()
    self._thread.join()
    self._server.server_close()

  def find(self, target: str) -> tuple[bytes, str] | None:
    """Returns content and type of a path; None where it is no file to give."""
    path = target.partition('?')[0]
    if path == f'/{live.PATH}':
      return self.version.encode(), 'text/plain; charset=utf-8'
    match = _PATH.fullmatch('/index.html' if path == '/' else path)
    if match is None:
      return None
    inside = match[0][1:]
    start = max(
      (start for start in self._folders if inside.startswith(start)),
      key=len,
      default=None,
    )
    if start is None:
      return None
    folder = self._folders[start]
    file = storage.join(folder, inside.removeprefix(start))
    if '://' not in folder:
      # A link may lead out of the folder.
      root = os.path.realpath(folder)
      if os.path.commonpath([root, os.path.realpath(file)]) != root:
        return None
    try:
      return storage.read_bytes(file), _KINDS[match[3]]
    except (errors.InputError, OSError):
      return None

  def knows(self, host: str) -> bool:
    """Returns whether a request is for this server by a name of its own."""
    name, _, port = host.rpartition(':')
    return name in _NAMES and port == str(self.port)


class _Listener(http.server.ThreadingHTTPServer):
  daemon_threads = True
  owner: Server

  def server_bind(self) -> None:
    # Without the look-up of a name, which may wait for a network.
    socketserver.TCPServer.server_bind(self)
    self.server_name, self.server_port = self.server_address[:2]

  def handle_error(self, *_: Any) -> None:
    """A connection that the other side reset is no event."""


class _Handler(http.server.BaseHTTPRequestHandler):
  server: _Listener
  # Seconds that a connection may be silent for.
  timeout = 30

  def do_GET(self) -> None:
    owner = self.server.owner
    hosts = self.headers.get_all('Host') or []
    # A page of elsewhere could have its own name lead to this address.
    if len(hosts) != 1 or not owner.knows(hosts[0].strip()):
      self._answer(403, b'Not a name of this server.\n')
      return
    found = owner.find(self.path)
    if found is None:
      self._answer(404, b'No such page.\n')
      return
    self._answer(200, *found)

  do_HEAD = do_GET

  def _answer(
    self, status: int, content: bytes, kind: str = 'text/plain'
  ) -> None:
    self.send_response(status)
    self.send_header('Content-Type', kind)
    self.send_header('Content-Length', str(len(content)))
    for name, value in _HEADERS.items():
      self.send_header(name, value)
    if kind == _KINDS['svg']:
      self.send_header('Content-Security-Policy', _CHART)
    self.end_headers()
    if self.command != 'HEAD':
      self.wfile.write(content)

  def version_string(self) -> str:
    return 'report'

  def log_message(self, *_: Any) -> None:
    """What is asked for is not told."""
