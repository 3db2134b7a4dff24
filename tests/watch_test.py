"""The command that serves the report of a study that may still run."""

import signal
import sys

import served


def test_the_command_serves_a_study_that_has_not_begun(tmp_path):
  command = [
    sys.executable,
    'launch/report.py',
    '--watch',
    f'--workdir={tmp_path / "run"}',
    f'--config={served.ROOT / "tests" / "goldens" / "small_study.py"}',
  ]
  with served.started(command) as (process, url):
    assert 'this part has not run yet' in served.get(url)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0
  assert not (tmp_path / 'run').exists()
