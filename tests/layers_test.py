"""Imports go down only, and host code never loads jax."""

import ast
import pathlib
import subprocess
import sys

import pytest


PACKAGE = pathlib.Path(__file__).parents[1] / 'wcse_jax'

# Row by row, the lowest first; a module imports from its own row and below.
ROWS = (
  ('errors', 'storage', 'prices', 'markdown'),
  ('records', 'meter', 'processes', 'cli'),
  ('endpoint', 'crew', 'replies', 'server'),
  ('shardfiles', 'runlog', 'audits'),
  ('sharding', 'kernels', 'grading', 'machine'),
  ('chat', 'pieces'),
  ('tokenizer', 'vocabulary'),
  ('models', 'tasks', 'metrics', 'selection', 'contamination'),
  ('budget', 'plan', 'checkpoints'),
  ('judgements', 'right_samples', 'outside'),
  ('sampler', 'grade', 'scorefiles'),
  ('scorer', 'completions', 'follow'),
  ('score', 'convert', 'judge'),
  ('evaluate', 'bench'),
  ('sft',),
  ('aot', 'bench_train'),
  ('peers', 'estimates'),
  ('arms', 'pretrain', 'exports'),
  ('report',),
  ('audit',),
  ('study',),
  ('proxies', 'watch'),
)
RANK = {name: rank for rank, row in enumerate(ROWS) for name in row}
# Never load jax, whoever imports them.
HOST = (
  'errors',
  'storage',
  'prices',
  'markdown',
  'records',
  'shardfiles',
  'meter',
  'runlog',
  'audits',
  'processes',
  'cli',
  'endpoint',
  'crew',
  'replies',
  'server',
  'chat',
  'pieces',
  'tokenizer',
  'vocabulary',
  'grading.arithmetic',
  'grading.bwrap',
  'grading.canaries',
  'grading.candidate',
  'grading.equations',
  'grading.judge',
  'grading.latex',
  'grading.latex_text',
  'grading.numeric',
  'grading.parts',
  'grading.plain',
  'grading.program',
  'grading.prose',
  'grading.sandbox',
  'grading.seccomp',
  'grading.shapes',
  'grading.source',
  'grading.spelling',
  'grading.steps',
  'grading.tester',
  'grading.workers',
  'tasks',
  'contamination',
  'metrics.audited',
  'metrics.calibration',
  'metrics.candidates',
  'metrics.contrast',
  'metrics.extrapolation',
  'metrics.judged',
  'metrics.majority',
  'metrics.measure',
  'metrics.multiple',
  'metrics.populations',
  'metrics.power',
  'metrics.ppi',
  'metrics.replicated',
  'metrics.shares',
  'metrics.simulated_data',
  'metrics.simulated_studies',
  'metrics.soundness',
  'selection',
  'models',
  'models.config',
  'models.hf_config',
  'models.published',
  'budget',
  'checkpoints',
  'checkpoints.card',
  'checkpoints.gguf',
  'checkpoints.gguf_config',
  'checkpoints.gguf_names',
  'judgements',
  'right_samples',
  'grade',
  'completions',
  'judge',
  'outside',
  'peers',
  'peers.base',
  'sampler',
  'sampler.inputs',
  'sampler.journal',
  'sampler.remote',
  'sampler.schedule',
  'sampler.settings',
  'sampler.shapes',
  'sft.data',
  'sft.settings',
  'exports',
  'exports.run',
  'study.settings',
  'study.graph',
  'report.html',
  'report.auditpage',
  'report.serving',
  'report.following',
  'audit',
  'aot',
  'aot.slices',
  'aot.hlo',
  'aot.collectives',
  'aot.traffic',
  'estimates',
  'estimates.sizes',
  'estimates.jobs',
  'estimates.figures',
  'estimates.shares',
  'estimates.here',
  'estimates.kept',
  'estimates.tpu',
)


def _part(path: pathlib.Path) -> str:
  return path.relative_to(PACKAGE).parts[0].removesuffix('.py')


def _imports(path: pathlib.Path) -> set[str]:
  """Returns the parts of the package that a file imports."""
  found = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.ImportFrom) and node.module:
      names = [node.module]
      if node.module == 'wcse_jax':
        names = [f'wcse_jax.{alias.name}' for alias in node.names]
    elif isinstance(node, ast.Import):
      names = [alias.name for alias in node.names]
    else:
      continue
    found |= {n.split('.')[1] for n in names if n.startswith('wcse_jax.')}
  return found


FILES = sorted(
  p
  for p in PACKAGE.rglob('*.py')
  if p.parent != PACKAGE or p.stem != '__init__'
)


@pytest.mark.parametrize(
  'path', FILES, ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_imports_go_down(path):
  own = _part(path)
  assert own in RANK, f'{own} has no row in this test'
  for other in _imports(path):
    assert RANK[other] <= RANK[own], f'{path} imports {other} from above'


def test_host_code_never_loads_jax():
  names = ', '.join(f'wcse_jax.{name}' for name in HOST)
  code = f'import sys, {names}; print("jax" in sys.modules)'
  out = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert out.stdout.strip() == 'False'


def test_package_itself_loads_nothing():
  code = 'import sys, wcse_jax; print("jax" in sys.modules)'
  out = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert out.stdout.strip() == 'False'
