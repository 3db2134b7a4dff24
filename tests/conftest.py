"""Eight virtual CPU devices, strict shapes, and small checkpoints to load.

The environment is set before anything imports jax; processes that tests start
inherit it.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import browser
import families
import ml_dtypes
import numpy as np
import pytest
import references

from wcse_jax import records


os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['JAX_NUMPY_RANK_PROMOTION'] = 'raise'
os.environ['XLA_FLAGS'] = '--xla_force_host_platform_device_count=8'


@pytest.fixture(scope='module', autouse=True)
def _forget_programs() -> Iterator[None]:
  """Lets the programs of a module go: thousands of them end the process.

  Each holds some seven memory maps, of which Linux lets a process have 65,530.
  """
  yield
  if 'jax' in sys.modules:
    from wcse_jax.sampler import device

    device.forget_programs()


@pytest.fixture(scope='session')
def chromium(tmp_path_factory):
  """Returns a browser without a screen."""
  with browser.chromium(tmp_path_factory.mktemp('chromium')) as found:
    yield found


@pytest.fixture(scope='session')
def hf_rows() -> dict[str, dict[str, Any]]:
  """The config.json of a small model by family; do not change it."""
  return families.ROWS


@pytest.fixture(scope='session')
def hf_tensors() -> dict[str, dict[str, np.ndarray]]:
  """The float32 weights of the small models; do not change them."""
  return _Made(families.named)


@pytest.fixture(scope='session')
def write_hf() -> Callable[..., str]:
  """Writes (folder, config.json, tensors, files=1) as Hugging Face does."""
  return families.write


@pytest.fixture(scope='session')
def hf_folders(tmp_path_factory, hf_tensors) -> dict[tuple[str, str], str]:
  """Folders of the small models by (family, dtype); do not change them.

  Those in bfloat16 have three files.
  """
  root = tmp_path_factory.mktemp('hf')

  def make(key: tuple[str, str]) -> str:
    family, dtype = key
    kinds = {'float32': np.float32, 'bfloat16': ml_dtypes.bfloat16}
    return families.write(
      root / f'{family}-{dtype}',
      {**families.ROWS[family], 'dtype': dtype},
      {k: v.astype(kinds[dtype]) for k, v in hf_tensors[family].items()},
      3 if dtype == 'bfloat16' else 1,
    )

  return _Made(make)


@pytest.fixture(scope='session')
def goldens(tmp_path_factory) -> dict[str, references.Golden]:
  """The committed goldens by family, each with its folder."""
  root = tmp_path_factory.mktemp('goldens')
  return _Made(lambda family: references.read_golden(family, root / family))


@pytest.fixture(scope='session')
def ours(goldens) -> '_Ours':
  """What this project computes for the models of the goldens."""
  return _Ours(goldens)


class _Made(dict):
  """A dict whose values are made when they are first asked for."""

  def __init__(self, make: Callable[[Any], Any]):
    super().__init__()
    self._make = make

  def __missing__(self, key: Any) -> Any:
    self[key] = self._make(key)
    return self[key]


class _Ours:
  """Models, logits and samples, so that nothing is compiled twice."""

  def __init__(self, goldens: Mapping[str, references.Golden]):
    from flax import nnx

    from wcse_jax import checkpoints

    self._goldens = goldens
    self._models = _Made(
      lambda key: checkpoints.load(
        goldens[key[0]].folder, dtype=key[1], scan=key[2]
      )
    )
    self._logits = _Made(self._compute)
    self._samples = _Made(self._draw)
    # One function for all, as its compiled programs are kept by it.
    self.forward = nnx.jit(lambda model, tokens_BT: model(tokens_BT))

  def model(self, family: str, dtype: str = 'float32', scan: bool = False):
    """Returns the model; scan=False is what runs on CPU."""
    return self._models[family, dtype, scan][0]

  def logits(
    self, family: str, dtype: str = 'float32', scan: bool = False
  ) -> list[np.ndarray]:
    """Returns float32 logits_TV of each prompt, from one padded batch."""
    return self._logits[family, dtype, scan]

  def samples(self, family: str) -> list[records.Sample]:
    """Returns the greedy sample of each prompt.

    Of scanned layers, as an accelerator runs them.
    """
    return self._samples[family]

  def _compute(self, key: tuple[str, str, bool]) -> list[np.ndarray]:
    prompts = self._goldens[key[0]].prompts
    logits_BTV = np.asarray(
      self.forward(self.model(*key), references.padded(prompts))
    )
    return [
      logits_TV[: len(prompt_T)]
      for logits_TV, prompt_T in zip(logits_BTV, prompts, strict=True)
    ]

  def _draw(self, family: str) -> list[records.Sample]:
    from wcse_jax.sampler import engine, settings

    golden = self._goldens[family]
    model, tokenizer = self._models[family, 'float32', True]
    sampler = engine.Sampler(
      model,
      tokenizer,
      settings.SamplerConfig(
        temperature=0.0,
        max_new_tokens=golden.drawn.shape[1],
        slots=3,
        prefill_batch=3,
      ),
    )
    requests = [
      settings.Request(f'{i}', 0, tuple(prompt_T.tolist()))
      for i, prompt_T in enumerate(golden.prompts)
    ]
    return sorted(sampler.generate(requests), key=lambda s: s.problem_id)


@pytest.fixture(scope='session')
def _compiled() -> list[str]:
  import jax

  seen: list[str] = []

  def listen(event: str, *_, **__) -> None:
    if event == '/jax/core/compile/backend_compile_duration':
      seen.append(event)

  jax.monitoring.register_event_duration_secs_listener(listen)
  return seen


@pytest.fixture
def nothing_compiled(_compiled) -> Iterator[None]:
  """Fails the test if anything is compiled in it."""
  before = len(_compiled)
  yield
  assert len(_compiled) == before


@pytest.fixture(scope='session')
def tiny(tmp_path_factory):
  """The folder of an untrained model of two layers, with its tokenizer."""
  folder = str(tmp_path_factory.mktemp('checkpoint') / 'tiny')
  # Imported here, after the environment is set.
  from wcse_jax import pretrain

  config = pretrain.PretrainConfig(
    name='tiny',
    family='gemma2',
    d_model=16,
    d_ff=32,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    window=8,
  )
  pretrain._write_start(config, folder)
  return folder


@pytest.fixture(scope='session')
def loaded(tiny):
  """(model, tokenizer) on one device."""
  from wcse_jax import checkpoints

  return checkpoints.load(tiny)
