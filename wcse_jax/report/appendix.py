"""Samples to read, and how the study was run."""

from collections.abc import Iterator
from typing import Any

from wcse_jax.report import markup, names, text


def examples(results: names.Results) -> markup.Html:
  """Returns a few problems with what the models wrote."""
  found = [example for example in results.get('examples') or [] if example]
  shown = results.get('samples_shown')
  if not found:
    return markup.absent('Examples')
  return markup.join(
    markup.tag(
      'p',
      'As the models wrote them. A false positive has the right answer and '
      'wrong reasoning.',
      class_='lead',
    ),
    markup.tag(
      'p',
      markup.tag(
        'a',
        f'All {text.count(shown)} samples, problem by problem',
        href='samples/index.html',
      ),
    )
    if shown
    else None,
    [_example(results, example) for example in found],
  )


def notes(results: names.Results) -> markup.Html:
  """Returns the notes on how to read the study."""
  own = [markup.tag('li', note) for note in results.get('notes') or []]
  return markup.tag(
    'ul',
    markup.tag(
      'li',
      'Intervals hold 95% and come from resampling problems, and for students '
      'the runs too; n counts problems. An interval of width 0 means that no '
      'problem differed, not that the number is certain.',
    ),
    markup.tag(
      'li',
      'Where an interval of a difference holds 0, the study cannot tell which '
      'is better. That is not the same as having shown that both are equal.',
    ),
    own,
  )


def origin(results: names.Results) -> markup.Html:
  """Returns where the numbers come from: prompts, versions, configuration."""
  provenance, config = results.get('provenance'), results.get('config')
  prompts = [prompt for prompt in results.get('prompts') or [] if prompt]
  return markup.join(
    [_prompt(results, prompt) for prompt in prompts]
    if prompts
    else markup.absent('Prompts'),
    markup.details('Provenance', markup.facts(_flat(provenance)))
    if provenance
    else markup.absent('Provenance'),
    markup.details('Configuration', markup.facts(_flat(config)))
    if config
    else markup.absent('Configuration'),
    markup.tag(
      'p',
      markup.tag(
        'a', 'The answer and the key tables as Markdown', href='summary.md'
      ),
    ),
  )


def _example(results: names.Results, example: dict[str, Any]) -> markup.Html:
  samples = [sample for sample in example.get('samples') or [] if sample]
  level = example.get('level')
  return markup.tag(
    'article',
    markup.tag(
      'h3',
      f'Problem {example.get("problem_id")}',
      f', level {level}' if level not in (None, '') else None,
    ),
    markup.tag('p', example.get('question')),
    markup.tag('p', 'Answer: ', markup.tag('b', example.get('answer'))),
    markup.details(
      'Reference solution', markup.tag('pre', example.get('reference'))
    )
    if example.get('reference')
    else None,
    [_sample(results, sample) for sample in samples],
  )


def _sample(results: names.Results, sample: dict[str, Any]) -> markup.Html:
  role = str(sample.get('model'))
  verdict, sound = sample.get('verdict'), sample.get('sound')
  words = str(verdict)
  if verdict == 'right' and sound is False:
    words = 'right answer, wrong reasoning: a false positive'
  elif verdict == 'right' and sound:
    words = 'right answer, sound reasoning'
  elif verdict == 'right':
    words = 'right answer, reasoning not judged'
  return markup.tag(
    'div',
    markup.tag(
      'p',
      markup.tag('span', names.role(results, role), class_='key'),
      ': ',
      markup.tag('b', words),
      f'. {sample["why"]}' if sample.get('why') else None,
    ),
    markup.tag('pre', sample.get('text')),
    class_=f'sample {names.kind(results, role)}',
  )


def _prompt(results: names.Results, prompt: dict[str, Any]) -> markup.Html:
  return markup.details(
    f'The first prompt of {names.role(results, prompt.get("model"))}, whole',
    markup.tag(
      'p',
      'sha256 ',
      markup.tag('code', prompt.get('sha256')),
      class_='lead',
    ),
    markup.tag('pre', prompt.get('text')),
  )


def _flat(tree: Any, prefix: str = '') -> Iterator[tuple[str, str]]:
  """Yields the leaves of nested dicts with their dotted names."""
  for key, value in tree.items():
    if isinstance(value, dict) and value:
      yield from _flat(value, f'{prefix}{key}.')
    else:
      yield f'{prefix}{key}', str(value) or '(empty)'
