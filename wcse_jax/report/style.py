"""The style sheet of the report.

Colours: WC blue, SE vermilion, told apart with any colour vision and, in
charts, by the shape of the mark too.  Print is always light.
"""

SHEET = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --ink: #1a1f24; --soft: #56606b; --rule: #d5dae0;
  --tint: #f3f5f7; --warn: #8a5a00; --warn-tint: #fff5dd;
  --wc: #0069a8; --se: #c04a00; --mix: #83489a; --cascade: #00735a;
  --human: #56606b;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --paper: #14181c; --ink: #e8ebee; --soft: #a3adb8; --rule: #373f48;
    --tint: #1e242a; --warn: #f2c46b; --warn-tint: #2e2718;
    --wc: #62bbf2; --se: #ff9c5c; --mix: #cda3e0; --cascade: #55cca8;
    --human: #a3adb8;
  }
}
@media print { :root { color-scheme: light; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body {
  margin: 0 auto; max-width: 72rem; padding: 1.5rem 1rem 3rem;
  background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans',
    'DejaVu Sans', sans-serif;
  overflow-wrap: anywhere;
}
@media (min-width: 700px) { body { padding: 2rem 2rem 4rem; } }
h1 { font-size: 1.15rem; line-height: 1.3; margin: 0; color: var(--soft); }
h2 {
  font-size: 1.35rem; line-height: 1.25; margin: 3rem 0 0.5rem;
  padding-top: 0.75rem; border-top: 2px solid var(--ink);
}
h3 { font-size: 1.08rem; line-height: 1.3; margin: 1.75rem 0 0.35rem; }
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
figure .title { font-weight: 600; margin: 0; line-height: 1.3; }
svg { display: block; width: 100%; height: auto; margin: 0.35rem 0; }
svg text { font-size: 12.5px; fill: var(--ink); }
svg .soft { fill: var(--soft); }
svg .end { text-anchor: end; }
svg .middle { text-anchor: middle; }
svg .halo { paint-order: stroke; stroke: var(--paper); stroke-width: 4px; }
.axis, .gridline, .zero, .own { stroke: var(--rule); fill: none; }
.gridline { stroke-width: 1; }
.axis, .zero { stroke: var(--soft); stroke-width: 1; }
.own { stroke: var(--ink); stroke-width: 1.25; stroke-dasharray: 2 3; }
.wc { --tone: var(--wc); }
.se { --tone: var(--se); }
.wc-matched { --tone: var(--wc); }
.mix { --tone: var(--mix); }
.cascade { --tone: var(--cascade); }
.human, .other { --tone: var(--human); }
.line { stroke: var(--tone); stroke-width: 2; fill: none; }
.se .line { stroke-dasharray: 6 3; }
.band { fill: var(--tone); fill-opacity: 0.17; stroke: none; }
.whisker { stroke: var(--tone); stroke-width: 2; fill: none; }
.mark { fill: var(--tone); stroke: var(--paper); stroke-width: 1; }
.wc-matched .mark { fill: var(--paper); stroke: var(--tone); stroke-width: 2; }
.run { fill: none; stroke: var(--tone); stroke-width: 1.25; }
.bar { fill: var(--tone); fill-opacity: 0.75; }
.key { font-weight: 650; color: var(--tone); }
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
  nav { display: none; }
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
