"""The script of the sample browser's list.

It makes no markup from text: what it shows of a problem goes into text nodes.
"""

SCRIPT = r"""
'use strict';
(() => {
const data = JSON.parse(document.getElementById('data').textContent);
const one = id => document.getElementById(id);
const STEP = 100;
const RIGHT = [data.kinds.indexOf('right'), data.kinds.indexOf('unsound')];
const rows = data.rows.map(([page, id, level, question, answer, counts]) => {
  const right = counts.map(each => RIGHT.reduce((n, k) => n + each[k], 0));
  return {
    page, id, level, question, counts, right,
    all: counts.map(each => each.reduce((a, b) => a + b, 0)),
    words: `${id}\n${question}\n${answer}`.toLowerCase(),
  };
});
let found = rows;
let shown = 0;
let current = null;

function chosen(id) {
  const value = one(id).value;
  return value === '' ? null : Number(value);
}

function solved(row, how) {
  const by = row.right.map(n => n > 0);
  if (by.length < 2) return by.some(Boolean) === (how === 0);
  return [by[0] && !by[1], by[1] && !by[0], by[0] && by[1],
    !by[0] && !by[1]][how];
}

// Samples of a row that the model and kind asked for leave.
function samples(row, model, kind) {
  let count = 0;
  row.counts.forEach((each, i) => {
    if (model !== null && i !== model) return;
    each.forEach((n, k) => { if (kind === null || k === kind) count += n; });
  });
  return count;
}

function filter() {
  const words = one('search').value.toLowerCase().split(/\s+/).filter(Boolean);
  const [level, how, model, kind] =
    ['level', 'solved', 'model', 'kind'].map(chosen);
  let count = 0;
  found = rows.filter(row => {
    if (level !== null && row.level !== data.levels[level]) return false;
    if (how !== null && !solved(row, how)) return false;
    if (!words.every(word => row.words.includes(word))) return false;
    const n = samples(row, model, kind);
    if (n === 0 && (model !== null || kind !== null)) return false;
    count += n;
    return true;
  });
  one('count').textContent = `${found.length.toLocaleString('en')} problems, ` +
    `${count.toLocaleString('en')} samples`;
  one('list').replaceChildren();
  shown = 0;
  more();
}

function element(name, text, kind) {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function entry(row) {
  const item = document.createElement('li');
  const button = document.createElement('button');
  button.type = 'button';
  const head = document.createElement('span');
  head.className = 'head';
  head.append(element('b', row.id));
  if (row.level) head.append(element('span', `level ${row.level}`));
  data.roles.forEach((role, i) => head.append(
    element('span', `${role} ${row.right[i]}/${row.all[i]}`,
      row.right[i] ? 'some' : 'none')));
  button.append(head, element('span', row.question, 'question'));
  button.addEventListener('click', () => open(row));
  if (row === current) button.setAttribute('aria-current', 'true');
  row.button = button;
  item.append(button);
  return item;
}

function more() {
  const next = found.slice(shown, shown + STEP);
  one('list').append(...next.map(entry));
  shown += next.length;
  one('more').hidden = shown >= found.length;
}

function open(row, asked = true) {
  if (current && current.button) current.button.removeAttribute('aria-current');
  current = row;
  if (row.button) row.button.setAttribute('aria-current', 'true');
  one('frame').src = `pages/${row.page}`;
  one('frame').hidden = false;
  history.replaceState(null, '', `#${row.page.replace('.html', '')}`);
  if (asked && matchMedia('(max-width: 699px)').matches)
    one('frame').scrollIntoView({block: 'start'});
}

function step(by) {
  const at = found.indexOf(current);
  const next = found[at + by];
  if (!next) return;
  while (shown <= at + by) more();
  open(next);
  next.button.scrollIntoView({block: 'nearest'});
}

for (const id of ['level', 'solved', 'model', 'kind'])
  one(id).addEventListener('change', filter);
one('search').addEventListener('input', filter);
one('filters').addEventListener('submit', event => event.preventDefault());
one('more').addEventListener('click', more);
document.addEventListener('keydown', event => {
  if (event.target.matches('input, select') || event.ctrlKey || event.altKey
      || event.metaKey) return;
  if (event.key === 'n') step(1);
  if (event.key === 'p') step(-1);
});
one('filters').hidden = false;
filter();
const asked = rows.find(
  row => `#${row.page.replace('.html', '')}` === location.hash);
if (rows.length) open(asked || rows[0], Boolean(asked));
})();
"""
