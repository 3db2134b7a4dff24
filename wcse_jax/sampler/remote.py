"""A sampling run whose model is behind an OpenAI-compatible server.

Files, ledger and resuming are those of `sampler/run.py`.  Each sample is a
request of its own, with a seed of its own; what came is kept at once
(`journal.py`), as it is paid for.
"""

import collections
import contextlib
import dataclasses
import hashlib
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from wcse_jax import (
  errors,
  meter,
  prices,
  records,
  replies,
  runlog,
  server,
  shardfiles,
  storage,
)
from wcse_jax.sampler import inputs, journal


# Of the sampler's settings those that a server is told of.
_SENT = ('temperature', 'top_p', 'max_new_tokens')
# Those that OpenAI's interface has not, though many servers know them.
_MORE = ('top_k', 'min_p')


def sample(config: inputs.SampleConfig, workdir: str) -> dict[str, float]:
  """Draws what is missing in `workdir/samples/<model>/`; returns the costs.

  They are `prefill_tokens` and `decode_tokens` as the server counts them,
  `usd` where the price is known, and 0 for what nobody tells.  The ledger row
  of the stage is booked.

  Raises:
    InputError: if an argument does not fit, the folder holds samples of another
      fingerprint, or the server refuses what it is asked.
    Stopped: if the server fails in a way that may pass.
  """
  config.validate()
  if config.cap and config.cap_in == 'usd' and _usd(config, 0, 0) is None:
    raise errors.InputError(
      f'cap_in: wanted a price of {config.model!r}, as --prices=FILE gives it; '
      'there is none.'
    )
  work = inputs.prepare(config)
  fixed = fingerprint(config, work)
  path = storage.join(workdir, 'samples', config.stem)
  shardfiles.ShardFolder(path, fixed)
  with (
    _server(config, work) as asked,
    runlog.writing(workdir, dataclasses.asdict(config)),
  ):
    # Opened again, now that nobody else can change it.
    folder = shardfiles.ShardFolder(path, fixed)
    folder.merge()
    folder.check()
    drawing = _Drawing(config, work, folder, asked)
    drawing.draw()
    cost = _book(config, workdir, folder)
    drawing.tell()
  return cost


def fingerprint(
  config: inputs.SampleConfig, work: inputs.Work
) -> dict[str, Any]:
  """Returns all that a sample depends on, as far as it is known.

  The server's URL is not in it: the same model is often served elsewhere the
  next day.
  """
  sampler = config.sampler
  return {
    'model': config.model,
    'endpoint': 'chat' if _chat(config) else 'completions',
    **inputs.asked(config, work),
    'stop': list(inputs.stops(work.task, _chat(config))),
    'send_seed': config.send_seed,
    'sampler': {name: getattr(sampler, name) for name in (*_SENT, *_MORE)},
  }


def seed(config: inputs.SampleConfig, problem_id: str, index: int) -> int:
  """Returns the seed of one sample, of 31 bits, which every server takes."""
  text = f'{config.seed} {index} {problem_id}'
  return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) >> 1


def _chat(config: inputs.SampleConfig) -> bool:
  return config.chat != 'off'


def _server(config: inputs.SampleConfig, work: inputs.Work) -> server.Server:
  sampler = config.sampler
  more = {name: getattr(sampler, name) for name in _MORE}
  more = {name: value for name, value in more.items() if value}
  if more:
    print(
      f"sample: {' and '.join(more)} are not of OpenAI's interface: a server "
      'that does not know them may leave them out without a word.',
      file=sys.stderr,
    )
  return server.Server(
    config.server,
    config.model,
    key_variable=config.key_variable,
    concurrency=config.concurrency,
    retries=config.retries,
    timeout=config.timeout,
    chat=_chat(config),
    temperature=sampler.temperature,
    top_p=sampler.top_p,
    max_tokens=sampler.max_new_tokens,
    stop=inputs.stops(work.task, _chat(config)),
    extra=more,
  )


def _usd(config: inputs.SampleConfig, read: int, drawn: int) -> float | None:
  return prices.usd_of_tokens(config.model, read, drawn)


class _Drawing:
  """What a run still draws, and what it has cost."""

  def __init__(
    self,
    config: inputs.SampleConfig,
    work: inputs.Work,
    folder: shardfiles.ShardFolder,
    asked: server.Server,
  ):
    self._config, self._work = config, work
    self._folder, self._server = folder, asked
    self._chat = _chat(config)
    self._stop = inputs.stops(work.task, self._chat)
    self._beginning = threading.Lock()
    self._begun = storage.exists(storage.join(folder.path, shardfiles.MANIFEST))
    self._kept = journal.Journal(folder.path)
    if self._kept.rows and not self._begun:
      raise errors.InputError(
        f'{folder.path}: wanted the {shardfiles.MANIFEST} that says what the '
        f'texts in {journal.FOLDER}/ were asked for; there is none.'
      )
    self._kept.drop(self._written())
    self._shards = self._missing()
    # Of all samples, those that wait for their shard included.
    cost = folder.cost()
    rows = self._kept.rows.values()
    self._read = int(cost.get('prefill_tokens', 0))
    self._drawn = int(cost.get('decode_tokens', 0))
    self._read += sum(row.prompt_tokens for row in rows)
    self._drawn += sum(row.output_tokens for row in rows)
    # Oddities of the replies: how many were cut by a filter; the tokens of
    # those that are longer than was asked for; how many different texts each
    # problem of a shard has, where there could be several.
    self._filtered = 0
    self._long: list[int] = []
    self._texts: list[int] = []

  def draw(self) -> None:
    """Draws the missing shards, and writes each as soon as it is whole."""
    cells = {shard: self._cells(shard) for shard in self._shards}
    have = self._kept.rows
    start = sum(cell in have for all_ in cells.values() for cell in all_)
    total = sum(map(len, cells.values()))
    with meter.Progress(
      f'sample {self._config.stem}',
      total,
      'samples',
      start=start,
    ) as progress:
      self._progress, self._done, self._first = progress, start, self._drawn
      self._since = time.monotonic()
      if not self._config.cap:
        self._ask(cells)
        cells = {}
      for shard, own in cells.items():
        if self._spent() >= self._config.cap:
          break
        # Nothing of the next one is asked before it is known what this cost.
        self._ask({shard: own})
    self._kept.tidy()

  def tell(self) -> None:
    """Prints what was odd, and what was left undone."""
    config = self._config
    if _usd(config, 0, 0) is None:
      _say(
        f'the price of {config.model!r} is not known, so that dollars are left '
        'out; --prices=FILE gives it.'
      )
    if self._filtered:
      _say(
        f'{self._filtered} texts were cut by a filter of the server, and count '
        'as cut by the limit.'
      )
    if self._long:
      _say(
        f'{len(self._long)} samples have more tokens than '
        f'max_new_tokens={config.sampler.max_new_tokens}, up to '
        f'{max(self._long)}: the server draws hidden ones, or keeps no limit.'
      )
    if config.sampler.temperature and {*self._texts} == {1}:
      _say(
        'all samples of any problem are one text: the server may heed neither '
        'temperature nor seed.'
      )
    left = self._missing()
    if left:
      drawn = sum(map(self._folder.size, self._folder.shards))
      _say(
        f'the cap of {config.cap:g} {config.cap_in} is spent: {drawn} samples '
        f'are drawn, and {len(left)} shards are not.'
      )

  def _missing(self) -> list[shardfiles.Shard]:
    """Returns the missing shards: if capped, those of low indices first."""
    positions = [position for position, _ in self._work.chosen]
    found = shardfiles.plan_shards(
      positions, self._config.samples_per_problem, self._folder.shards
    )
    if self._config.cap:
      found.sort(key=lambda s: (s.first_index, s.first_problem))
    return found

  def _cells(self, shard: shardfiles.Shard) -> list[journal.Cell]:
    """Returns the cells of a shard, in the order of its rows."""
    return [
      (problem.id, index)
      for position, problem in self._work.chosen
      if shard.first_problem <= position <= shard.last_problem
      for index in range(shard.first_index, shard.last_index + 1)
    ]

  def _written(self) -> list[journal.Cell]:
    """Returns the kept cells whose shard is there, as after a kill."""
    positions = {problem.id: at for at, problem in self._work.chosen}
    return [
      (name, index)
      for name, index in self._kept.rows
      if any(
        name in positions and shard.covers(positions[name], index)
        for shard in self._folder.shards
      )
    ]

  def _spent(self) -> float:
    if self._config.cap_in == 'usd':
      return _usd(self._config, self._read, self._drawn) or 0.0
    return self._drawn

  def _ask(
    self, shards: Mapping[shardfiles.Shard, Sequence[journal.Cell]]
  ) -> None:
    """Draws some shards, all at once."""
    wanted = [cell for own in shards.values() for cell in own]
    ask = [cell for cell in wanted if cell not in self._kept.rows]
    shard_of = {cell: shard for shard, own in shards.items() for cell in own}
    left = collections.Counter(shard_of[cell] for cell in ask)
    for shard, own in shards.items():
      if not left[shard]:
        self._write(shard, own)
    texts = self._work.questions if self._chat else self._work.prompts
    prompts = {p.id: texts[at] for at, p in self._work.chosen}
    requests = [
      server.Request(
        prompts[name],
        seed(self._config, name, index) if self._config.send_seed else None,
      )
      for name, index in ask
    ]

    def keep(i: int, reply: replies.Reply) -> None:
      with self._beginning:
        # What was asked must be known before the first reply is kept; where
        # none came, nothing is written.
        if not self._begun:
          self._folder.begin()
          self._begun = True
      self._kept.add(self._row(ask[i], reply))

    with contextlib.closing(self._server.ask(requests, keep)) as came:
      for i, reply in came:
        if reply is None:
          raise errors.InputError(
            f'shots, sampler.max_new_tokens: wanted what fits the context of '
            f'{self._config.model!r}; the server says that problem '
            f'{ask[i][0]!r} does not.'
          )
        self._count(reply)
        shard = shard_of[ask[i]]
        left[shard] -= 1
        if not left[shard]:
          self._write(shard, shards[shard])

  def _row(self, cell: journal.Cell, reply: replies.Reply) -> records.Sample:
    text, reason = reply.text, reply.finish_reason
    # Not every server heeds what ends a text.
    ends = [at for at in map(text.find, self._stop) if at >= 0]
    if ends:
      text, reason = text[: min(ends)], 'stop'
    return records.Sample(
      problem_id=cell[0],
      index=cell[1],
      text=text,
      tokens=(),
      finish_reason=reason,
      prompt_tokens=reply.prompt_tokens,
      shared_prompt_tokens=0,
      output_tokens=reply.completion_tokens,
      logprob=None,
    )

  def _count(self, reply: replies.Reply) -> None:
    self._done += 1
    self._read += reply.prompt_tokens
    self._drawn += reply.completion_tokens
    self._filtered += reply.filtered
    if reply.completion_tokens > self._config.sampler.max_new_tokens:
      self._long.append(reply.completion_tokens)
    took = max(time.monotonic() - self._since, 1e-9)
    usd = _usd(self._config, self._read, self._drawn)
    self._progress.update(
      self._done,
      tokens_per_s=(self._drawn - self._first) / took,
      **({} if usd is None else {'usd': usd}),
    )

  def _write(
    self, shard: shardfiles.Shard, cells: Sequence[journal.Cell]
  ) -> None:
    rows = [self._kept.rows[cell] for cell in cells]
    self._folder.write(shard, rows, _cost(rows))
    self._kept.drop(cells)
    if shard.last_index > shard.first_index:
      texts: dict[str, set[str]] = {}
      for row in rows:
        texts.setdefault(row.problem_id, set()).add(row.text)
      self._texts += map(len, texts.values())


def _cost(rows: Sequence[records.Sample]) -> dict[str, float]:
  """Returns the cost of samples: each has read its prompt for itself."""
  return {
    'prefill_tokens': sum(row.prompt_tokens for row in rows),
    'decode_tokens': sum(row.output_tokens for row in rows),
    'flops': 0,
    'chip_seconds': 0.0,
  }


def _book(
  config: inputs.SampleConfig, workdir: str, folder: shardfiles.ShardFolder
) -> dict[str, float]:
  """Books the costs of all shards; returns them."""
  cost = {**_cost([]), **folder.cost()}
  name = config.stem
  read, drawn = int(cost['prefill_tokens']), int(cost['decode_tokens'])
  usd = _usd(config, read, drawn)
  runlog.book(
    workdir,
    f'sample-{name}',
    {
      'stage': 'sample',
      'model': name,
      'chips': 0,
      'chip_seconds': 0.0,
      'prefill_tokens': read,
      'decode_tokens': drawn,
      'flops': 0,
      'usd': usd,
    },
  )
  runlog.merge_ledger(workdir)
  # Where it was served: the fingerprint does not know it.
  storage.publish_json(
    storage.join(folder.path, inputs.SOURCE),
    {'server': config.server, 'model': config.model},
  )
  return cost if usd is None else {**cost, 'usd': usd}


def _say(text: str) -> None:
  print(f'sample: {text}', file=sys.stderr)
