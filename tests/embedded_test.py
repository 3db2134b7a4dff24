"""The embedded models are what the default study needs them to be."""

import pathlib

import pytest

from wcse_jax import checkpoints, evaluate, tasks
from wcse_jax.sampler import settings


SIZE = 15 << 20


@pytest.fixture(scope='module')
def measured():
  """Returns, by model, (pass@1, FPR) of one sample of 510 test problems."""
  found = {}
  for name in ('tiny-wc', 'tiny-se'):
    model, tokenizer = checkpoints.load(name)
    evaluator = evaluate.Evaluator(
      evaluate.EvaluateConfig(
        task='arith',
        limit=510,
        majority=(),
        sampler=settings.SamplerConfig(
          top_k=3, max_new_tokens=80, slots=256, prefill_batch=64
        ),
      )
    )
    grades = evaluator.samples(model, tokenizer)
    right = [row[0] for row in grades if row[0].correct]
    unsound = sum(grade.sound is False for grade in right)
    found[name] = (len(right) / len(grades), unsound / len(right))
  return found


def test_strong_solves_more_and_both_leave_room(measured):
  weak, strong = measured['tiny-wc'][0], measured['tiny-se'][0]
  assert 0.1 <= weak < strong <= 0.6


def test_false_positives_occur(measured):
  assert 0.05 <= measured['tiny-wc'][1] <= 0.25


def test_cost_ratio_is_near_three():

  wc, se = (
    checkpoints.read_config(name).parameters()
    for name in ('tiny-wc', 'tiny-se')
  )
  assert 2.5 <= se / wc <= 3.5


def test_all_are_small_and_whole():
  total = 0
  for name in checkpoints.EMBEDDED:
    folder = checkpoints.resolve(name)
    checkpoints.verify(folder)
    total += sum(p.stat().st_size for p in pathlib.Path(folder).iterdir())
  assert total <= SIZE


def test_tokenizer_writes_all_of_arith():
  _, tokenizer = checkpoints.load('tiny-wc')
  task = tasks.load('arith')
  for problem in task.problems('test')[:200]:
    for text in (
      task.prompt(problem.question),
      task.completion(problem.solution),
    ):
      ids = tokenizer.encode(text)
      assert tokenizer.decode(ids) == text
      # Nothing falls back to bytes, whose pieces come after the special four.
      assert all(not 4 <= i < 260 for i in ids)


@pytest.mark.parametrize('name', checkpoints.EMBEDDED)
def test_transformers_loads_them(name):
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  folder = checkpoints.resolve(name)
  model, tokenizer = checkpoints.load(name)
  text = 'Q: Ann has 7 pens. Ann buys 5 more. How many pens are there now?\nA:'
  other = transformers.AutoTokenizer.from_pretrained(folder)
  ids = tokenizer.prompts([text])[0]
  assert other(text)['input_ids'] == ids
  theirs = transformers.AutoModelForCausalLM.from_pretrained(
    folder, dtype=torch.float32
  )
  with torch.no_grad():
    want = theirs(torch.tensor([ids])).logits.numpy()
  import numpy as np

  got = np.asarray(model(np.asarray([ids])))
  np.testing.assert_allclose(got, want, atol=1e-4)
