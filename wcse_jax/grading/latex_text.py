r"""Where a text in LaTeX or plain words states its final answer.

Texts are written by models, so they may be anything: every search is linear in
the length of what is read, and only the end of a long text is read.
"""

import collections
import re


# The final answer stands at the end; a longer text is cut from the front.
MAX_TEXT = 100_000
# What is read behind a mark such as `The answer is`.
_MAX_SAID = 1_000
# What may stand between two boxes that give one answer together.
_MAX_BETWEEN = 60

_BOX = re.compile(
  r'\\f?boxed\s{0,4}\{|\\boxed\s{1,4}(?P<bare>[^\s{}$\\]{1,20})'
)
_BRACE = re.compile(r'\\*[{}]')
_LINE = re.compile(r'(?:[^\n$\\]|\\.?)*+')
_BETWEEN = re.compile(
  r"""(?: [\s$,;&.] | \\[()\[\],;:!\ ] | \\q?quad | \\text\s?\{ | \}
      | \b(?:and|or|und|et|y)\b | \bfor\ part\ \(\w\)
      | [A-Za-z](?:_\{?\w{1,3}\}?)?\s?= )*+""",
  re.VERBOSE,
)
_JOINED = re.compile(r',|;|\b(?:and|or|und|et)\b')
_MARK = re.compile(
  r"""
  \#{4}
  | \b(?:final\s+)?answer\b (?:\s{1,4}(?!is\b)[\w()]{1,30}){0,6}? [*_]*+ \s{0,4}
    (?: \bis\b | [:：=] )
  | \b(?:r[ée]ponse|respuesta|antwort|risposta|resposta)\b \s{0,4}
    (?: \b(?:est|es|ist|è|é)\b | [:：] )
  | (?:答案|答え|答)\s{0,4}(?:[:：]|是|为|は)
  """,
  re.VERBOSE | re.IGNORECASE,
)
# A question behind the answer.
_QUESTION = re.compile(r'\n\s{0,4}[*#]{0,4}\s?(?:Q|Question|Problem)\b.{0,9}?:')
_COMMAND = re.compile(
  r'\\begin\{array\}\s?\{[lcr| ]*\}|\\(?:text\w{0,4}|mbox)\s?\{[^{}$]*\}'
  r'|\\[a-zA-Z]+\s?\{[a-zA-Z .]*\}|\\[a-zA-Z]+'
)
_DATE = re.compile(
  r'(?:(?:Sun|Mon|Tues|Wednes|Thurs|Fri|Satur)day, )?'
  r'(?:January|February|March|April|May|June|July|August|September|October'
  r'|November|December) \d{1,2}(?:, \d{4})?'
)
# Letters next to a sign or digit are a product of variables, not a word.
_PRODUCT = re.compile(
  r'(?<=[\d)}^*/+=(-])(?!(?:cm|mm|km|kg|mg|lb|oz|ft|in|yd|mi|hr|min|sec|ml|[ap]m'
  r'|st|nd|rd|th)\b)[a-zA-Z]{2,3}(?![a-zA-Z])'
  r'|(?<![a-zA-Z\\])[a-zA-Z]{2,3}(?=[\^*+=(]|/[(\da-z\\])'
)
_CLOSING = re.compile(r'\s*(?:I hope it is correct|<\|)', re.IGNORECASE)
_SENTENCE_END = re.compile(r'[.!?](?=[\s*]|$)|[。！？\n]')
_COPULA = re.compile(
  r'\b(?:is|are|was|equals|est|ist|es|be)\b:?|(?<![<>!\\=])=(?!=)|:(?=\s)'
)
_MATH = re.compile(
  r"""
  (?<!\\)\$\$(?P<dd>(?:[^$\\]|\\.){1,4000}+)\$\$
  | (?<!\\)\$(?!\$)(?P<d>(?:[^$\\]|\\.){1,4000}+)\$
  | \\\[(?P<b>(?:[^\\]|\\(?![()\[\]]).){1,4000}+)\\\]
  | \\\((?P<p>(?:[^\\]|\\(?![()\[\]]).){1,4000}+)\\\)
  """,
  re.VERBOSE | re.DOTALL,
)
_CONNECTED = re.compile(r'\s*(?:,|;|and|or|,\s*and|,\s*or)\s*')
_PERCENT_SIGN = r'\s*(?:\\?%|percentage\b|percent\b|per\ cent\b|pct\b)'
_PERCENT = re.compile(_PERCENT_SIGN)
_NUMBER = r"""
  (?: \d{1,3}(?:,\d{3})++(?!\d) | \d++ )(?:[.,]\d++)?+ | \.\d++
"""
# A number or quotient in a text; a fraction in LaTeX without dollars.  A minus
# is a sign where it touches the number and follows no other.
_VALUE = re.compile(
  rf"""
  (?:(?<![\w)\]}}])-)?
    \\[dtc]?frac\s?\{{[^{{}}]{{1,40}}\}}\s?\{{[^{{}}]{{1,40}}\}}
  | (?<![\d^A-Za-z_.])(?:(?<![\w)\]%}}])(?<![\d)\]%}}]\ )-)?(?:[$€£¥₹])?
    (?:{_NUMBER})(?!\w*\^)
    (?:\s?/\s?\d++(?!\s?[/=.]\d))?+
    (?:{_PERCENT_SIGN}|\ (?:thousand|million|billion|trillion)\b)?
  """,
  re.VERBOSE,
)
# Not the letters and raised digits that Unicode has for formulas.
_WORD = re.compile(r'(?<![\\A-Za-z])[^\W\d_²³¹⁰-ₜΑ-ω]{2,}')
_SAID = re.compile(r'\s*[^\W\d_]{1,20}(?: [^\W\d_]{1,20})?[\s.]*')
_NAMES = frozenset(
  (
    'and',
    'or',
    'in',
    'sin',
    'cos',
    'tan',
    'cot',
    'sec',
    'csc',
    'arcsin',
    'arccos',
    'arctan',
    'sinh',
    'cosh',
    'tanh',
    'ln',
    'log',
    'exp',
    'pi',
    'sqrt',
    'mod',
    'deg',
    'min',
    'max',
    'gcd',
    'lcm',
    'inf',
    'infty',
    'if',
    'pm',
    'percent',
    'pct',
    'am',
  )
)


def extract(text: str, *, joined: bool = True) -> str | None:
  r"""Returns the final answer that a text states; None if there is none.

  It is what the last `\boxed{}` holds, and the boxes right before it that `and`
  or a comma joins to it; else what stands behind the last `####`, `The answer
  is`, `Final Answer:` and their like; else the text itself where it is but a
  formula; else its last formula or number.  Only the last `MAX_TEXT` characters
  are read.

  Args:
    text: a worked solution.
    joined: whether to take the boxes before the last one with it.
  """
  text = _before_next(text[-MAX_TEXT:])
  # Backslashes that some program took for escapes, as in \x0crac for \frac.
  text = text.replace('\x0crac', r'\frac').replace('\x08oxed', r'\boxed')
  if _breaks_off(text):
    return None
  return (
    _boxed(text, joined)
    or _marked(text)
    or _formula(text)
    or _date(text)
    or _last(text)
    or _said(text)
  )


def _before_next(text: str) -> str:
  """Returns what stands before a further question behind an answer.

  A model that is not stopped goes on with a problem of its own.
  """
  answers = [found for p in (_MARK, _BOX) if (found := p.search(text))]
  if not answers:
    return text
  question = _QUESTION.search(text, min(found.end() for found in answers))
  return text[: question.start()] if question else text


def _breaks_off(text: str) -> bool:
  """Returns whether a text ends within a box, whose answer is not known."""
  last = _final(_BOX, text)
  if last is None or last['bare'] or len(text) - last.end() > _MAX_SAID:
    return False
  held = text[last.end() :]
  if '\n' in held or '$' in held.replace('\\$', ''):
    return False
  depth = 1
  for brace in _BRACE.finditer(held):
    if len(brace[0]) % 2:
      depth += 1 if brace[0][-1] == '{' else -1
      if not depth:
        return False
  return True


def _boxed(text: str, joined: bool) -> str | None:
  """Returns what the last boxes hold; None without one that is filled."""
  found = []
  for match in _BOX.finditer(text):
    if match['bare']:
      found.append((match.start(), match.end(), match['bare']))
    else:
      found.append((match.start(), match.end(), None))
  if not found:
    return None
  spans = _closed(text, found)
  while spans and not spans[-1][2].strip():
    spans.pop()
  if not spans:
    return None
  start, end, last = spans[-1]
  parts = [last]
  for before, after, held in reversed(spans[:-1] if joined else []):
    if after > start:
      # A box around the last one.
      continue
    between = text[after:start]
    if len(between) > _MAX_BETWEEN or not _BETWEEN.fullmatch(between):
      break
    if not _JOINED.search(between):
      break
    parts.append(held)
    start = before
  if len(parts) == 1:
    percent = _PERCENT.match(text[end : end + 40].lstrip('$ '))
    return last.strip() + (' %' if percent else '')
  return ', '.join(part.strip() for part in reversed(parts))


def _closed(text, found) -> list[tuple[int, int, str]]:
  """Returns (start, end, content) of each box, in one pass over the text."""
  starts = {end: start for start, end, bare in found if bare is None}
  spans = [(start, end, bare) for start, end, bare in found if bare is not None]
  if starts:
    # Each open brace by its place inside; a box also remembers its start.
    stack: list[int] = []
    for brace in _BRACE.finditer(text, min(starts) - 1):
      at = brace.end()
      if (at - brace.start()) % 2 == 0:
        continue  # \{ is a sign, not a brace
      if text[at - 1] == '{':
        stack.append(at)
      elif stack:
        inside = stack.pop()
        if inside in starts:
          spans.append((starts.pop(inside), at, text[inside : at - 1]))
    # One that is never closed ends with its line or formula.
    for inside, start in starts.items():
      held = _LINE.match(text, inside)[0]
      if len(held) <= _MAX_SAID:
        spans.append((start, inside + len(held), held.rstrip('. ')))
  return sorted(spans)


def _marked(text: str) -> str | None:
  """Returns what stands behind the last mark; None if it says nothing."""
  last = _final(_MARK, text)
  if last is None:
    return None
  said = text[last.end() : last.end() + _MAX_SAID]
  closing = _CLOSING.search(said)
  said = (said[: closing.start()] if closing else said).strip(' \t\r\n*:_=')
  first = _MATH.match(said)
  if first:
    return _joined(said, first)
  # The end of a sentence does not count inside of a formula.
  hidden = _MATH.sub(lambda m: 'x' * len(m[0]), said)
  end = _SENTENCE_END.search(hidden)
  said = said[: end.start()] if end else said
  hidden = hidden[: len(said)]
  formula = _formula(said)
  if formula:
    return formula
  start = 0
  for copula in _COPULA.finditer(hidden):
    start = copula.end()
  said = said[start:].strip(' *')
  formula = _formula(said)
  if formula:
    return formula
  found = _MATH.search(said)
  if found:
    return _joined(said, found)
  if _DATE.fullmatch(said):
    return said
  number = _VALUE.search(said)
  if number:
    return number[0].strip()
  said = said.strip(' .*_"\'')
  return said if 0 < len(said) <= 60 else None


def _formula(text: str) -> str | None:
  """Returns a short text that is nothing but a formula, without its end dot."""
  text = text.strip().rstrip('.').strip('* ').lstrip('# ')
  if not text or len(text) > 300 or '\n' in text:
    return None
  if _MATH.fullmatch(text):
    return text
  if '$' in text.replace('\\$', '') or re.search(r'(?<!\\)\\[(\[]', text):
    return None
  plain = _COMMAND.sub(' ', text)
  plain = _PRODUCT.sub(' ', plain)
  if any(word.lower() not in _NAMES for word in _WORD.findall(plain)):
    return None
  if not re.search(r'[\dA-Za-z\\]', text):
    return None
  return text


def _date(text: str) -> str | None:
  """Returns a text that is but a date."""
  text = text[:100].strip(' .\n')
  return text if _DATE.fullmatch(text) else None


def _last(text: str) -> str | None:
  """Returns the last formula or number of a text."""
  chain: list[re.Match[str]] = []
  for math in _MATH.finditer(text):
    if not chain or not _CONNECTED.fullmatch(
      text, chain[-1].end(), math.start()
    ):
      chain = []
    chain.append(math)
  value = _final(_VALUE, text, chain[-1].end() if chain else 0)
  if value is not None:
    return value[0].strip()
  return _joined(text, chain[0]) if chain else None


def _said(text: str) -> str | None:
  """Returns a text that is but a word or two."""
  return text.strip(' .\n') if _SAID.fullmatch(text) else None


def _joined(text: str, first: re.Match[str]) -> str:
  """Returns a formula with those that follow as `$1$, $2$ and $3$`."""
  parts = [_inside(first)]
  end = first.end()
  while following := _MATH.search(text, end, end + 400):
    if not _CONNECTED.fullmatch(text, end, following.start()):
      break
    parts.append(_inside(following))
    end = following.end()
  percent = _PERCENT.match(text, end)
  return ', '.join(parts) + (' %' if percent else '')


def _final(
  pattern: re.Pattern[str], text: str, start: int = 0
) -> re.Match[str] | None:
  """Returns the last match behind `start`."""
  last = collections.deque(pattern.finditer(text, start), maxlen=1)
  return last[0] if last else None


def _inside(math: re.Match[str]) -> str:
  return next(part for part in math.groups() if part is not None).strip()
