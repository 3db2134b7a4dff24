"""The summary in Markdown: what it says, and that no text of a study acts."""

import copy
import re

import hostile
import planted
import pytest

from wcse_jax.report import brief


def test_it_has_the_answer_and_the_key_tables(results):
  found = brief.render(results)
  assert found.startswith('# tiny-wc against tiny-se on arith, at the same')
  assert results['answer']['sentence'] in found
  assert '> This study can miss differences of 4 points.' in found
  assert '| high | WC − SE | 11 v 4 | −1.0 points (−3.2 to +1.2,' in found
  assert '| high | SE, hotter − SE | 4 v 4 | +1.2 points' in found
  assert '| high | 3.31 | 2.72 to 4.12 |' in found
  assert '| WC data | 41.9% (38.8 to 45.0, n = 1,024) |' in found
  assert '| 0.105 | 0.210 |' in found
  assert '| Training | 8.4 PFLOP | 10.8 min |' in found
  assert '\n\n\n' not in found


def test_differences_that_are_not_sure_are_counted(results):
  setup = results['training']['setups'][0]
  first, second, *_ = setup['contrasts']
  first |= {'metric': 'pass@1', 'reading': 'no difference seen'}
  second |= {'metric': 'maj@4', 'reading': 'no difference seen'}
  third = second | {'metric': 'hard: maj@4', 'reading': 'SE data better'}
  results['training'] |= {'setups': [setup]}
  setup['contrasts'] = [first, second, third]
  found = brief.render(results)
  assert '| WC data − SE data | pass@1 |' in found
  assert '| WC data − SE data | hard: maj@4 |' in found
  assert '| WC data − SE data | maj@4 |' not in found
  assert '1 more difference, none of them sure: index.html.' in found


def test_rows_are_as_wide_as_their_heads(results):
  for block in brief.render(results).split('\n\n'):
    lines = [line for line in block.split('\n') if line.startswith('|')]
    assert len({len(re.findall(r'(?<!\\)\|', line)) for line in lines}) <= 1


def test_an_unfinished_study_has_a_summary(results):
  empty = brief.render({})
  assert '> This study is unfinished.' in empty
  assert '## ' not in empty
  for key in results:
    brief.render({**results, key: None})
    if isinstance(results[key], list):
      brief.render({**results, key: [None, *results[key]]})
  brief.render(dict.fromkeys(results))


@pytest.mark.parametrize('string', hostile.joined(6))
def test_hostile_text_changes_nothing_but_the_words(results, string):
  engine = pytest.importorskip('markdown_it')
  harmless = copy.deepcopy(results)
  planted.plant(results, string)
  planted.plant(harmless, 'x' * 40)
  reader = engine.MarkdownIt('commonmark').enable('table')

  def tags(found):
    page = reader.render(brief.render(found))
    return re.findall(r'<(/?\w+[^>]*)>', page)

  assert tags(results) == tags(harmless)
  assert set(tags(results)) >= {'h1', 'table', 'a href="index.html"'}
