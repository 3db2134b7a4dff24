"""Checkpoints of the hub, against a local stand-in of it."""

import hashlib
import http.server
import json
import os
import pathlib
import subprocess
import sys
import threading

import pytest

from wcse_jax import checkpoints, errors


_NAME, _COMMIT = 'someone/tiny', 'a' * 40
_SCRIPT = """
import sys
from wcse_jax import checkpoints, errors
try:
  path = checkpoints.resolve(sys.argv[1])
except errors.InputError as error:
  print('refused:', error)
else:
  print(path)
"""


@pytest.fixture(scope='module')
def hub(tmp_path_factory):
  """The address of a hub that has one model, tiny-wc."""
  files = {
    path.name: path.read_bytes()
    for path in pathlib.Path(checkpoints.resolve('tiny-wc')).iterdir()
  }
  files['modeling_tiny.py'] = b'raise SystemExit("code was fetched")'
  files['pytorch_model.bin'] = b'\x80\x04.'

  class Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
      self._answer(body=False)

    def do_GET(self):
      self._answer(body=True)

    def log_message(self, *_):
      pass

    def _answer(self, body):
      api = f'/api/models/{_NAME}/revision/'
      parts = self.path.partition(f'/{_NAME}/resolve/{_COMMIT}/')
      if self.path.split('?')[0] in (f'{api}v1', f'{api}{_COMMIT}'):
        siblings = [{'rfilename': name} for name in files]
        data = json.dumps(
          {'id': _NAME, 'sha': _COMMIT, 'siblings': siblings, 'private': False}
        ).encode()
        headers = {'Content-Type': 'application/json'}
      elif self.path.startswith(f'/api/models/{_NAME}/tree/{_COMMIT}'):
        rows = [
          {
            'type': 'file',
            'path': name,
            'size': len(data),
            'oid': hashlib.sha1(data).hexdigest(),
          }
          for name, data in files.items()
        ]
        data = json.dumps(rows).encode()
        headers = {'Content-Type': 'application/json'}
      elif parts[2] in files:
        data = files[parts[2]]
        headers = {
          'ETag': f'"{hashlib.sha1(data).hexdigest()}"',
          'X-Repo-Commit': _COMMIT,
        }
      else:
        self.send_response(404)
        self.send_header('X-Error-Code', 'RevisionNotFound')
        self.send_header('Content-Length', '0')
        self.end_headers()
        return
      self.send_response(200)
      for key, value in headers.items():
        self.send_header(key, value)
      self.send_header('Content-Length', str(len(data)))
      self.end_headers()
      if body:
        self.wfile.write(data)

  server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
  threading.Thread(target=server.serve_forever, daemon=True).start()
  yield f'http://127.0.0.1:{server.server_port}'
  server.shutdown()
  server.server_close()


def _resolve(checkpoint, endpoint, home):
  done = subprocess.run(
    [sys.executable, '-c', _SCRIPT, checkpoint],
    env={
      **os.environ,
      'HF_ENDPOINT': endpoint,
      'HF_HOME': str(home),
      'HF_HUB_DISABLE_XET': '1',
      'HF_HUB_DOWNLOAD_TIMEOUT': '5',
    },
    capture_output=True,
    text=True,
    timeout=60,
    check=True,
  )
  return done.stdout.strip().splitlines()[-1]


def test_a_model_of_the_hub_is_fetched_without_its_code(hub, tmp_path):
  folder = _resolve(f'{_NAME}@v1', hub, tmp_path)
  assert pathlib.Path(folder).parts[-2:] == ('snapshots', _COMMIT)
  names = {path.name for path in pathlib.Path(folder).iterdir()}
  assert {'config.json', 'model.safetensors', 'tokenizer.json'} <= names
  assert not {'modeling_tiny.py', 'pytorch_model.bin'} & names
  model, _ = checkpoints.load(folder)
  want, _ = checkpoints.load('tiny-wc')
  assert model.config == want.config


def test_an_unknown_revision_is_one_line(hub, tmp_path):
  line = _resolve(f'{_NAME}@v2', hub, tmp_path)
  wanted = f'refused: checkpoint: {_NAME}@v2 could not be had from the hub: '
  assert line.startswith(wanted)


def test_a_name_without_revision_is_not_asked_for():
  with pytest.raises(errors.InputError, match='NAME@REVISION of the hub'):
    checkpoints.resolve(_NAME)
