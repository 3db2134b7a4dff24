"""Majority votes, and the evaluation of a checkpoint."""

import pytest

from wcse_jax import evaluate, records, storage
from wcse_jax.sampler import settings


def grade(answer, correct):
  verdict = 'right' if correct else 'wrong'
  if answer is None:
    verdict = 'unparsed'
  return records.Grade(
    problem_id='p',
    index=0,
    answer=answer,
    correct=correct,
    verdict=verdict,
    sound=None,
    why='',
  )


@pytest.mark.parametrize(
  ('answers', 'right'),
  [
    (['7', '7', '3'], True),
    (['3', '3', '7'], False),
    # Of equal counts the first wins.
    (['7', '3'], True),
    (['3', '7'], False),
    # What gives no answer does not vote.
    ([None, None, '7'], True),
    ([None, None], False),
  ],
)
def test_vote(answers, right):
  grades = [grade(a, a == '7') for a in answers]
  assert evaluate.vote(grades) is right


def test_evaluation_of_a_checkpoint(tmp_path):
  config = evaluate.EvaluateConfig(
    checkpoint='tiny-se',
    dtype='float32',
    limit=24,
    majority=(1, 3),
    sampler=settings.SamplerConfig(
      top_k=3, max_new_tokens=64, slots=64, prefill_batch=32
    ),
  )
  result = evaluate.evaluate(config, str(tmp_path))
  assert storage.read_json(str(tmp_path / 'evaluation.json')) == result
  assert set(result['right']) == {'pass@1', 'maj@1', 'maj@3'}
  for name, rows in result['right'].items():
    assert len(rows) == 24
    assert result[name]['value'] == pytest.approx(sum(rows) / 24)
  # Level 1 and 2, a third of the problems, are easy for it.
  assert result['pass@1']['value'] > 0.25
  again = evaluate.evaluate(config, str(tmp_path / 'again'))
  assert again == result
