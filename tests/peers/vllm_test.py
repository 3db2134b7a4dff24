"""The peer vllm, before an engine that only notes what it is asked."""

import importlib
import importlib.machinery
import importlib.util
import os
import sys
import types

import pytest

from wcse_jax import checkpoints, errors, peers
from wcse_jax.peers import base, measure


pytestmark = pytest.mark.skipif(
  importlib.util.find_spec('torch') is None, reason='wants the extra parity'
)

_TASK = base.Task(
  prompts=((5, 6, 7), (5, 8)),
  prefix=(5,),
  samples=3,
  new_tokens=4,
  temperature=0.7,
  top_k=3,
  seed=1,
)


class _Llm:
  """Draws the token 9; `calls` has what was asked, in order."""

  emptied = True
  short = 0

  def __init__(self, **settings):
    self.settings = settings
    self.calls = []
    core = types.SimpleNamespace(shutdown=lambda: self.calls.append('shutdown'))
    self.llm_engine = types.SimpleNamespace(engine_core=core)

  def reset_prefix_cache(self):
    self.calls.append('reset')
    return self.emptied

  def generate(self, prompts, params, *, use_tqdm):
    self.calls.append((prompts, params))
    assert not use_tqdm
    tokens = [9] * (params['max_tokens'] - self.short)
    sample = types.SimpleNamespace(token_ids=tokens)
    row = types.SimpleNamespace(outputs=[sample] * params['n'])
    return [row] * len(prompts)


@pytest.fixture
def fake(monkeypatch):
  """Stands for vllm; its attribute `cleaned` counts clean-ups."""
  module = types.ModuleType('vllm')
  module.__spec__ = importlib.machinery.ModuleSpec('vllm', None)
  module.__version__ = '0.1'
  module.LLM = type('LLM', (_Llm,), {})
  module.SamplingParams = dict
  module.cleaned = 0

  def clean():
    module.cleaned += 1

  module.distributed = types.SimpleNamespace(cleanup_dist_env_and_memory=clean)
  monkeypatch.setitem(sys.modules, 'vllm', module)
  # Set and undone, as the peer sets it.
  monkeypatch.setenv('VLLM_WORKER_MULTIPROC_METHOD', 'fork')
  monkeypatch.delenv('VLLM_WORKER_MULTIPROC_METHOD')
  # Imported anew, by whoever asks next as well.
  monkeypatch.setattr(peers, 'vllm', None, raising=False)
  monkeypatch.delattr(peers, 'vllm')
  monkeypatch.setitem(sys.modules, 'wcse_jax.peers.vllm', None)
  monkeypatch.delitem(sys.modules, 'wcse_jax.peers.vllm')
  return module


def _peer(**settings):
  module = importlib.import_module('wcse_jax.peers.vllm')
  return module.Vllm('FOLDER', 'bfloat16', sequences=64, **settings)


def test_the_engine_shares_prefixes_and_starts_without_a_fork(
  fake, monkeypatch
):
  peer = _peer()
  assert peer._llm.settings == {
    'model': 'FOLDER',
    'dtype': 'bfloat16',
    'load_format': 'auto',
    'skip_tokenizer_init': True,
    'enable_prefix_caching': True,
    'max_num_seqs': 64,
    'gpu_memory_utilization': 0.85,
  }
  assert os.environ['VLLM_WORKER_MULTIPROC_METHOD'] == 'spawn'
  assert peer.version.startswith('vllm 0.1, torch ')
  assert _peer(random=True)._llm.settings['load_format'] == 'dummy'
  # Whoever chose otherwise is obeyed.
  monkeypatch.setenv('VLLM_WORKER_MULTIPROC_METHOD', 'forkserver')
  _peer()
  assert os.environ['VLLM_WORKER_MULTIPROC_METHOD'] == 'forkserver'


def test_every_run_is_asked_all_at_once_and_starts_without_a_cache(fake):
  peer = _peer()
  run = peer.run(_TASK, 1, 'default')
  assert run.drawn == [[9] * 4] * 6
  assert run.first > 0
  assert run.seconds > 0
  assert run.step == max(run.seconds - run.first, 0) / 3
  prompts = [{'prompt_token_ids': [5, 6, 7]}, {'prompt_token_ids': [5, 8]}]
  asked = {
    'n': 3,
    'temperature': 0.7,
    'top_k': 3,
    'ignore_eos': True,
    'detokenize': False,
  }
  assert peer._llm.calls == [
    'reset',
    (prompts, {**asked, 'max_tokens': 1}),
    'reset',
    (prompts, {**asked, 'max_tokens': 4}),
  ]


def test_fewer_tokens_or_a_cache_that_stays_end_the_run(fake):
  peer = _peer()
  fake.LLM.short = 1
  with pytest.raises(RuntimeError, match=r'6 samples of 1 tokens; got 6 of'):
    peer.run(_TASK, 2, 'default')
  fake.LLM.emptied = False
  with pytest.raises(RuntimeError, match='could not be emptied'):
    peer.run(_TASK, 2, 'default')


def test_the_work_is_done_and_the_engine_given_back(fake, monkeypatch):
  made = []

  class Noted(fake.LLM):
    def __init__(self, **settings):
      super().__init__(**settings)
      made.append(self)

  fake.LLM = Noted
  config = measure.PeersConfig(
    checkpoint='tiny-wc',
    split='test',
    limit=3,
    samples_per_problem=2,
    peers='vllm',
    dtypes='bfloat16',
    random_weights=True,
    repeats=2,
    vllm_sequences=16,
  )
  config.sampler.max_new_tokens = 5
  found = measure.measure(config)
  (result,) = found['results']
  assert (result['peer'], result['batch']) == ('vllm', 3)
  assert result['tokens'] == 3 * 2 * 5
  (engine,) = made
  assert engine.settings['model'] == checkpoints.resolve('tiny-wc')
  assert engine.settings['load_format'] == 'dummy'
  assert engine.settings['max_num_seqs'] == 16
  lengths = [c[1]['max_tokens'] for c in engine.calls if isinstance(c, tuple)]
  # To warm up, the search, and two repeats: each after a run of one token.
  assert lengths == [1, 3, 1, 9, 1, 5, 1, 5]
  assert engine.calls[-1] == 'shutdown'
  assert fake.cleaned == 1


def test_a_folder_without_a_config_is_refused(fake, tmp_path):
  config = measure.PeersConfig(checkpoint=str(tmp_path), peers='vllm')
  with pytest.raises(errors.InputError) as caught:
    measure._open(config, 'vllm', 'bfloat16')
  assert str(caught.value).startswith(
    'checkpoint: wanted a Hugging Face folder for vllm; got '
  )
