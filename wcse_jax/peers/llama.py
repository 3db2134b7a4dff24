"""The peer `llama.cpp`: its batched decoding.  Wants `llama-cpp-python`."""

import ctypes
import os
import tempfile
import time
from collections.abc import Iterable

import llama_cpp

from wcse_jax.peers import base


_FILES = {
  'float32': llama_cpp.LLAMA_FTYPE_ALL_F32,
  'bfloat16': llama_cpp.LLAMA_FTYPE_MOSTLY_BF16,
}
# Sequences that the library can hold (`LLAMA_MAX_SEQ`), one of them the prefix.
_MOST = 256
# A sequence's places are rounded up to this.
_ROUND = 256


# Kept alive as long as the library may call it.
@llama_cpp.llama_log_callback
def _silent(*_):
  pass


class LlamaCpp:
  """A GGUF model; see `base.Peer`.

  Done as the library allows: the shared prefix is decoded once and its cache
  copied to each problem, the rest of a prompt once and copied to its samples;
  then all samples take a step together, and its own sampler chain draws.  The
  cache is float16, flash attention as the library decides: its defaults.
  """

  # The cache of all sequences in one buffer, or a buffer each.
  variants = ('streams', 'unified')
  schedules = False

  def __init__(self, path: str, dtype: str, threads: int):
    llama_cpp.llama_log_set(_silent, ctypes.c_void_p(0))
    self.version = f'llama-cpp-python {llama_cpp.__version__}'
    self._threads = threads
    quantize = llama_cpp.llama_model_quantize_default_params()
    quantize.ftype = _FILES[dtype]
    # From what the file holds, quantised or not.
    quantize.allow_requantize = True
    quantize.nthread = threads
    with tempfile.TemporaryDirectory() as folder:
      file = os.path.join(folder, 'model.gguf')
      failed = llama_cpp.llama_model_quantize(
        path.encode(), file.encode(), ctypes.byref(quantize)
      )
      if failed:
        raise RuntimeError(f'llama.cpp: {path} could not be turned to {dtype}.')
      params = llama_cpp.llama_model_default_params()
      # The file goes; what is mapped of it would stay, but not be shared.
      params.use_mmap = False
      self._model = llama_cpp.llama_model_load_from_file(file.encode(), params)
    if not self._model:
      raise RuntimeError(f'llama.cpp: {path} could not be loaded.')

  def run(self, task: base.Task, batch: int, variant: str) -> base.Run:
    """See `base.Peer`.

    Raises:
      RuntimeError: if the library refuses a batch.
    """
    rows = min(batch, len(task.prompts)) * task.samples
    if rows >= _MOST:
      raise RuntimeError(
        f'llama.cpp: wanted fewer than {_MOST} samples of a batch; got {rows}.'
      )
    longest = max(map(len, task.prompts)) + task.new_tokens
    own = longest - len(task.prefix)
    unified = variant == 'unified'
    params = llama_cpp.llama_context_default_params()
    params.n_seq_max = rows + 1
    params.kv_unified = unified
    # Local layers keep their window alone.
    params.swa_full = False
    params.n_ctx = _padded(len(task.prefix) + rows * own)
    if not unified:
      params.n_ctx = _padded(longest) * (rows + 1)
    params.n_batch = max(map(len, task.prompts)) * rows
    params.n_threads = params.n_threads_batch = self._threads
    context = llama_cpp.llama_init_from_model(self._model, params)
    if not context:
      raise RuntimeError(f'llama.cpp: no context of {params.n_ctx} places.')
    sequences = _Sequences(context, params.n_batch, task, rows)
    try:
      done = [sequences.draw(prompts) for prompts in task.batches(batch)]
    finally:
      sequences.close()
    drawn = [tokens for samples, _ in done for tokens in samples]
    return base.Run.of(drawn, [times for _, times in done])

  def close(self) -> None:
    """See `base.Peer`."""
    llama_cpp.llama_model_free(self._model)


class _Sequences:
  """The sequences of a context: `rows` samples, and the prefix behind them."""

  def __init__(self, context, size: int, task: base.Task, rows: int):
    self._context = context
    self._memory = llama_cpp.llama_get_memory(context)
    self._batch = llama_cpp.llama_batch_init(size, 0, 1)
    self._task = task
    self._rows = rows
    self._has_prefix = False
    self._samplers = [self._sampler(task.seed + row) for row in range(rows)]

  def _sampler(self, seed: int):
    """Returns the chain that draws a token."""
    chain = llama_cpp.llama_sampler_chain_init(
      llama_cpp.llama_sampler_chain_default_params()
    )
    parts = []
    if self._task.temperature == 0:
      parts.append(llama_cpp.llama_sampler_init_greedy())
    else:
      if self._task.top_k:
        parts.append(llama_cpp.llama_sampler_init_top_k(self._task.top_k))
      parts.append(llama_cpp.llama_sampler_init_temp(self._task.temperature))
      parts.append(llama_cpp.llama_sampler_init_dist(seed))
    for part in parts:
      llama_cpp.llama_sampler_chain_add(chain, part)
    return chain

  def draw(
    self, prompts: tuple[tuple[int, ...], ...]
  ) -> tuple[list[list[int]], list[float]]:
    """Returns (tokens of each sample, times as `base.Run.of` takes them)."""
    task, home = self._task, self._rows
    times = [time.perf_counter()]
    for row in range(self._rows):
      llama_cpp.llama_memory_seq_rm(self._memory, row, -1, -1)
    start = len(task.prefix)
    if start and not self._has_prefix:
      self._decode(
        (token, at, home, False) for at, token in enumerate(task.prefix)
      )
      self._has_prefix = True
    leads = [number * task.samples for number in range(len(prompts))]
    cells, lasts = [], []
    for lead, prompt in zip(leads, prompts, strict=True):
      if start:
        llama_cpp.llama_memory_seq_cp(self._memory, home, lead, -1, -1)
      for at in range(start, len(prompt)):
        cells.append((prompt[at], at, lead, at == len(prompt) - 1))
      lasts.append(len(cells) - 1)
    self._decode(cells)
    places: list[int] = []
    drawn: list[list[int]] = []
    for lead, prompt, last in zip(leads, prompts, lasts, strict=True):
      for row in range(lead, lead + task.samples):
        if row != lead:
          llama_cpp.llama_memory_seq_cp(self._memory, lead, row, -1, -1)
        drawn.append([self._token(row, last)])
        places.append(len(prompt))
    times.append(time.perf_counter())
    for _ in range(task.new_tokens - 1):
      self._decode(
        (drawn[row][-1], place, row, True) for row, place in enumerate(places)
      )
      for row, tokens in enumerate(drawn):
        tokens.append(self._token(row, row))
      places = [place + 1 for place in places]
      times.append(time.perf_counter())
    return drawn, times

  def _token(self, row: int, at: int) -> int:
    return llama_cpp.llama_sampler_sample(
      self._samplers[row], self._context, at
    )

  def _decode(self, cells: Iterable[tuple[int, int, int, bool]]) -> None:
    """Decodes (token, position, sequence, whether logits are wanted)."""
    batch, count = self._batch, 0
    for token, position, row, wanted in cells:
      batch.token[count] = token
      batch.pos[count] = position
      batch.n_seq_id[count] = 1
      batch.seq_id[count][0] = row
      batch.logits[count] = wanted
      count += 1
    batch.n_tokens = count
    status = llama_cpp.llama_decode(self._context, batch)
    if status:
      raise RuntimeError(f'llama.cpp: a batch was refused with {status}.')

  def close(self) -> None:
    for sampler in self._samplers:
      llama_cpp.llama_sampler_free(sampler)
    llama_cpp.llama_batch_free(self._batch)
    llama_cpp.llama_free(self._context)


def _padded(count: int) -> int:
  return -(-count // _ROUND) * _ROUND
