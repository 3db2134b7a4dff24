"""Python programs within texts, and what makes two programs differ.

Texts are written by models: everything here takes about linear time on whatever
comes, and nothing is run.
"""

import ast
import builtins
import re
import sys
import warnings
from collections.abc import Sequence


# What `ast.parse` raises on text that is no program.
UNPARSABLE = (SyntaxError, ValueError, RecursionError, MemoryError)
# Characters of a program that is parsed here: parsing has slow corners.
MAX_PARSED = 20_000
_PYTHON = ('', 'py', 'py3', 'python', 'python3')
_FENCE = re.compile(r'([ \t]{0,12})(```+|~~~+)[ \t]*+([\w+.-]*+)([^`\n]*+)')


def extract(text: str, names: Sequence[str] = ()) -> str:
  """Returns the program in a text; the text itself if no block is marked.

  Args:
    text: plain Python, or prose with blocks of code between ``` and ```.
    names: functions and classes that are asked for.  The last block that
      defines all of them is the program, as what comes last is final; if none
      does, it is all blocks together.
  """
  found = blocks(text)
  if not found:
    return text
  for block in reversed(found):
    if names and all(defines(block, name) for name in names):
      return block
  return '\n'.join(found)


def blocks(text: str) -> list[str]:
  """Returns the blocks of Python in a text, without their fences.

  A last block without an end counts: the length limit may have cut it.
  """
  found: list[tuple[str, list[str]]] = []
  mark = indent = ''
  for line in text.replace('\r\n', '\n').split('\n'):
    fence = _FENCE.fullmatch(line)
    if mark:
      if fence and fence[2].startswith(mark) and not fence[3]:
        mark = ''
      else:
        # In a list the fence is indented, and all in it is as much.
        found[-1][1].append(line.removeprefix(indent))
    elif fence:
      indent, mark = fence[1], fence[2]
      found.append((fence[3].lower(), []))
  # Blocks that say they are something else, as a shell or an output, are not.
  return [
    '\n'.join(lines)
    for language, lines in found
    if language in _PYTHON and any(line.strip() for line in lines)
  ]


def defines(program: str, name: str) -> bool:
  """Returns whether a program seems to define `name` at its top level."""
  name = re.escape(name)
  kinds = rf'(?:(?:async[ \t]+)?def|class)[ \t]+{name}\b'
  values = rf'{name}[ \t]*(?::[^\n=]*)?=(?!=)'
  return bool(re.search(rf'^(?:{kinds}|{values})', program, re.MULTILINE))


def cut(text: str, stop: Sequence[str]) -> str:
  """Returns what stands before the first of some stop strings."""
  at = [place for place in map(text.find, stop) if place >= 0]
  return text[: min(at)] if at else text


def parse(text: str) -> ast.Module:
  """Returns the tree of a program, without warnings about its style.

  Raises:
    one of `UNPARSABLE`: if it is none.
  """
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    return ast.parse(text)


def asked(
  reference: str, imports: str, tests: str
) -> tuple[list[str], list[str]]:
  """Returns what in tests is the program's, and the modules they lack.

  The program's is what the reference defines and the tests use, and what
  nothing else explains.

  Args:
    reference: a right program.
    imports: what the tests import.
    tests: the tests, which name functions and classes of the program.

  Raises:
    one of `UNPARSABLE`: if one of them is no program.
  """
  defined = {
    node.name
    for node in parse(reference).body
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
  }
  used: set[str] = set()
  bound = {
    (alias.asname or alias.name).partition('.')[0]
    for node in ast.walk(parse(imports))
    if isinstance(node, (ast.Import, ast.ImportFrom))
    for alias in node.names
  }
  for node in ast.walk(parse(tests)):
    if isinstance(node, ast.Name):
      (used if isinstance(node.ctx, ast.Load) else bound).add(node.id)
    elif isinstance(node, ast.arg):
      bound.add(node.arg)
  free = used - bound - set(dir(builtins))
  modules = free & sys.stdlib_module_names - defined
  return sorted((defined & used) | (free - modules)), sorted(modules)


def chain(program: str) -> str | None:
  """Returns a program without comments, docstrings, layout and own names.

  What it binds (arguments, variables, functions, classes) is numbered in the
  order of appearance.  None if it is no program, or too long to be parsed here;
  the body of a function is a program, too.
  """
  if len(program) > MAX_PARSED:
    return None
  for whole in (program, f'def _():\n{program}'):
    try:
      tree = parse(whole)
      return ast.unparse(_Canonical(tree).visit(tree))
    except UNPARSABLE:
      continue
  return None


class _Canonical(ast.NodeTransformer):
  def __init__(self, tree: ast.AST):
    bound = set()
    for node in ast.walk(tree):
      if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        bound.add(node.id)
      elif isinstance(node, ast.arg):
        bound.add(node.arg)
      elif isinstance(
        node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
      ):
        bound.add(node.name)
    self._bound = bound
    self._numbers: dict[str, str] = {}

  def visit(self, node):
    for field in ('id', 'arg', 'name'):
      name = getattr(node, field, None)
      if isinstance(name, str) and name in self._bound:
        number = self._numbers.setdefault(name, f'v{len(self._numbers)}')
        setattr(node, field, number)
    if isinstance(node, ast.arg):
      node.annotation = None
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
      node.returns = None
    body = getattr(node, 'body', None)
    if isinstance(body, list) and body and _is_text(body[0]):
      node.body = body[1:] or [ast.Pass()]
    return self.generic_visit(node)


def _is_text(node: ast.AST) -> bool:
  return (
    isinstance(node, ast.Expr)
    and isinstance(node.value, ast.Constant)
    and isinstance(node.value.value, str)
  )
