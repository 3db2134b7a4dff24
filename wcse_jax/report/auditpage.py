"""The audit page: one HTML file to read samples in and give verdicts.

It is opened from the disk, loads nothing, and runs one script, by its hash.
Texts of the study stand in it as text, and once more as data for the CSV that
it gives back.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from wcse_jax import audits
from wcse_jax.report import auditscript, auditstyle, markup, style


_SHEET = style.SHEET + auditstyle.SHEET
_MARKS = {'sound': '✓', 'unsound': '✗', 'unsure': '?'}
# A note is for a sentence or two, and fits into a spreadsheet's cell.
_NOTE_LENGTH = 4000


def code(model: str, source: Mapping[str, Any]) -> str:
  """Returns what the page of a model's samples is called, and kept under.

  It says nothing of the model, and stays when more samples are asked for.
  """
  whole = json.dumps([model, source], sort_keys=True)
  return hashlib.sha256(whole.encode('utf-8')).hexdigest()[:16]


def render(
  items: Sequence[audits.Item],
  given: Mapping[str, tuple[str, str]],
  *,
  code: str,
  reference: bool = True,
  programs: bool = False,
  model: str = '',
) -> str:
  """Returns the page.

  Args:
    items: the samples, in the order in which they are audited.
    given: digest -> (verdict, note) to begin with.
    code: what `code` returns.
    reference: whether the reference solution is shown.
    programs: whether solutions are programs.
    model: the name to show; empty to show neither it nor what judges said.
  """
  title = f'Audit {code[:6]}'
  body = markup.tag(
    'body',
    markup.tag(
      'header',
      markup.tag('h1', title),
      markup.tag('p', 'Samples of ', model, class_='lead') if model else None,
      _guide(len(items)),
      markup.tag(
        'noscript',
        markup.tag(
          'p',
          'This page needs its script to take verdicts. Fill in the CSV that '
          'came with it instead.',
          class_='banner',
        ),
      ),
      markup.tag(
        'p',
        'This browser keeps nothing of this page: download the CSV before you '
        'close it.',
        class_='banner warning',
        id='refused',
        hidden=True,
      ),
    ),
    _bar(len(items)),
    _map(len(items)),
    markup.tag(
      'main',
      [
        _card(number, len(items), item, reference, bool(model))
        for number, item in enumerate(items, 1)
      ],
      class_='program' if programs else None,
    ),
    markup.tag(
      'script',
      markup.raw(_data(items, given, code)),
      type='application/json',
      id='data',
    ),
    markup.tag('script', markup.raw(auditscript.SCRIPT)),
  )
  return markup.document(title, body, _SHEET, policy())


def policy() -> str:
  """Returns the content security policy: one style sheet, one script.

  The script cannot make markup from text either (trusted types).
  """
  return (
    f"default-src 'none'; style-src {markup.hashed(_SHEET)}; "
    f"script-src {markup.hashed(auditscript.SCRIPT)}; base-uri 'none'; "
    "form-action 'none'; require-trusted-types-for 'script'; "
    "trusted-types 'none'"
  )


def _guide(count: int) -> markup.Html:
  """Returns what is asked, in which words, and how it is handed in."""
  keys = (
    (('1', '2', '3'), 'the verdict; the same again takes it back'),
    (('n', '→'), 'next'),
    (('p', '←'), 'previous'),
    (('e',), 'write a note'),
    (('Esc',), 'leave the note'),
    (('o',), 'open ones only'),
  )
  return markup.tag(
    'details',
    markup.tag('summary', 'What to do'),
    markup.tag(
      'p',
      f'{count} worked solutions follow. The final answer of each agrees with '
      'the reference answer. The question is whether the reasoning earns it. '
      'Read each solution step by step and give one verdict:',
    ),
    markup.tag(
      'ul',
      markup.tag(
        'li',
        _word('sound'),
        ' – every step that the answer rests on is right, and leads from the '
        'problem to the answer. Clumsy, terse or unusual is fine; so are slips '
        'of the pen that nothing depends on.',
      ),
      markup.tag(
        'li',
        _word('unsound'),
        ' – the final answer is right, but the reasoning is wrong: a false '
        'step, a miscalculation that another one cancels, a guess, a fact that '
        'the problem does not give, or an answer without the steps that it '
        'needs. Say which step in the note.',
      ),
      markup.tag(
        'li',
        _word('unsure'),
        ' – you cannot tell: the problem is ambiguous, the text is cut, the '
        'reference looks wrong, or it is beyond your field. It counts as no '
        'verdict.',
      ),
    ),
    markup.tag(
      'p',
      'Judge by yourself, in the order given, and do not look up what others '
      'said. Verdicts stay in this browser. "Download CSV" gives the file to '
      'hand in, whole or in part; "Load CSV", under "All samples", goes on '
      'from such a file, on another device too.',
    ),
    markup.tag(
      'p',
      'Keys: ',
      [
        ([(_key(name), ' ') for name in names], what, '. ')
        for names, what in keys
      ],
      class_='keys',
    ),
    class_='guide',
    id='guide',
    open=True,
  )


def _bar(count: int) -> markup.Html:
  return markup.tag(
    'div',
    markup.tag(
      'div',
      markup.tag('span', f'0 of {count}', id='count'),
      markup.tag('progress', value=0, max=count, aria_label='Verdicts given'),
      id='done',
    ),
    markup.tag('p', '', id='status', role='status'),
    _button('Open only', id='open', aria_pressed='false'),
    _button('Download CSV', id='save'),
    class_='needs-script',
    role='region',
    aria_label='Progress',
    hidden=True,
    id='bar',
  )


def _map(count: int) -> markup.Html:
  return markup.tag(
    'nav',
    markup.details(
      'All samples',
      markup.tag(
        'div',
        [_button(str(number)) for number in range(1, count + 1)],
        id='jumps',
      ),
      markup.tag(
        'div',
        _button('Load CSV', id='load'),
        _button('Start over', id='reset'),
        class_='more',
      ),
    ),
    id='map',
    class_='needs-script',
    hidden=True,
    aria_label='Samples',
  )


def _card(
  number: int, count: int, item: audits.Item, reference: bool, open_: bool
) -> markup.Html:
  """Returns one sample with its verdict and its note."""
  title = f'card-{number}'
  where = [f'problem {item.problem_id}, sample {item.index}']
  if item.level:
    where.append(f'level {item.level}')
  worked = reference and item.solution
  return markup.tag(
    'article',
    markup.tag(
      'div',
      markup.tag('h2', f'Sample {number} of {count}', id=title, tabindex=-1),
      [markup.tag('p', part) for part in where],
      class_='where',
    ),
    markup.tag(
      'div',
      markup.tag(
        'div',
        _part('Problem', item.question),
        _part('Reference answer', item.reference, 'final'),
        markup.tag(
          'details',
          markup.tag('summary', 'Reference solution'),
          markup.tag('div', item.solution, class_='text'),
          class_='worked',
        )
        if worked
        else None,
      ),
      markup.tag(
        'div',
        _part('Solution to judge', item.text, 'solution'),
        _part('Answer found in it', item.answer, 'final'),
        markup.facts(item.judged) if open_ else None,
      ),
      class_='sides',
    ),
    markup.tag(
      'div',
      markup.tag(
        'div',
        [
          _button(
            f'{mark} {word.capitalize()} ',
            _key(str(at)),
            data_verdict=word,
            aria_pressed='false',
          )
          for at, (word, mark) in enumerate(_MARKS.items(), 1)
        ],
        class_='verdicts',
        role='group',
        aria_label='Is the reasoning sound?',
      ),
      markup.tag(
        'label',
        markup.tag('span', 'Note', class_='unseen'),
        markup.tag(
          'textarea',
          placeholder='Note: which step, and why',
          maxlength=_NOTE_LENGTH,
          rows=1,
        ),
      ),
      markup.tag(
        'div',
        _button(
          '← ',
          markup.tag('span', 'Previous ', class_='words'),
          _key('p'),
          aria_label='Previous',
        ),
        _button(
          markup.tag('span', 'Next ', class_='words'),
          '→ ',
          _key('n'),
          aria_label='Next',
        ),
        class_='steps',
      ),
      class_='dock needs-script',
      hidden=True,
    ),
    aria_labelledby=title,
  )


def _part(head: str, text: str, class_: str = '') -> markup.Html:
  return markup.join(
    markup.tag('h3', head),
    markup.tag('div', text, class_=f'text {class_}'.strip()),
  )


def _button(*children: markup.Child, **attributes: Any) -> markup.Html:
  return markup.tag('button', *children, type='button', **attributes)


def _key(name: str) -> markup.Html:
  return markup.tag('kbd', name)


def _word(verdict: str) -> markup.Html:
  return markup.tag(
    'span', f'{_MARKS[verdict]} {verdict}', class_=f'word {verdict}'
  )


def _data(
  items: Sequence[audits.Item],
  given: Mapping[str, tuple[str, str]],
  code: str,
) -> str:
  """Returns what the script needs, as JSON that holds no markup."""
  rows = []
  for item in items:
    verdict, note = given.get(item.digest, ('', ''))
    rows.append(
      {
        'digest': item.digest,
        'cells': audits.line(audits.cells(item)).removesuffix('\r\n'),
        'verdict': verdict,
        'note': note,
      }
    )
  found = json.dumps(
    {
      'key': code,
      'name': f'audit-{code[:6]}.csv',
      'verdicts': list(audits.VERDICTS),
      'risky': audits.RISKY,
      'head': audits.BOM + audits.line(audits.COLUMNS),
      'rows': rows,
    }
  )
  for sign in '<>&':
    found = found.replace(sign, f'\\u{ord(sign):04x}')
  return found
