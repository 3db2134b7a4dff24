"""GSM-Plus: the problems of GSM8K in eight kinds of disguise.

One kind, "critical thinking", leaves out a number that is needed: such a
problem has no answer (`Problem.answer` is empty), and right is a text that says
so.
"""

import re
from typing import Any

from wcse_jax import errors, records
from wcse_jax.grading import numeric
from wcse_jax.tasks import gsm8k, remote, rows


# What `answer` returns for a text that says that no answer can be given.
UNKNOWN = 'unknown'
# A text without a mark says it where it ends.
_END = 400
_SAYS = re.compile(
  r"""
  \b(?:can\s?not|can['’]t|could\s?n[o'’]t|impossible\sto|unable\sto
    |not\s(?:be\s)?(?:possible|able)\sto|not\senough|no\sway\sto)
    (?:\s\w{1,20}){0,4}?
    \s?(?:determin|calculat|be\sfound|find|answer|know|tell|solve|comput
      |information|data|figure|say|provide)
  | \b(?:do|does)(?:\snot|n['’]t)\s(?:\w{1,20}\s){0,2}?
    (?:know|specify|say|tell|mention|state|have\s(?:enough|sufficient)
      |provide|give|include)
  | \b(?:not|never|isn['’]t|aren['’]t|wasn['’]t)\s(?:\w{1,12}\s)?
    (?:specified|given|provided|mentioned|stated|known|enough|sufficient
      |determined)
  | \b(?:insufficient|missing|incomplete|more|additional|lacks?|further)\s
    (?:\w{1,12}\s){0,2}?(?:information|data|details?|context)
  | \b(?:unaware|unknown|undetermined|indeterminate|undefined|unanswerable
      |unsolvable|none|impossible)\b
  | \bno\s(?:unique\s|definite\s|numerical\s|single\s)?(?:answer|solution)\b
  """,
  re.VERBOSE | re.IGNORECASE,
)
_SENTENCE = re.compile(r'(?<!\bMr)(?<!\bMrs)(?<!\bMs)(?<!\bDr)[.!?](?=\s)|\n')
_NUMBER = re.compile(r'\d')


class GsmPlus(gsm8k.WordProblems):
  """The task `gsm_plus`.

  Rows are `{"question", "answer"}`, the answer a number as text, or `None`
  where there is no answer; `id`, `solution` and `perturbation_type` may be
  given, the last being a problem's subject.  A problem's level is the number
  of worked lines of the GSM8K reference that it was made from, which
  `seed_solution` gives.

  A text's answer is the number that it marks as such.  A mark without a
  number, or the end of a text without a mark, that says that the question
  cannot be answered is the answer `unknown`: right where the problem has none,
  wrong elsewhere.

  Source: Li et al. 2024, arXiv:2402.19255.
  """

  name = 'gsm_plus'
  blank_answers = True
  splits = ('testmini', 'test')
  hub = remote.Hub(
    'qintongli/GSM-Plus',
    revision='3b708db57b96a16e8e3368ed2956990c0809440e',
    license='cc-by-sa-4.0',
  )

  def problem(
    self, row: dict[str, Any], default_id: str, split: str
  ) -> records.Problem:
    row = {'id': default_id, **row}
    for field in ('id', 'question', 'answer'):
      rows.text(row, field)
    solution, kind, of_seed = (
      rows.optional(row, field)
      for field in ('solution', 'perturbation_type', 'seed_solution')
    )
    answer = row['answer'].strip()
    if answer == 'None':
      answer = ''
    elif numeric.parse(answer) is None:
      raise errors.InputError(
        f'wanted a number or None in field "answer"; got {answer[:80]!r}.'
      )
    worked = solution.rpartition('####')[0] or solution
    lines = gsm8k.worked_lines(worked)
    seed = gsm8k.worked_lines(of_seed.rpartition('####')[0])
    shown = answer.replace(',', '') or UNKNOWN
    return records.Problem(
      id=row['id'],
      task=self.name,
      question=row['question'].strip(),
      answer=answer.replace(',', ''),
      solution='\n'.join([*lines, f'The answer is {shown}.']) if lines else '',
      level=str(len(seed)) if seed else '',
      subject=kind,
    )

  def answer(self, text: str) -> str | None:
    said = numeric.stated(text)
    if said is None:
      # The last sentence alone: a text may miss a number and then assume one.
      end = text[-_END:].rstrip()
      cuts = [found.end() for found in _SENTENCE.finditer(end)]
      if _SAYS.search(end, cuts[-1] if cuts else 0):
        return UNKNOWN
      return numeric.extract(text)
    if not _NUMBER.search(said):
      return UNKNOWN if _SAYS.search(said) else None
    return numeric.extract(text)

  def equal(self, answer: str, reference: str) -> bool:
    if not reference or answer == UNKNOWN:
      return not reference and answer == UNKNOWN
    return numeric.equal(answer, reference)

  def sound(self, problem, text):
    if not problem.answer:
      return None, 'no answer to reason for'
    return super().sound(problem, text)
