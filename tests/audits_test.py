"""The CSV of an audit, there and back, and through spreadsheets."""

import csv
import io

import pytest

from wcse_jax import audits, errors, records, shardfiles, storage


NASTY = [
  '=1+1',
  '+1',
  '-5',
  '@SUM(A1)',
  '\t=1',
  '\r=1',
  '\n=1',
  ' =cmd|x',
  '\u00a0=1',
  '\uff1d1',
  "'",
  "''=1",
  "'=1",
  "it's",
  '0012',
  '12',
  '1/2',
  '3-4',
  '1e5',
  '1,234',
  '12.50',
  'MAR1',
  'Jan 5',
  'TRUE',
  'false',
  '12345678901234567',
  '"',
  '""',
  'a "quoted" word',
  'a,b;c\td',
  'one\ntwo',
  'one\r\ntwo\rthree',
  ' around ',
  '',
  '\U0001f600\u2028\u2029\x85',
  '\ufeffmark',
  '\\boxed{1}',
]


def item(text, index=0, problem_id='p/1', **more):
  values = {
    'level': '1',
    'question': 'How many?',
    'reference': '5',
    'answer': '5',
  }
  return audits.Item(
    digest=audits.digest('model', problem_id, index, text),
    problem_id=problem_id,
    index=index,
    text=text,
    **(values | more),
  )


def known(items):
  return {one.digest: one for one in items}


def rewritten(data, change=lambda rows: rows, **form):
  """Returns a CSV as another program writes it."""
  rows = list(csv.reader(io.StringIO(data.lstrip(audits.BOM), newline='')))
  out = io.StringIO(newline='')
  csv.writer(out, **form).writerows(change(rows))
  return out.getvalue()


@pytest.mark.parametrize('text', NASTY)
def test_a_cell_is_decoded_exactly(text):
  for one in (text, "'" + text, "''" + text):
    assert audits.decode(audits.encode(one)) == one


@pytest.mark.parametrize('text', NASTY[:10])
def test_no_cell_begins_as_a_formula(text):
  assert audits.encode(text).startswith("'")


def test_what_a_spreadsheet_leaves_alone_is_left_alone():
  long = '5 apples are bought, and then a lot more happens to them'
  for text in ('', '18', '0', 'The answer is 4.', 'test/12', '12-8=4.', long):
    assert audits.encode(text) == text


def test_a_table_is_read_back_exactly():
  items = [item(text, i) for i, text in enumerate(NASTY)]
  given = {one.digest: ('unsound', one.text) for one in items}
  data = audits.table(items, given).encode()
  assert data.startswith(b'\xef\xbb\xbf"problem_id","index"')
  rows = audits.parse(data, 'x.csv')
  audits.check(rows, known(items), 'x.csv')
  assert [audits.decode(row.text) for row in rows] == NASTY
  assert [row.note for row in rows] == NASTY
  assert [row.number for row in rows] == list(range(2, len(NASTY) + 2))


def test_a_long_text_is_cut_in_the_table_and_known_all_the_same():
  text = '\U0001f600 =word "x"\n' * 8000
  one = item(text)
  data = audits.table([one], {}).encode()
  [row] = audits.parse(data, 'x.csv')
  audits.check([row], known([one]), 'x.csv')
  assert len(row.text.encode('utf-16-le')) < 2 * 32_767
  assert 'more characters are on the page]' in row.text
  other = item(text + '!')
  assert other.digest != one.digest


def test_characters_that_no_table_holds_are_shown_by_a_picture():
  one = item('a\0b\x1b\ud800c')
  rows = audits.parse(audits.table([one], {}).encode(), 'x.csv')
  assert rows[0].text == 'a\u2400b\u241b\ufffdc'
  audits.check(rows, known([one]), 'x.csv')


@pytest.mark.parametrize(
  'form',
  [
    {'delimiter': ';'},
    {'delimiter': '\t'},
    {'lineterminator': '\n'},
    {'quoting': csv.QUOTE_MINIMAL},
    {'quoting': csv.QUOTE_ALL, 'delimiter': ';', 'lineterminator': '\n'},
  ],
)
@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16'])
def test_what_other_programs_write_is_read(form, encoding):
  items = [item(text, i) for i, text in enumerate(NASTY)]

  def change(rows):
    """As a spreadsheet: typed words, empty rows and columns, 3 as 3.0."""
    for number, row in enumerate(rows[1:]):
      row[1] = f'{row[1]}.0' if number % 2 else row[1]
      row[7] = ' Unsound ' if number % 2 else 'SOUND'
      row[6] = row[6].replace('\r\n', '\n').replace('\r', '\n')
      row += ['', '']
    return [*rows, [''] * 12, [], [' '] * 3]

  data = rewritten(audits.table(items, {}), change, **form).encode(encoding)
  rows = audits.parse(data, 'x.csv')
  audits.check(rows, known(items), 'x.csv')
  assert [row.verdict for row in rows[:2]] == ['sound', 'unsound']
  assert len(rows) == len(items)


def test_an_apostrophe_taken_as_a_sign_of_text_is_no_change():
  items = [item('=1+1'), item('-5', 1), item("'=2", 2)]

  def change(rows):
    for row in rows[1:]:
      row[6] = row[6].removeprefix("'")
    return rows

  data = rewritten(audits.table(items, {}), change).encode()
  audits.check(audits.parse(data, 'x.csv'), known(items), 'x.csv')


def test_columns_in_another_order_and_a_line_for_excel():
  items = [item('a'), item('b', 1)]

  def change(rows):
    return [['mine', *row[::-1]] for row in rows]

  data = 'sep=;\r\n' + rewritten(audits.table(items, {}), change, delimiter=';')
  rows = audits.parse(data.encode(), 'x.csv')
  audits.check(rows, known(items), 'x.csv')
  assert [row.number for row in rows] == [3, 4]


@pytest.mark.parametrize(
  ('change', 'wanted'),
  [
    ({6: 'another text'}, ('row 3: text:', '1 altered')),
    ({0: 'p/2'}, ('row 3: problem_id:', '1 altered')),
    ({1: '7'}, ('row 3: index:', '1 altered')),
    ({9: 'sha-0000000000000000'}, ('row 3', 'another run', '1 of no sample')),
    ({9: ''}, ('row 3', '1 of no sample')),
    ({7: 'soud'}, ('row 3: verdict: wanted sound, unsound, unsure', 'soud')),
    (None, ('row 4: wanted each sample once; it is row 3', '1 doubled')),
  ],
)
def test_bad_rows_are_named_and_counted(change, wanted):
  items = [item('a'), item('b', 1), item('c', 2)]

  def changed(rows):
    if change is None:
      rows[3] = rows[2]
    else:
      for column, cell in change.items():
        rows[2][column] = cell
    return rows

  data = rewritten(audits.table(items, {}), changed).encode()
  with pytest.raises(errors.InputError, match='1 of 3 rows') as error:
    audits.check(audits.parse(data, 'x.csv'), known(items), 'x.csv')
  for part in wanted:
    assert part in str(error.value)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize(
  ('data', 'wanted'),
  [
    (b'', "'problem_id'"),
    (b'a,b\r\n1,2\r\n', "'problem_id'"),
    ('"Größe"'.encode('latin-1'), 'CSV UTF-8'),
    (b'problem_id\0', 'NUL'),
    (b'"problem_id"x', 'CSV'),
    (
      b'problem_id,index,text,verdict,note,digest,verdict\n',
      "'verdict'",
    ),
    (
      b'problem_id,index,text,verdict,note,digest\n"a"b\n',
      'row 2',
    ),
  ],
)
def test_what_is_no_table_of_an_audit_is_refused(data, wanted):
  with pytest.raises(errors.InputError, match=wanted):
    audits.parse(data, 'x.csv')


def test_judgements_are_read_by_sample(tmp_path):
  workdir = str(tmp_path)
  assert audits.read(workdir, 'model') == {}
  rows = [
    records.Judgement(problem_id='p', index=i, sound=sound)
    for i, sound in enumerate([True, False, None])
  ]
  path = audits.path_of(workdir, 'model', 'jsonl')
  storage.publish(path, ''.join(row.to_json() + '\n' for row in rows))
  want = {('p', 0): True, ('p', 1): False, ('p', 2): None}
  assert audits.read(workdir, 'model') == want
  storage.publish(path, rows[0].to_json() + '\n' + rows[0].to_json())
  with pytest.raises(errors.InputError, match='twice'):
    audits.read(workdir, 'model')


def test_an_audit_of_other_samples_is_refused(tmp_path):
  workdir = str(tmp_path)
  row = records.Judgement(problem_id='p', index=0, sound=True)
  storage.publish(audits.path_of(workdir, 'model', 'jsonl'), row.to_json())
  about = audits.path_of(workdir, 'model', 'json')
  storage.publish_json(about, {'samples': {'seed': 0}})
  assert audits.read(workdir, 'model')
  shards = shardfiles.ShardFolder(
    storage.join(workdir, 'samples', 'model'), {'seed': 1}
  )
  shards.write(shardfiles.Shard(0, 0, 0, 0), [])
  with pytest.raises(errors.InputError, match='seed: wanted 1, has 0'):
    audits.read(workdir, 'model')
  storage.publish_json(about, {'samples': {'seed': 1}})
  assert audits.read(workdir, 'model') == {('p', 0): True}


def test_a_digest_is_of_everything_that_is_judged():
  found = [
    audits.digest('model', 'p', 0, 'text'),
    audits.digest('other', 'p', 0, 'text'),
    audits.digest('model', 'q', 0, 'text'),
    audits.digest('model', 'p', 1, 'text'),
    audits.digest('model', 'p', 0, 'texts'),
  ]
  assert len(set(found)) == 5
  assert all(one == audits.decode(audits.encode(one)) for one in found)
