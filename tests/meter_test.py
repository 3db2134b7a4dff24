import io
import os
import re
import shutil
import time

import pytest

from wcse_jax import meter


def test_progress_line():
  progress = meter.Progress('a', 4096, 'samples', io.StringIO())
  assert progress.line(0.0) == 'a  0/4096 samples'
  progress.update(512, budget='12%', loss=0.123456)
  assert progress.line(8.0) == (
    'a  512/4096 samples  64/s  budget 12%  loss 0.1235  time left 0:56'
  )
  progress.update(512)
  assert progress.line(1024.0).endswith('  0.5/s  time left 1:59:28')
  progress.update(4096)
  assert progress.line(10.0).endswith('  410/s  time left 0:00')


def test_progress_of_a_resumed_run_rates_its_own_work():
  progress = meter.Progress('a', 100, 'x', io.StringIO(), start=90)
  assert progress.line(5.0) == 'a  90/100 x'
  progress.update(95)
  assert progress.line(5.0) == 'a  95/100 x  1/s  time left 0:05'


def test_progress_without_a_total():
  progress = meter.Progress('a', 0, 'x', io.StringIO())
  progress.update(10)
  assert progress.line(5.0) == 'a  10 x  2/s'


def test_progress_in_a_log_is_rare_plain_lines():
  stream = io.StringIO()
  with meter.Progress('a', 1000, 'x', stream) as progress:
    for done in range(1001):
      progress.update(done)
  progress.close()
  assert re.fullmatch(
    r'a  1000/1000 x  \d+/s  time left 0:00\n', stream.getvalue()
  )


@pytest.mark.parametrize('done', [2, 3])
def test_an_error_before_any_progress_stands_alone(done):
  stream = io.StringIO()
  progress = meter.Progress('a', 9, 'x', stream, start=2)
  progress.update(done)
  progress.__exit__(KeyError, KeyError(), None)
  assert bool(stream.getvalue()) == (done > 2)


def test_progress_on_a_terminal_redraws_one_line_five_times_a_second():
  reader, writer = os.openpty()
  begin = time.monotonic()
  with os.fdopen(writer, 'w') as terminal:
    with meter.Progress('a' * 500, 100, 'x', terminal) as progress:
      while time.monotonic() - begin < 0.5:
        progress.update(1)
    shown = ''
    while '\n' not in shown:
      shown += os.read(reader, 1 << 16).decode()
  os.close(reader)
  frames = shown.split('\r')[1:]
  assert frames.pop() == '\n'  # The terminal's own line end is \r\n.
  assert 3 <= len(frames) <= 5
  assert shown.count('\n') == 1
  width = shutil.get_terminal_size().columns
  assert {len(frame.removesuffix('\x1b[K')) for frame in frames} == {width - 1}


def test_progress_goes_to_standard_error(capsys):
  meter.Progress('a', 1, 'x').close()
  assert capsys.readouterr() == ('', 'a  0/1 x\n')


def test_stages_stand_at_both_ends_of_every_line():
  stages = meter.Stages('study', {'a': 10.0, 'b': 30.0, 'c': 60.0})
  stream = io.StringIO()
  with stages.stage('a'), meter.Progress('one', 4, 'steps', stream) as progress:
    progress.update(2)
    assert progress.line(1.0).startswith('[1/3]  one  2/4 steps')
    assert progress.line(1.0).endswith('left')
  stages.skip('b')
  with stages.stage('c'):
    assert stages.number() == '[3/3]'
    half = stages.left(0.5)
    assert half.startswith('study ')
    assert stages.left(1.0) == 'study 0:00 left'
  assert '[' not in meter.Progress('two', 1, 'x', stream).line(1.0)


def test_a_stage_that_fails_does_not_count_as_done():
  stages = meter.Stages('study', {'a': 1.0, 'b': 1.0})
  with pytest.raises(KeyError), stages.stage('a'):
    raise KeyError
  with stages.stage('a'):
    assert stages.left(0.0) == ''
