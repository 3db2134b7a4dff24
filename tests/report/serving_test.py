"""The server of the report: its files, to this machine, and nothing else."""

import contextlib
import http.client
import socket

import pytest

from wcse_jax import errors
from wcse_jax.report import serving


@pytest.fixture
def server(tmp_path):
  pages, samples = tmp_path / 'pages', tmp_path / 'run' / 'samples'
  for folder in (pages / 'figures', samples / 'pages'):
    folder.mkdir(parents=True)
  (pages / 'index.html').write_text('<p>é</p>', encoding='utf-8')
  (pages / 'summary.md').write_text('# s')
  (pages / 'figures' / 'a-b.svg').write_text('<svg/>')
  (pages / 'figures' / 'a-b.csv').write_text('"a"\r\n', newline='')
  (pages / 'secret.json').write_text('{}')
  (samples / 'index.html').write_text('samples')
  (samples / 'pages' / '000001.html').write_text('one')
  (tmp_path / 'run' / 'other.html').write_text('outside')
  (tmp_path / 'outside.html').write_text('outside')
  (pages / 'link.html').symlink_to(tmp_path / 'outside.html')
  folders = {'': str(pages), 'samples/': str(samples)}
  with serving.Server(folders) as found:
    found.version = 'v1'
    yield found


def _ask(server, path, *, host=None, method='GET'):
  """Returns (status, headers, body); the path goes out as it is."""
  connection = http.client.HTTPConnection(serving.HOST, server.port, timeout=10)
  with contextlib.closing(connection):
    connection.putrequest(method, path, skip_host=True)
    if host is None:
      host = f'127.0.0.1:{server.port}'
    for one in [host] if isinstance(host, str) else host:
      connection.putheader('Host', one)
    connection.endheaders()
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read()


@pytest.mark.parametrize(
  ('path', 'kind', 'body'),
  [
    ('/', 'text/html; charset=utf-8', '<p>é</p>'.encode()),
    ('/index.html?x=1', 'text/html; charset=utf-8', '<p>é</p>'.encode()),
    ('/summary.md', 'text/markdown; charset=utf-8', b'# s'),
    ('/figures/a-b.svg', 'image/svg+xml', b'<svg/>'),
    ('/figures/a-b.csv', 'text/csv; charset=utf-8', b'"a"\r\n'),
    ('/samples/index.html', 'text/html; charset=utf-8', b'samples'),
    ('/samples/pages/000001.html', 'text/html; charset=utf-8', b'one'),
    ('/version', 'text/plain; charset=utf-8', b'v1'),
  ],
)
def test_files_are_given_with_their_types(server, path, kind, body):
  status, headers, found = _ask(server, path)
  assert (status, headers['Content-Type'], found) == (200, kind, body)
  assert headers['X-Content-Type-Options'] == 'nosniff'
  assert headers['Cache-Control'] == 'no-store'
  assert headers['Access-Control-Allow-Origin'] is None
  assert int(headers['Content-Length']) == len(body)
  assert _ask(server, path, method='HEAD')[2] == b''


def test_a_chart_alone_may_run_nothing(server):
  _, headers, _ = _ask(server, '/figures/a-b.svg')
  assert headers['Content-Security-Policy'] == (
    "default-src 'none'; style-src 'unsafe-inline'; sandbox"
  )


@pytest.mark.parametrize(
  'path',
  [
    '/../outside.html',
    '/figures/../../outside.html',
    '/%2e%2e/outside.html',
    '/..%2foutside.html',
    '/%2e%2e%2foutside.html',
    '/%252e%252e%252foutside.html',
    '/..\\outside.html',
    '/..%5coutside.html',
    '/samples/../other.html',
    '/samples/%2e%2e/other.html',
    '//outside.html',
    '/./index.html',
    '/index.html%00.svg',
    '/index.html/',
    '/figures/',
    '/figures',
    '/samples',
    '/secret.json',
    '/link.html',
    '/no-such-page.html',
    '/.lock',
    '/index.htm',
    '/INDEX.HTML',
    '/%69ndex.html',
    '/a' + 'a' * 300 + '.html',
    'index.html',
    'http://127.0.0.1/index.html',
    '/versions',
    '/%c4%b1ndex.html',
  ],
)
def test_nothing_else_is_given(server, path):
  status, _, body = _ask(server, path)
  assert status == 404
  assert b'outside' not in body


@pytest.mark.parametrize(
  'host',
  [
    'example.org',
    'example.org:{port}',
    '127.0.0.1',
    '127.0.0.1:1',
    '127.0.0.1:{port}.example.org',
    'localhost.example.org:{port}',
    '127.0.0.1:{port}@example.org',
    '',
    [],
    ['127.0.0.1:{port}', 'example.org'],
  ],
)
def test_other_names_are_refused(server, host):
  if isinstance(host, str):
    host = host.format(port=server.port)
  else:
    host = [one.format(port=server.port) for one in host]
  for path in ('/', '/version', '/no-such-page.html'):
    status, _, body = _ask(server, path, host=host)
    assert status in (400, 403)
    assert b'v1' not in body


def test_its_own_names_are_known(server):
  for name in ('127.0.0.1', 'localhost'):
    assert _ask(server, '/', host=f'{name}:{server.port}')[0] == 200


@pytest.mark.parametrize('method', ['POST', 'PUT', 'DELETE', 'OPTIONS'])
def test_nothing_can_be_sent(server, method):
  assert _ask(server, '/', method=method)[0] == 501


def test_it_listens_to_this_machine_alone(server):
  assert server._server.socket.getsockname() == ('127.0.0.1', server.port)


def test_a_taken_port_is_told(server, tmp_path):
  with pytest.raises(
    errors.InputError, match='port: wanted a free port'
  ) as told:
    serving.Server({}, port=server.port)
  assert '\n' not in str(told.value)


def test_its_port_is_free_again_when_it_ends(tmp_path):
  with serving.Server({'': str(tmp_path)}) as first:
    # One who asks and says nothing does not keep it from ending.
    silent = socket.create_connection((serving.HOST, first.port))
  with contextlib.closing(silent):
    serving.Server({}, port=first.port).__exit__()
