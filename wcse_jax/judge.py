"""An LLM judge of the reasoning of right samples.

The judge is a checkpoint or a model of a server.  Of each model it sees the
first samples of a fixed random order (`metrics/judged.py`), mixed with canaries
(`grading/canaries.py`).  Results lie in `DIR/judgements` (`judgements.py`).
"""

import contextlib
import dataclasses
import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from wcse_jax import (
  checkpoints,
  completions,
  endpoint,
  errors,
  judgements,
  meter,
  prices,
  records,
  right_samples,
  runlog,
  shardfiles,
  storage,
  tasks,
)
from wcse_jax import server as servers
from wcse_jax.grading import canaries
from wcse_jax.grading import judge as judging
from wcse_jax.sampler import settings
from wcse_jax.tasks import base, programs


# Share of bad canaries from which on a judge is not to be believed.
_MOST_ACCEPTED = 0.1
_NAME = re.compile(r'[A-Za-z0-9_][A-Za-z0-9_.-]*')


def _sampler() -> settings.SamplerConfig:
  return settings.SamplerConfig(
    temperature=0.0, max_new_tokens=512, slots=16, prefill_batch=4
  )


@dataclasses.dataclass(kw_only=True)
class JudgeConfig:
  """A judging run.

  Attributes:
    task: the task that was graded.
    data: folder or file of the set; empty for the task's own source.
    split: the split that was sampled.
    checkpoint: the judge, as `checkpoints.load` takes it; or `server`.
    server: URL of an OpenAI-compatible server, as `http://localhost:8000/v1`.
    model: the server's name of the judge.
    key_variable: environment variable with the server's key; none is needed
      where it is not set.
    concurrency: requests under way at a time.
    retries: of a request that failed in a way that may pass.
    timeout: seconds that the server may be silent for.
    name: of the judge's folder; empty: the name of checkpoint or model.
    samples: right samples of each model that are judged; 0 for all.
    least: samples of each level that come before all others, however few it
      has; at least as many as an audit takes.
    seed: of the order of samples, and of draws.
    canaries: canaries for each judged sample; there are `canaries.LEAST` at
      least.
    max_characters: longer samples are not judged.
    chat: as in `sampler.run.SampleConfig`.
    dtype: `float32` or `bfloat16`.
    weights: `int8` holds the weights in int8; empty: as `dtype`.
    mesh: as `sharding.make_mesh` reads it.
    sampler: how the judge's words are drawn; a server is told of temperature,
      top_p and max_new_tokens only.
  """

  task: str = 'arith'
  data: str = ''
  split: str = 'train'
  checkpoint: str = ''
  server: str = ''
  model: str = ''
  key_variable: str = 'OPENAI_API_KEY'
  concurrency: int = 8
  retries: int = 5
  timeout: float = 120.0
  name: str = ''
  samples: int = 500
  least: int = 3
  seed: int = 0
  canaries: float = 0.1
  max_characters: int = judging.MAX_CHARACTERS
  chat: str = ''
  dtype: str = 'bfloat16'
  weights: str = ''
  mesh: str = ''
  sampler: settings.SamplerConfig = dataclasses.field(default_factory=_sampler)

  def validate(self) -> None:
    """Raises InputError for the first field that is out of range."""
    if bool(self.checkpoint) == bool(self.server):
      raise errors.InputError(
        'checkpoint, server: wanted one of them; got '
        + ('both.' if self.server else 'neither.')
      )
    if self.server:
      endpoint.check_url(self.server)
    if bool(self.server) != bool(self.model):
      raise errors.InputError(
        'model: wanted the name of a model of the server, and none for a '
        f'checkpoint; got {self.model!r}.'
      )
    for field, least in (
      ('samples', 0),
      ('least', 0),
      ('seed', 0),
      ('concurrency', 1),
      ('retries', 0),
      ('max_characters', 1),
    ):
      if getattr(self, field) < least:
        raise errors.InputError(
          f'{field}: wanted a count >= {least}; got {getattr(self, field)}.'
        )
    if not self.timeout > 0:
      raise errors.InputError(
        f'timeout: wanted seconds > 0; got {self.timeout}.'
      )
    if not 0 <= self.canaries <= 1:
      raise errors.InputError(
        f'canaries: wanted a share in [0, 1]; got {self.canaries}.'
      )
    settings.check_loading(self)
    if not _NAME.fullmatch(self.judge_name()):
      raise errors.InputError(
        'name: wanted letters, digits, "_", "." and "-" only; got '
        f'{self.judge_name()!r}.'
      )
    self.sampler.validate()

  def judge_name(self) -> str:
    """Returns the name of the judge's folder."""
    if self.name:
      return self.name
    if self.server:
      return re.sub(r'[^A-Za-z0-9_.-]+', '-', self.model).lstrip('.-')
    name = self.checkpoint.rstrip('/').rpartition('/')[2]
    # A hub name may have a revision behind it.
    return name.removesuffix('.gguf').partition('@')[0]


def judge(config: JudgeConfig, workdir: str) -> dict[str, Any]:
  """Judges what is not judged yet; returns what each model's judgements say.

  Raises:
    InputError: if an argument does not fit, nothing is graded, or the folder
      holds judgements of another fingerprint; nothing is written before that.
    Stopped: if the server fails in a way that may pass.
  """
  config.validate()
  if config.checkpoint:
    # Of what may be wrong this is told fastest.
    checkpoints.read_config(config.checkpoint)
  task = tasks.load(config.task, config.data)
  if isinstance(task, programs.Programs):
    raise errors.InputError(
      'task: wanted one whose solutions are reasoned; the programs of '
      f'{task.name} are judged by their tests.'
    )
  with contextlib.closing(task):
    problems = {
      p.id: p for _, p in base.select(task, config.split, validation_size=0)
    }
    works = [
      right_samples.choose(
        workdir,
        name,
        config.task,
        problems,
        count=config.samples,
        least=config.least,
        seed=config.seed,
      )
      for name in right_samples.models(workdir)
    ]
    common = _fingerprint(config, problems.values())
    folders = [_folder(config, workdir, work, common) for work in works]
    found: dict[str, Any] = {}
    with contextlib.closing(_judge(config)) as asked:
      if any(map(_missing, works, folders)):
        # Read before anything is written: what does not fit changes nothing.
        asked.load()
      with runlog.writing(
        workdir, dataclasses.asdict(config), devices=asked.devices
      ):
        for work in works:
          # Opened again, now that nobody else can have begun it.
          folder = _folder(config, workdir, work, common)
          folder.check()
          _run(config, task, problems, work, folder, asked)
          _book(config, workdir, work.model, folder, len(asked.devices))
          found[work.model] = _told(config, work, folder)
        runlog.merge_ledger(workdir)
  return found


def _judge(config: JudgeConfig) -> completions.Completer:
  if config.checkpoint:
    return completions.Checkpoint(
      config.checkpoint,
      config.sampler,
      common=judging.beginning(),
      seed=config.seed,
      chat=config.chat,
      dtype=config.dtype,
      weights=config.weights,
      mesh=config.mesh,
    )
  sampler = config.sampler
  return completions.Remote(
    servers.Server(
      config.server,
      config.model,
      key_variable=config.key_variable,
      concurrency=config.concurrency,
      retries=config.retries,
      timeout=config.timeout,
      temperature=sampler.temperature,
      top_p=sampler.top_p,
      max_tokens=sampler.max_new_tokens,
      seed=config.seed if sampler.temperature else None,
    )
  )


def _fingerprint(
  config: JudgeConfig, problems: Iterable[records.Problem]
) -> dict[str, Any]:
  """Returns all that a judgement depends on but for the samples and salt."""
  data = hashlib.sha256()
  for problem in problems:
    data.update(problem.to_json().encode() + b'\n')
  if config.server:
    sampler = config.sampler
    judge_ = {'server': config.server, 'model': config.model}
    drawn: dict[str, Any] = {
      'temperature': sampler.temperature,
      'top_p': sampler.top_p,
      'max_new_tokens': sampler.max_new_tokens,
    }
  else:
    judge_ = {
      **checkpoints.fingerprint(config.checkpoint),
      'dtype': config.dtype,
      'weights_in': config.weights or config.dtype,
      'chat': config.chat,
      'mesh': config.mesh,
    }
    drawn = config.sampler.fingerprint()
  return {
    'judge': judge_,
    'prompt': {'version': judging.VERSION, 'sha256': judging.sha256()},
    'sampler': drawn,
    'task': config.task,
    'split': config.split,
    'data_sha256': data.hexdigest(),
    'seed': config.seed,
    'canaries': config.canaries,
    'max_characters': config.max_characters,
  }


def _item(
  problem: records.Problem, key: tuple[str, int], text: str
) -> judging.Item:
  return judging.Item(
    key=key, question=problem.question, answer=problem.answer, text=text
  )


def _folder(
  config: JudgeConfig,
  workdir: str,
  chosen: right_samples.Chosen,
  common: Mapping[str, Any],
) -> judgements.Folder:
  """Opens the folder of a judge, with the salt that it has or a new one."""
  path = storage.join(
    workdir, judgements.FOLDER, chosen.model, config.judge_name()
  )
  salt = None
  if storage.exists(storage.join(path, shardfiles.MANIFEST)):
    salt = judgements.Folder(path).fingerprint.get('salt')
  if not isinstance(salt, str) or not salt:
    salt = secrets.token_hex(16)
  return judgements.Folder(
    path, {**common, 'samples': chosen.fingerprint, 'salt': salt}
  )


def _missing(
  chosen: right_samples.Chosen, folder: judgements.Folder
) -> list[tuple[str, int]]:
  """Returns the samples that have no judgement, in order."""
  have = folder.have()
  return [key for key in chosen.texts if key not in have]


def _run(
  config: JudgeConfig,
  task: base.Task,
  problems: Mapping[str, records.Problem],
  work: right_samples.Chosen,
  folder: judgements.Folder,
  asked: completions.Completer,
) -> None:
  """Judges the samples that have no judgement, part by part."""
  missing = _missing(work, folder)
  if not missing:
    return
  folder.start()
  salt = folder.fingerprint['salt']
  maker = canaries.Maker([*problems.values()], task.grade, salt)
  total = len(folder.judged())
  taken = {row.index for row in folder.canaries()}
  whole = total + len(missing)
  with meter.Progress(
    f'judge {work.model}', whole, 'samples', start=total
  ) as progress:
    for first in range(0, len(missing), judgements.PART):
      part = missing[first : first + judgements.PART]
      total += len(part)
      made = []
      while len(taken) < canaries.count(total, config.canaries):
        number = next(i for i in range(len(taken) + 1) if i not in taken)
        taken.add(number)
        made.append(maker.make(number))
      before = asked.cost()
      verdicts = judging.judge(
        [
          *(_item(problems[key[0]], key, work.texts[key]) for key in part),
          *map(_canary_item, made),
        ],
        _reporting(asked, progress, total - len(part), len(part), len(made)),
        salt,
        max_characters=config.max_characters,
      )
      folder.write(
        [
          records.Judgement(
            problem_id=key[0],
            index=key[1],
            sound=verdict.sound,
            why=verdict.why,
          )
          for key, verdict in zip(part, verdicts, strict=False)
        ],
        [
          judgements.Canary(
            problem_id=canary.problem.id,
            index=canary.number,
            sound=verdict.sound,
            why=verdict.why,
            kind=canary.kind,
          )
          for canary, verdict in zip(made, verdicts[len(part) :], strict=True)
        ],
        {k: v - before[k] for k, v in asked.cost().items()},
      )
      progress.update(total)


def _canary_item(canary: canaries.Canary) -> judging.Item:
  # No sample has an index below 0.
  key = (canary.problem.id, -1 - canary.number)
  return _item(canary.problem, key, canary.text)


def _reporting(
  asked: completions.Completer,
  progress: meter.Progress,
  done: int,
  part: int,
  made: int,
) -> judging.Complete:
  """Returns `asked.complete`, which moves the progress line on."""

  def each(came: int) -> None:
    # Which of the replies are of canaries is not known here.
    progress.update(done + min(part, came * part // (part + made)))

  return lambda texts: asked.complete(texts, each)


def _book(
  config: JudgeConfig,
  workdir: str,
  model: str,
  folder: judgements.Folder,
  chips: int,
) -> None:
  cost = {**dict.fromkeys(completions.COSTS, 0), **folder.cost()}
  runlog.book(
    workdir,
    f'judge-{model}-{config.judge_name()}',
    {
      'stage': 'judge',
      'model': config.judge_name(),
      'chips': chips,
      'chip_seconds': float(cost['chip_seconds']),
      'prefill_tokens': int(cost['prefill_tokens']),
      'decode_tokens': int(cost['decode_tokens']),
      'flops': int(cost['flops']),
      'usd': _usd(config, cost),
    },
  )


def _usd(config: JudgeConfig, cost: Mapping[str, float]) -> float | None:
  """Returns the dollars of a judge: of its tokens, or of its own chips."""
  if config.model:
    return prices.usd_of_tokens(
      config.model, int(cost['prefill_tokens']), int(cost['decode_tokens'])
    )
  # A judge of our own: jax is loaded already.
  from wcse_jax import machine

  return machine.usd(cost['chip_seconds'])


def _told(
  config: JudgeConfig, work: right_samples.Chosen, folder: judgements.Folder
) -> dict[str, Any]:
  """Returns what all judgements of a model say."""
  verdicts = list(folder.judged().values())
  summary = judgements.summary(folder.canaries())
  return {
    'judge': config.judge_name(),
    'right': work.right,
    'counts': {
      'judged': len(verdicts),
      'sound': verdicts.count(True),
      'unsound': verdicts.count(False),
      'unparsed': verdicts.count(None),
    },
    'canaries': summary,
    'warnings': judgements.warnings(summary),
  }
