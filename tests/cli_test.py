"""Bad input: exit status 2, one line, nothing in the run folder changed."""

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

import pytest


ROOT = pathlib.Path(__file__).parents[1]
EMBEDDED = ROOT / 'wcse_jax' / 'embedded'


def launch(script, *arguments):
  return subprocess.run(
    [sys.executable, str(ROOT / 'launch' / f'{script}.py'), *arguments],
    capture_output=True,
    text=True,
    cwd=ROOT,
    # The machine's own device, not the eight of these tests.
    env=os.environ | {'XLA_FLAGS': ''},
    check=False,
  )


def refused(done, *wanted):
  """Asserts status 2 and one line that holds each of `wanted`."""
  assert done.returncode == 2, done.stderr
  lines = [
    line
    for line in done.stderr.splitlines()
    # What absl and jax log while they start is not the command's answer.
    if line and not line.startswith(('I', 'W0', 'W1'))
  ]
  assert len(lines) == 1, done.stderr
  for text in wanted:
    assert text in lines[0]


def tree(folder):
  """Returns the names and contents under a folder."""
  return {
    str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
    for path in sorted(folder.rglob('*'))
    if path.is_file()
  }


SAMPLE = (
  '--config.limit=2',
  '--config.sampler.slots=4',
  '--config.sampler.max_new_tokens=4',
  '--config.mesh=data=1',
)


@pytest.mark.parametrize(
  ('script', 'arguments', 'wanted'),
  [
    ('sample', ['--config.checkpoint=tiny-xx'], ['tiny-wc', "'tiny-xx'"]),
    ('sample', ['--config.task=arit'], ['arith, gsm8k', "'arit'"]),
    ('sample', ['--config.sampler.top_q=3'], ['top_q', 'top_k']),
    ('sample', ['--config.sampler.top_k=x'], ['top_k', 'x']),
    ('sample', ['--config.sampler.top_p=1.5'], ['sampler.top_p', '1.5']),
    (
      'sample',
      ['--config.split=dev'],
      ['train, test, hard, validation', "'dev'"],
    ),
    ('sample', ['--config.mesh=data=3'], ['3 devices']),
    ('sample', ['stray'], ["'stray'"]),
    ('sample', ['--processes=2'], ['--coordinator', 'none of them']),
    ('sample', ['--config=configs/none.py'], ['none.py']),
    ('sample', ['--config.task=gsm8k', '--config.data=/no/such'], ['/no/such']),
    ('sample', ['--config.model=m'], ["'m'", 'server']),
    ('grade', [], ['samples']),
    ('study', ['--config.setups.student.model=nobody'], ["'nobody'", 'wc, se']),
    ('study', ['--config.models.nobody.cost=3'], ["'nobody'", '--config']),
    ('study', ['--stages=dance'], ["'dance'", 'sample-wc']),
    ('sft', ['--config.train=none.jsonl'], ['checkpoint']),
    ('score', ['--input=none.jsonl', '--output=x.npz'], ['none.jsonl']),
    ('convert', ['--source=none', '--target=x'], ["'none'"]),
  ],
)
def test_bad_arguments(tmp_path, script, arguments, wanted):
  workdir = tmp_path / 'run'
  refused(launch(script, f'--workdir={workdir}', *arguments), *wanted)
  assert not workdir.exists()


def test_a_server_that_is_not_there(tmp_path):
  done = launch(
    'sample',
    f'--workdir={tmp_path}',
    '--config.server=http://localhost:1/v1',
    '--config.model=m',
    '--config.retries=0',
  )
  refused(done, "completion of 'm'", 'localhost:1', 'Connection error')
  assert not (tmp_path / 'samples').exists()


def test_what_waits_on_a_server_is_done_by_one_process(tmp_path):
  """The others end at once, and wait for nobody."""
  done = launch(
    'sample',
    f'--workdir={tmp_path}',
    '--config.server=http://localhost:1/v1',
    '--config.model=m',
    *('--coordinator=localhost:1', '--processes=2', '--process=1'),
  )
  assert done.returncode == 0
  assert (done.stdout, done.stderr) == ('', '')


def test_no_workdir():
  refused(launch('sample'), '--workdir')


def test_bad_checkpoints_change_nothing(tmp_path):
  """Another fingerprint, flipped and truncated weights, another tokenizer."""
  workdir = tmp_path / 'run'
  model = tmp_path / 'tiny-wc'
  shutil.copytree(EMBEDDED / 'tiny-wc', model)
  arguments = (f'--workdir={workdir}', f'--config.checkpoint={model}', *SAMPLE)
  assert launch('sample', *arguments).returncode == 0
  before = tree(workdir)

  refused(launch('sample', *arguments, '--config.seed=7'), 'seed', '7')
  assert tree(workdir) == before

  weights = model / 'model.safetensors'
  whole = weights.read_bytes()
  flipped = bytearray(whole)
  flipped[-100] ^= 1
  weights.write_bytes(flipped)
  other = (*arguments, '--config.samples_per_problem=2')
  refused(launch('sample', *other), 'model.safetensors')
  assert tree(workdir) == before

  (model / 'manifest.json').unlink()
  weights.write_bytes(whole[:-100])
  fresh = tmp_path / 'fresh'
  truncated = launch('sample', f'--workdir={fresh}', *arguments[1:])
  refused(truncated, 'model.safetensors', 'whole')
  assert not fresh.exists()

  weights.write_bytes(whole)
  config = model / 'config.json'
  config.write_text(config.read_text().replace('352', '320'))
  refused(launch('sample', f'--workdir={fresh}', *arguments[1:]), '320')
  assert not fresh.exists()


_BLOCKED = """
import hashlib, sys
from wcse_jax import cli

cli._GRACE_S = 1


def run(config, workdir):
  print('begun', flush=True)
  # One step of Python that takes a minute.
  hashlib.pbkdf2_hmac('sha256', b'a', b'b', 200_000_000)
  print('ended', flush=True)


cli.main(run, sys.argv.pop(), needs_workdir=False)
"""


def test_a_stop_is_obeyed_whatever_the_process_is_at():
  config = str(ROOT / 'configs' / 'sample.py')
  with subprocess.Popen(
    [sys.executable, '-c', _BLOCKED, config],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    env=os.environ | {'XLA_FLAGS': ''},
  ) as child:
    assert child.stdout.readline() == 'begun\n'
    child.terminate()
    out, err = child.communicate(timeout=300)
  assert child.returncode == 75, err
  assert out == ''
  assert err.splitlines()[-1] == 'stopped: SIGTERM; run it again to go on.'
