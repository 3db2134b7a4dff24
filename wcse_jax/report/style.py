"""The style sheets of the report, and of a chart that stands alone.

Colours: WC blue, SE vermilion; up to six further models have tones that were
chosen to be far from these and from each other with any colour vision.  In
charts the shape of the mark and the dashes of the line tell them apart too.
Print is always light.
"""

from collections.abc import Callable


LIGHT = {
  'paper': '#ffffff',
  'ink': '#1a1f24',
  'soft': '#56606b',
  'rule': '#d5dae0',
  'tint': '#f3f5f7',
  'warn': '#8a5a00',
  'warn-tint': '#fff5dd',
  'wc': '#0069a8',
  'se': '#c04a00',
  'mix': '#83489a',
  'cascade': '#00735a',
  'human': '#56606b',
  'm1': '#9016fa',
  'm2': '#5c1233',
  'm3': '#32038f',
  'm4': '#a85a77',
  'm5': '#77060c',
  'm6': '#43155e',
}
DARK = {
  'paper': '#14181c',
  'ink': '#e8ebee',
  'soft': '#a3adb8',
  'rule': '#373f48',
  'tint': '#1e242a',
  'warn': '#f2c46b',
  'warn-tint': '#2e2718',
  'wc': '#62bbf2',
  'se': '#ff9c5c',
  'mix': '#cda3e0',
  'cascade': '#55cca8',
  'human': '#a3adb8',
  'm1': '#f2477a',
  'm2': '#fce517',
  'm3': '#8370fb',
  'm4': '#adf4ad',
  'm5': '#b864aa',
  'm6': '#19fbde',
}
# Kind of a mark -> its colour, and the dashes of its line.
KINDS = {
  'wc': ('wc', ''),
  'se': ('se', '6 3'),
  'wc-matched': ('wc', ''),
  'mix': ('mix', ''),
  'cascade': ('cascade', ''),
  'human': ('human', ''),
  'm1': ('m1', '2 2'),
  'm2': ('m2', '9 3 2 3'),
  'm3': ('m3', '12 4'),
  'm4': ('m4', '4 2 1 2'),
  'm5': ('m5', '1 3'),
  'm6': ('m6', '9 2 2 2 2 2'),
  'other': ('human', ''),
}
_FONT = """system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans',
    'DejaVu Sans', sans-serif"""


def _variables(colours: dict[str, str]) -> str:
  return ' '.join(f'--{name}: {value};' for name, value in colours.items())


def _chart(of: Callable[[str], str]) -> str:
  """Returns the rules of charts; `of` gives the CSS of a colour's name."""
  rules = [
    f"""
svg text {{ font-size: 12.5px; fill: {of('ink')}; }}
svg .soft {{ fill: {of('soft')}; }}
svg .end {{ text-anchor: end; }}
svg .middle {{ text-anchor: middle; }}
svg .halo {{
  paint-order: stroke; stroke: {of('paper')}; stroke-width: 4px;
}}
.gridline {{ stroke: {of('rule')}; stroke-width: 1; fill: none; }}
.zero {{ stroke: {of('soft')}; stroke-width: 1; fill: none; }}
.own {{
  stroke: {of('ink')}; stroke-width: 1.25; stroke-dasharray: 2 3; fill: none;
}}
.line, .whisker {{ stroke-width: 2; fill: none; }}
.band {{ fill-opacity: 0.17; stroke: none; }}
.mark {{ stroke: {of('paper')}; stroke-width: 1; }}
.run {{ fill: none; stroke-width: 1.25; }}
.bar {{ fill-opacity: 0.75; }}
"""
  ]
  for kind, (colour, dashes) in KINDS.items():
    tone = of(colour)
    strokes = ', '.join(f'.{kind} > .{n}' for n in ('line', 'whisker', 'run'))
    fills = ', '.join(f'.{kind} > .{n}' for n in ('band', 'mark', 'bar'))
    rules.append(
      f'{strokes} {{ stroke: {tone}; }}\n{fills} {{ fill: {tone}; }}\n'
    )
    if dashes:
      rules.append(f'.{kind} > .line {{ stroke-dasharray: {dashes}; }}\n')
  rules.append(
    f'.wc-matched > .mark {{ fill: {of("paper")}; stroke: {of("wc")}; '
    'stroke-width: 2; }\n'
  )
  return ''.join(rules)


# Of a chart in a file of its own: light, whatever the reader prefers, and
# without variables, which few programs but browsers know.
ALONE = (
  f'svg {{ font-family: {_FONT}; }}'
  + _chart(LIGHT.__getitem__)
  + f"""svg .sheet {{ fill: {LIGHT['paper']}; }}
svg .heading {{ font-size: 14px; font-weight: 600; }}
svg .caption {{ font-size: 11.5px; fill: {LIGHT['soft']}; }}
.cursor {{ display: none; }}
"""
)

SHEET = (
  f"""
:root {{ color-scheme: light dark; {_variables(LIGHT)} }}
@media screen and (prefers-color-scheme: dark) {{
  :root {{ {_variables(DARK)} }}
}}
"""
  """@media print { :root { color-scheme: light; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body {
  margin: 0 auto; max-width: 72rem; padding: 1.5rem 1rem 3rem;
  background: var(--paper); color: var(--ink);
  font: 16px/1.5 """
  + _FONT
  + """;
  overflow-wrap: anywhere;
}
@media (min-width: 700px) { body { padding: 2rem 2rem 4rem; } }
h1 { font-size: 1.15rem; line-height: 1.3; margin: 0; color: var(--soft); }
h2 {
  font-size: 1.35rem; line-height: 1.25; margin: 3rem 0 0.5rem;
  padding-top: 0.75rem; border-top: 2px solid var(--ink);
}
h3 { font-size: 1.08rem; line-height: 1.3; margin: 1.75rem 0 0.35rem; }
h4 { font-size: 1rem; line-height: 1.3; margin: 1.25rem 0 0.25rem; }
p, ul, dl { margin: 0.5rem 0; max-width: 46rem; }
ul { padding-left: 1.2rem; }
a { color: inherit; text-underline-offset: 0.15em; }
nav { margin: 1.25rem 0 0; font-size: 0.92rem; }
nav a { display: inline-block; margin: 0 1rem 0 0; padding: 0.2rem 0; }
.answer {
  font-size: 1.4rem; line-height: 1.35; font-weight: 650; max-width: 52rem;
  margin: 0.6rem 0 0.75rem;
}
@media (min-width: 700px) { .answer { font-size: 1.75rem; } }
.lead { color: var(--soft); }
.absent { color: var(--soft); font-style: italic; }
.banner {
  background: var(--warn-tint); border-left: 4px solid var(--warn);
  padding: 0.5rem 0.75rem; max-width: 46rem;
}
.grid {
  display: grid; gap: 1.5rem 2rem; margin: 1rem 0; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 20.5rem), 1fr));
}
@media screen and (min-width: 700px) {
  .pairs {
    grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 26rem));
  }
}
figure { margin: 0; max-width: 30rem; break-inside: avoid; }
figcaption { font-size: 0.88rem; line-height: 1.4; color: var(--soft); }
figcaption a { white-space: nowrap; }
figure .title { font-weight: 600; margin: 0; line-height: 1.3; }
svg { display: block; width: 100%; height: auto; margin: 0.35rem 0; }
"""
  + ''.join(
    f'.{kind} {{ --tone: var(--{colour}); }}\n'
    for kind, (colour, _) in KINDS.items()
  )
  + _chart('var(--{})'.format)
  + """.key { font-weight: 650; color: var(--tone); }
label.dial { font-size: 1.15rem; font-weight: 600; }
.dial output {
  display: inline-block; min-width: 2.6em; text-align: center;
  border-bottom: 2px solid var(--ink); font-variant-numeric: tabular-nums;
}
#dial-control[hidden] { display: none; }
#dial-control { margin: 0.25rem 0; max-width: 46rem; }
#dial {
  display: block; width: 100%; height: 2.75rem; margin: 0;
  accent-color: var(--ink);
}
#dial-own {
  display: flex; flex-wrap: wrap; gap: 0.5rem; align-items: center;
}
#dial-own button {
  font: inherit; font-size: 0.88rem; color: inherit; background: var(--tint);
  border: 1px solid var(--soft); border-radius: 6px; cursor: pointer;
  min-height: 2.5rem; padding: 0.2rem 0.75rem;
}
#ratio :focus-visible { outline: 3px solid var(--wc); outline-offset: 2px; }
.cursor { visibility: hidden; stroke: var(--ink); stroke-width: 2; }
.live .cursor { visibility: visible; }
.scroll {
  overflow-x: auto; margin: 0.75rem 0; max-width: 100%;
  border: 1px solid var(--rule); border-radius: 4px;
  background:
    linear-gradient(var(--paper), var(--paper)) right / 24px 100% no-repeat
      local,
    linear-gradient(to left, var(--rule), transparent) right / 12px 100%
      no-repeat scroll;
}
table { border-collapse: collapse; font-size: 0.9rem; width: 100%; }
th, td {
  padding: 0.4rem 0.7rem; text-align: left; vertical-align: top;
  border-top: 1px solid var(--rule); overflow-wrap: normal;
}
th { font-weight: 600; max-width: 16rem; overflow-wrap: anywhere; }
th[scope='row'] {
  position: sticky; left: 0; min-width: 7.25rem; background: var(--paper);
}
th .interval { white-space: normal; font-weight: 400; overflow-wrap: normal; }
@media (max-width: 560px) { th { max-width: 8.5rem; } }
thead th {
  border-top: 0; background: var(--tint); vertical-align: bottom;
  font-size: 0.85rem; overflow-wrap: normal;
}
.num { text-align: right; font-variant-numeric: tabular-nums; }
.value { font-weight: 600; white-space: nowrap; }
.interval {
  display: block; font-size: 0.91em; color: var(--soft); white-space: nowrap;
}
.marked th, .marked td { background: var(--tint); }
.marked th[scope='row'] { box-shadow: inset 3px 0 0 var(--ink); }
details { margin: 0.75rem 0; }
summary { cursor: pointer; font-weight: 600; padding: 0.2rem 0; }
pre {
  white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: plaintext;
  font: 0.85rem/1.45 ui-monospace, 'DejaVu Sans Mono', Menlo, monospace;
  background: var(--tint); border-radius: 4px; padding: 0.6rem 0.75rem;
  margin: 0.35rem 0 0.75rem; max-width: 52rem;
}
.sample { border-left: 3px solid var(--tone); padding-left: 0.75rem; }
.sample p { margin: 0.25rem 0; }
dl.facts { display: grid; gap: 0.15rem 1rem; margin: 0.75rem 0; }
dl.facts dt { font-weight: 600; }
dl.facts dd { margin: 0 0 0.35rem; color: var(--soft); min-width: 0; }
@media (min-width: 560px) {
  dl.facts { grid-template-columns: minmax(9rem, max-content) 1fr; }
  dl.facts dt { max-width: 18rem; }
  dl.facts dd { margin: 0; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 10.5pt; }
  nav, figcaption a, #dial-control { display: none; }
  h2 { break-after: avoid; margin-top: 1.5rem; }
  h3 { break-after: avoid; }
  .scroll { overflow: visible; border: 0; background: none; }
  th[scope='row'] { position: static; }
  table { font-size: 8pt; }
  tr, .sample { break-inside: avoid; }
  .interval, .value { white-space: normal; }
  .grid { grid-template-columns: repeat(2, 1fr); }
  details::details-content { content-visibility: visible; display: block; }
}
"""
)
