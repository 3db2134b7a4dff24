"""What a run folder and its files say of a model and of a set."""

import json

import pytest

from wcse_jax import storage, tasks
from wcse_jax.exports import facts
from wcse_jax.tasks import base


TASK = tasks.load('arith')


def _source(run, value):
  path = storage.join(run, 'samples', 'wc', 'source.json')
  storage.publish(path, json.dumps(value))


def test_a_model(run):
  folder = run()
  _source(folder, {'checkpoint': 'tiny-wc'})
  found = facts.of_model(folder, 'wc', TASK)
  assert (found.checkpoint, found.card.license) == ('tiny-wc', 'apache-2.0')
  assert found.architecture == 'Gemma2ForCausalLM'
  assert (found.weights, found.tokenizer) == ('a' * 64, 'b' * 64)
  assert found.settings['sampler.temperature'] == 0.7
  assert not {'weights', 'shots_sha256', 'versions.jax'} & {*found.settings}
  assert found.versions == {'jax': '0.10'}
  assert (found.samples, found.cost['decode_tokens']) == (18, 36)
  shots = TASK.shots(2)
  assert found.prompt.plain == TASK.prompt('{question}', shots)
  assert found.prompt.shots == 2


def test_a_path_of_this_machine_is_not_told(run, tmp_path):
  folder = run()
  model = tmp_path / 'own'
  model.mkdir()
  (model / 'README.md').write_text('---\nlicense: mit\n---\n')
  _source(folder, {'checkpoint': str(model)})
  found = facts.of_model(folder, 'wc')
  assert (found.checkpoint, found.card.license) == ('', 'mit')
  assert str(tmp_path) not in repr(found)
  # Said by the caller, it need not be in the run folder.
  found = facts.of_model(folder, 'wc', checkpoint='someone/tiny@v1')
  assert found.checkpoint == 'someone/tiny@v1'


@pytest.mark.parametrize('value', [[], {}, {'checkpoint': 7}, 'x'])
def test_a_source_that_is_none(run, value):
  folder = run()
  _source(folder, value)
  found = facts.of_model(folder, 'wc')
  assert (found.checkpoint, found.card.license) == ('', '')
  assert found.prompt.plain == ''


@pytest.mark.parametrize(
  'changed',
  [{'shots_sha256': 'c'}, {'prompt_sha256': 'c'}, {'shots': 3}],
)
def test_a_prompt_that_is_not_at_hand(run, changed):
  found = facts.of_model(run(**changed), 'wc', TASK).prompt
  assert (found.plain, found.chat) == ('', '')
  assert found.shots == changed.get('shots', 2)


def test_a_set_of_ones_own_may_state_a_licence(tmp_path):
  found = facts.of_problems(tasks.load('gsm8k', str(tmp_path)), 'train')
  assert found.license == ''
  (tmp_path / 'README.md').write_text('---\nlicense: cc-by-4.0\n---\n')
  found = facts.of_problems(tasks.load('gsm8k', str(tmp_path)), 'train')
  assert found.license == 'cc-by-4.0'
  # A set of the hub is what the task knows of it.
  found = facts.of_problems(tasks.load('gsm8k'), 'train')
  assert found.license == 'mit'
  assert isinstance(found.origin, base.Origin)
