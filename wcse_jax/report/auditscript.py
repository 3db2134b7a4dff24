"""The script of the audit page.

It makes no markup from text: texts of the study stand in the page already, and
what people write goes into fields and into the CSV.  The CSV is that of
`wcse_jax.audits`, whose cells and rules for risky texts the page holds as data.
"""

SCRIPT = r"""
'use strict';
(() => {
const data = JSON.parse(document.getElementById('data').textContent);
const risky = new RegExp(data.risky);
const all = query => [...document.querySelectorAll(query)];
const one = id => document.getElementById(id);
const cards = all('article');
const jumps = all('#jumps button');
const worked = all('.worked');
const rows = data.rows.map(row => ({...row}));
let at = 0;
let openOnly = false;
let unsaved = false;

// What survives a reload: a key for each sample, so that two windows of the
// page do not undo each other's work.
const store = (() => {
  const name = row => `wcse-audit:${data.key}:${row.digest}`;
  try {
    const probe = `wcse-audit:${data.key}`;
    localStorage.setItem(probe, '1');
    localStorage.removeItem(probe);
  } catch {
    return null;
  }
  return {
    read(row) {
      try {
        const [verdict, note] = JSON.parse(localStorage.getItem(name(row)));
        if (verdict !== '' && !data.verdicts.includes(verdict)) return;
        if (typeof note !== 'string') return;
        row.verdict = verdict;
        row.note = note;
      } catch { /* nothing stored, or not by this page */ }
    },
    write(row) {
      localStorage.setItem(
        name(row), JSON.stringify([row.verdict, row.note]));
    },
    remove(row) { localStorage.removeItem(name(row)); },
    name,
  };
})();

function say(text, bad = false) {
  one('status').textContent = text;
  one('status').classList.toggle('bad', bad);
}

function keep(row) {
  unsaved = true;
  if (!store) return;
  try {
    store.write(row);
  } catch {
    say('The browser could not keep this: download the CSV now.', true);
  }
}

function draw(i) {
  const row = rows[i];
  for (const button of cards[i].querySelectorAll('.verdicts button')) {
    const pressed = button.dataset.verdict === row.verdict;
    button.setAttribute('aria-pressed', String(pressed));
  }
  const note = cards[i].querySelector('textarea');
  if (note.value !== row.note) note.value = row.note;
  if (row.verdict) jumps[i].dataset.verdict = row.verdict;
  else delete jumps[i].dataset.verdict;
  jumps[i].setAttribute(
    'aria-label', `Sample ${i + 1}, ${row.verdict || 'open'}`);
}

function count() {
  const done = rows.filter(row => row.verdict).length;
  one('count').textContent = `${done} of ${rows.length}`;
  document.querySelector('progress').value = done;
  for (let i = 0; i < rows.length; i++) {
    const [back, on] = cards[i].querySelectorAll('.steps button');
    back.disabled = find(i, -1) === null;
    on.disabled = find(i, 1) === null;
  }
  return done;
}

function find(from, step) {
  for (let i = from + step; i >= 0 && i < rows.length; i += step)
    if (!openOnly || !rows[i].verdict) return i;
  return null;
}

function show(i, focus = true) {
  at = i;
  cards.forEach((card, j) => { card.hidden = j !== i; });
  jumps.forEach((jump, j) => {
    if (j === i) jump.setAttribute('aria-current', 'true');
    else jump.removeAttribute('aria-current');
  });
  if (!focus) return;
  // The bar sticks to the top: the sample begins below it.
  scrollTo(0, document.querySelector('main').offsetTop
    - one('bar').offsetHeight);
  cards[i].querySelector('h2').focus({preventScroll: true});
}

function move(step) {
  const next = find(at, step);
  if (next !== null) show(next);
  else if (openOnly) say('No other open sample in this direction.');
}

function judge(i, verdict) {
  rows[i].verdict = rows[i].verdict === verdict ? '' : verdict;
  keep(rows[i]);
  draw(i);
  const done = count();
  const words = rows[i].verdict || 'open again';
  say(done === rows.length
    ? `Sample ${i + 1}: ${words}. All ${done} are done: download the CSV.`
    : `Sample ${i + 1}: ${words}. ${done} of ${rows.length} done.`);
}

function filter() {
  openOnly = !openOnly;
  one('open').setAttribute('aria-pressed', String(openOnly));
  jumps.forEach((jump, i) => {
    jump.hidden = openOnly && Boolean(rows[i].verdict);
  });
  count();
  if (!openOnly || !rows[at].verdict) return;
  const next = find(at, 1) ?? find(at, -1);
  if (next === null) say('No sample is open.');
  else show(next, false);
}

// The CSV.  Every cell is quoted; a text that a spreadsheet would rewrite gets
// an apostrophe.
const quote = cell => `"${cell.replaceAll('"', '""')}"`;
const encode = text => risky.test(text) ? `'${text}` : text;
const decode = cell =>
  cell[0] === "'" && risky.test(cell.slice(1)) ? cell.slice(1) : cell;

function table() {
  return data.head + rows.map(row =>
    `${row.cells},${quote(row.verdict)},${quote(encode(row.note))},`
    + `${quote(row.digest)}\r\n`).join('');
}

function save() {
  const link = document.createElement('a');
  const blob = new Blob([table()], {type: 'text/csv;charset=utf-8'});
  link.href = URL.createObjectURL(blob);
  link.download = data.name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  unsaved = false;
  const done = rows.filter(row => row.verdict).length;
  say(`${data.name} has ${done} of ${rows.length} verdicts.`);
}

function parse(text) {
  text = text.replace(/^"?sep=[,;\t]"?\r?\n/, '');
  const first = text.match(/^[^\r\n]*/)[0];
  const count = sign => first.split(sign).length;
  const delimiter = [',', ';', '\t'].reduce(
    (best, sign) => count(sign) > count(best) ? sign : best);
  const found = [];
  let row = [], cell = '', i = 0;
  const end = () => { row.push(cell); cell = ''; };
  while (i < text.length) {
    if (text[i] === '"' && cell === '') {
      for (i++; i < text.length; i++) {
        if (text[i] !== '"') cell += text[i];
        else if (text[i + 1] === '"') { cell += '"'; i++; }
        else break;
      }
      i++;
    } else if (text[i] === delimiter) {
      end();
      i++;
    } else if (text[i] === '\r' || text[i] === '\n') {
      i += text.startsWith('\r\n', i) ? 2 : 1;
      end();
      found.push(row);
      row = [];
    } else cell += text[i++];
  }
  if (row.length || cell) { end(); found.push(row); }
  return found;
}

function take(bytes) {
  const wide = bytes[0] === 0xFF && bytes[1] === 0xFE ? 'utf-16le'
    : bytes[0] === 0xFE && bytes[1] === 0xFF ? 'utf-16be' : 'utf-8';
  const [heads, ...lines] = parse(
    new TextDecoder(wide, {fatal: true}).decode(bytes));
  const column = name =>
    (heads ?? []).findIndex(head => head.trim().toLowerCase() === name);
  const [digest, verdict, note] = ['digest', 'verdict', 'note'].map(column);
  if (Math.min(digest, verdict, note) < 0) throw new Error('not an audit');
  const where = new Map(rows.map((row, i) => [row.digest, i]));
  let taken = 0;
  const bad = [];
  lines.forEach((line, number) => {
    if (line.every(cell => !cell.trim())) return;
    const i = where.get((line[digest] ?? '').trim().toLowerCase());
    const word = (line[verdict] ?? '').trim().toLowerCase();
    const words = decode(line[note] ?? '');
    if (!word && !words) return;
    if (i === undefined || (word && !data.verdicts.includes(word))) {
      bad.push(number + 2);
      return;
    }
    if (word) rows[i].verdict = word;
    if (words) rows[i].note = words;
    keep(rows[i]);
    draw(i);
    taken += 1;
  });
  const done = count();
  say(`Taken from the file: ${taken} rows; ${done} of ${rows.length} done.`
    + (bad.length ? ` Not understood: ${bad.length}, first row ${bad[0]}.`
      : ''), bad.length > 0);
}

const picker = document.createElement('input');
picker.type = 'file';
picker.accept = '.csv,.txt,text/csv';
picker.hidden = true;
picker.addEventListener('change', async () => {
  const [file] = picker.files;
  if (!file) return;
  try {
    take(new Uint8Array(await file.arrayBuffer()));
  } catch {
    say(`${file.name}: wanted a CSV of this audit, in UTF-8.`, true);
  }
  picker.value = '';
});
document.body.append(picker);

function reset() {
  if (!confirm('Forget all verdicts and notes of this page?')) return;
  rows.forEach((row, i) => {
    row.verdict = row.note = '';
    keep(row);
    draw(i);
  });
  count();
  say('All samples are open.');
}

cards.forEach((card, i) => {
  for (const button of card.querySelectorAll('.verdicts button'))
    button.addEventListener('click', () => judge(i, button.dataset.verdict));
  card.querySelector('textarea').addEventListener('input', event => {
    rows[i].note = event.target.value;
    keep(rows[i]);
  });
  const [back, on] = card.querySelectorAll('.steps button');
  back.addEventListener('click', () => move(-1));
  on.addEventListener('click', () => move(1));
});
jumps.forEach((jump, i) => jump.addEventListener('click', () => show(i)));
// Who opens one reference solution wants to see the others too.
worked.forEach(part => part.addEventListener('toggle', () => {
  for (const other of worked) other.open = part.open;
}));
one('open').addEventListener('click', filter);
one('save').addEventListener('click', save);
one('load').addEventListener('click', () => picker.click());
one('reset').addEventListener('click', reset);

document.addEventListener('keydown', event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing)
    return;
  if (event.target instanceof HTMLTextAreaElement) {
    if (event.key === 'Escape') cards[at].querySelector('h2').focus();
    return;
  }
  const keys = {
    1: () => judge(at, 'sound'),
    2: () => judge(at, 'unsound'),
    3: () => judge(at, 'unsure'),
    n: () => move(1), ArrowRight: () => move(1),
    p: () => move(-1), ArrowLeft: () => move(-1),
    e: () => cards[at].querySelector('textarea').focus(),
    o: filter,
  };
  if (!Object.hasOwn(keys, event.key)) return;
  // A verdict key that is held down would give and take back in turn.
  if (event.repeat && '123'.includes(event.key)) return;
  event.preventDefault();
  keys[event.key]();
});
addEventListener('storage', event => {
  const i = rows.findIndex(row => store && store.name(row) === event.key);
  if (i < 0) return;
  store.read(rows[i]);
  draw(i);
  count();
});
addEventListener('beforeunload', event => {
  if (!store && unsaved) event.preventDefault();
});

document.body.classList.add('live');
if (store) rows.forEach(row => store.read(row));
else one('refused').hidden = false;
rows.forEach((_, i) => draw(i));
for (const part of all('.needs-script')) part.hidden = false;
if (count()) one('guide').open = false;
show(Math.max(0, rows.findIndex(row => !row.verdict)), false);
})();
"""
