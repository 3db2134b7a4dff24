"""Jobs of a small model, and a folder for kept figures."""

import pytest

from wcse_jax.estimates import jobs, kept
from wcse_jax.models import published
from wcse_jax.sft import settings


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
  """Where figures are kept in a test: in no user's own folder."""
  path = tmp_path / 'kept'
  monkeypatch.setenv(kept.FOLDER, str(path))
  return path


@pytest.fixture
def sampling():
  """Makes a sampling job; fields may be given."""

  def make(name='gemma3-270m', **fields):
    given = dict(
      stage='sample wc',
      name=name,
      model=published.configs().get(name),
      prompts=100,
      samples=1600,
      prompt_tokens=760,
      shared_prompt_tokens=700,
      longest_prompt=900,
      output_tokens=100,
      max_new_tokens=256,
      dtype='bfloat16',
    )
    return jobs.Sampling(**(given | fields))

  return make


@pytest.fixture
def training():
  """Makes a training job; fields may be given, those of its run as `sft`."""

  def make(name='gemma3-270m', sft=None, **fields):
    run = dict(steps=10, batch_size=8, max_length=256, remat='')
    given = dict(
      stage='train student',
      name=name,
      model=published.configs().get(name),
      sft=settings.SftConfig(**(run | (sft or {}))),
      tokens_per_sequence=160,
    )
    return jobs.Training(**(given | fields))

  return make
