"""Terms: what sources state is passed on, and nothing is made up."""

import pytest

from wcse_jax import tasks
from wcse_jax.checkpoints import card as cards
from wcse_jax.exports import facts, terms
from wcse_jax.tasks import base


def _facts(*licences, problems='mit', names=(), **card):
  return facts.Facts(
    problems=facts.Problems(
      task='t', origin=base.Origin('org/set@v1', problems)
    ),
    models=[
      facts.Model(name=name, card=cards.Card(license=one, **card))
      for one, name in zip(licences, names or 'abc')
    ],
  )


@pytest.mark.parametrize(
  ('known', 'wanted'),
  [
    (_facts('mit', 'mit'), {'license': 'mit'}),
    (_facts('', problems=''), {'license': 'unknown'}),
    (
      _facts('mit', ''),
      {'license': 'other', 'license_name': 'see-terms-below'},
    ),
    (
      _facts('gemma'),
      {'license': 'other', 'license_name': 'see-terms-below'},
    ),
    (
      _facts('other', problems='other', license_name='mine'),
      {'license': 'other', 'license_name': 'mine'},
    ),
    (
      _facts('gemma', problems='gemma', license_link='https://a/b'),
      {'license': 'gemma', 'license_link': 'https://a/b'},
    ),
    # A file beside the weights is not in this folder.
    (
      _facts('llama3', problems='llama3', license_link='LICENSE'),
      {'license': 'llama3'},
    ),
  ],
)
def test_the_licence_of_the_front_matter(known, wanted):
  assert terms.metadata(known) == wanted


def test_what_is_stated_is_passed_on():
  known = _facts(
    'other',
    license_name='Own 1.0',
    license_link='https://a/b',
    license_files={'LICENSE': b'the text'},
  )
  text = '\n'.join(terms.paragraphs(known))
  assert 'Problems: `org/set@v1`; licence `mit`.' in text
  assert (
    'Model `a`: licence `other`, called `Own 1.0`, see `https://a/b`' in text
  )
  assert 'Beside its weights lies `LICENSE`.' in text
  assert 'the text' not in text
  assert 'Gemma' not in text


def test_what_is_not_stated_is_unknown(tmp_path):
  known = facts.Facts(
    problems=facts.of_problems(tasks.load('gsm8k', str(tmp_path)), 'train'),
    models=[facts.Model(name='a')],
  )
  text = '\n'.join(terms.paragraphs(known))
  assert "Problems: files of the user's own; licence unknown." in text
  assert 'The task reads `openai/gsm8k@' in text
  assert 'which states `mit`; whether these are a copy is unknown' in text
  assert 'Model `a`: licence unknown. No file at hand states one' in text


def test_terms_of_gemma_are_told():
  known = _facts('gemma', 'mit', names=('g', 'gemma-copy'))
  text = '\n'.join(terms.paragraphs(known))
  assert '`g` are under the Gemma Terms of Use' in text
  for part in (cards.GEMMA_TERMS, cards.GEMMA_POLICY, '3.1', '3.2', '1.1'):
    assert part in text
  # A licence that is stated counts for more than a name.
  assert 'if they derive' not in text


@pytest.mark.parametrize(
  'model',
  [
    facts.Model(name='Gemma-2b'),
    facts.Model(name='m', checkpoint='google/gemma-3-1b@v1'),
    facts.Model(name='m', architecture='Gemma2ForCausalLM'),
    facts.Model(name='m', card=cards.Card(notes=('from `google/gemma-2b`',))),
  ],
)
def test_where_the_licence_is_unknown_gemma_may_bind(model):
  known = facts.Facts(problems=facts.Problems(task='t'), models=[model])
  text = '\n'.join(terms.paragraphs(known))
  assert 'are, if they derive from Gemma 1, 2 or 3 by Google, under' in text
