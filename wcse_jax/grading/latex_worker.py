"""What workers run to compare answers in LaTeX: `latex.judge`, warmed up.

Sympy takes a second to load, and its first parse another: they are spent here,
before a worker says that it is ready, not within the deadline of an answer.
Only workers import this module.
"""

from wcse_jax.grading import latex


judge = latex.judge

if not latex.equal('x^2+2x', 'x(x+2)'):
  raise ImportError('math-verify does not find x^2+2x equal to x(x+2)')
