import dataclasses

import pytest

from wcse_jax import errors, prices, runlog, storage
from wcse_jax.estimates import here, jobs, shares


KNOWN = here.Rates(
  chip='cpu',
  platform='cpu',
  devices=1,
  matrix=200e9,
  memory=30e9,
  free=10**10,
)


def _book(workdir, key, **fields):
  row = dict(
    stage='sample',
    model='gemma3-270m',
    chips=1,
    chip_seconds=10.0,
    prefill_tokens=0,
    decode_tokens=0,
    flops=10**12,
    usd=None,
  )
  runlog.book(str(workdir), key, row | fields)


def test_time_is_the_peak_times_a_share(sampling):
  job = sampling(slots=64, prefill_batch=8, spread=0.0)
  found = here.on_machine(job, known=KNOWN)
  share, _ = shares.of('cpu', 'decode', 'bfloat16', job.model.parameters())
  # Products decide here.
  steps = job.steps(64) * job.step_flops(64) / 200e9 / share
  assert steps < found.seconds < 1.2 * steps
  assert f'an assumed share of {share:.2f}' in found.how
  assert 'docs/results/sampling-cpu.md' in found.how
  assert (found.chips, found.usd) == (1, None)
  assert found.compile_seconds > 0
  assert found.notes == ()
  assert 0 < found.settings['share_of_peak'] < share


def test_memory_decides_where_it_is_slow(sampling):
  job = sampling(slots=8)
  slow = dataclasses.replace(KNOWN, memory=1e9)
  found = here.on_machine(job, known=slow)
  share, _ = shares.of('cpu', 'decode', 'bfloat16', job.model.parameters())
  # A CPU's cache is in float32.
  least = job.steps(8) * job.step_bytes(8, 4) / 1e9 / share
  assert least < found.seconds < 1.2 * least


def test_training_pays_for_padding(training):
  job = training(sft={'max_length': 256})
  longer = training(sft={'max_length': 512})
  one, two = (here.on_machine(j, known=KNOWN) for j in (job, longer))
  assert one.flops == two.flops
  # But for the head, which works on targets alone.
  assert 1.3 < two.seconds / one.seconds < 2.1
  share, _ = shares.of('cpu', 'train', 'float32', job.model.parameters())
  assert one.seconds == pytest.approx(80 * job.row_flops() / 200e9 / share)


def test_earlier_rows_come_first(sampling, tmp_path):
  job = sampling()
  _book(tmp_path, 'sample-a', flops=3 * 10**12)
  _book(tmp_path, 'evaluate-a', stage='evaluate')
  _book(tmp_path, 'train-a', stage='train', flops=10**15)
  _book(tmp_path, 'sample-b', model='another', flops=10**15)
  found = here.on_machine(job, workdir=str(tmp_path), known=KNOWN)
  assert found.seconds == pytest.approx(job.flops() * 20 / (4 * 10**12))
  assert found.how == f'measured on this machine in {tmp_path}'


def test_several_devices_share_the_work(sampling, tmp_path):
  job = sampling()
  _book(tmp_path, 'sample-a', chips=4)
  four = dataclasses.replace(KNOWN, chip='h100', devices=4)
  found = here.on_machine(job, workdir=str(tmp_path), known=four)
  assert found.chip_seconds == pytest.approx(job.flops() / 1e11)
  assert found.seconds == pytest.approx(found.chip_seconds / 4)
  assert found.usd == pytest.approx(prices.usd('h100', found.chip_seconds))


def test_rows_of_a_training_are_known_by_its_keys(training, tmp_path):
  _book(tmp_path, 'train-a', stage='train', model='student-wc-r0')
  alone = here.on_machine(training(), workdir=str(tmp_path), known=KNOWN)
  assert 'assumed' in alone.how
  job = training(keys=('student-wc-r0',))
  found = here.on_machine(job, workdir=str(tmp_path), known=KNOWN)
  assert found.seconds == pytest.approx(job.flops() / 1e11)


def test_a_blink_says_nothing(sampling, tmp_path):
  _book(tmp_path, 'sample-a', chip_seconds=0.2)
  found = here.on_machine(sampling(), workdir=str(tmp_path), known=KNOWN)
  assert 'assumed' in found.how


def test_no_ledger_is_no_fault(sampling, tmp_path):
  found = here.on_machine(sampling(), workdir=str(tmp_path), known=KNOWN)
  assert 'assumed' in found.how


def test_a_row_that_is_none_is_refused(sampling, tmp_path):
  path = storage.join(str(tmp_path), 'ledger', 'sample-a.json')
  storage.publish_json(path, {'stage': 'sample'})
  with pytest.raises(errors.InputError, match='wanted a row of the ledger'):
    here.on_machine(sampling(), workdir=str(tmp_path), known=KNOWN)


def test_what_does_not_fit_is_said(sampling, training):
  little = dataclasses.replace(KNOWN, free=10**9)
  for job in (sampling('gemma2-2b'), training('gemma2-2b')):
    (note,) = here.on_machine(job, known=little).notes
    assert note.startswith('does not fit: ')
    assert '1 GB are free' in note
  # A mesh divides what it says.
  eight = dataclasses.replace(KNOWN, devices=8, free=6 * 10**9)
  whole = training('gemma2-2b', sft={'mesh': 'data=8'})
  parts = training('gemma2-2b', sft={'mesh': 'data=1,fsdp=8'})
  assert here.on_machine(whole, known=eight).notes
  assert not here.on_machine(parts, known=eight).notes
  assert here.on_machine(sampling('gemma2-9b'), known=eight).notes
  split = sampling('gemma2-9b', mesh='tensor=8')
  assert not here.on_machine(split, known=eight).notes
  nobody = dataclasses.replace(KNOWN, free=None)
  assert here.on_machine(sampling('gemma2-2b'), known=nobody).notes == ()


def test_this_machine_is_measured(sampling, monkeypatch):
  from wcse_jax import machine

  monkeypatch.setattr(machine, 'matrix_rate', lambda dtype: 1e11)
  monkeypatch.setattr(machine, 'memory_rate', lambda: 2e10)
  found = here.rates('float32')
  assert (found.chip, found.platform, found.devices) == ('cpu', 'cpu', 8)
  assert (found.matrix, found.memory) == (8e11, 1.6e11)
  assert here.on_machine(sampling()).chips == 8


def test_grading_needs_no_machine():
  job = jobs.Grading(
    stage='grade', name='math', samples=100, cpu_seconds=0.1, cores=2
  )
  assert here.on_machine(job).seconds == 5.0
