"""The style sheet of the audit page, behind that of the report.

A verdict is told by its sign and its word, never by its colour alone.
"""

SHEET = """
:root { --sound: #00735a; --unsound: #b3380a; --unsure: #8a5a00; }
@media screen and (prefers-color-scheme: dark) {
  :root { --sound: #55cca8; --unsound: #ff9c7c; --unsure: #f2c46b; }
}
body { max-width: 84rem; padding-bottom: 0; }
[hidden] { display: none !important; }
h1 { font-size: 1.5rem; color: var(--ink); }
h2 { border-top: 0; margin: 0; padding: 0; font-size: 1.15rem; }
h3 {
  margin: 1.25rem 0 0.4rem; font-size: 0.8rem; letter-spacing: 0.05em;
  text-transform: uppercase; color: var(--soft);
}
header .lead { margin-top: 0.2rem; }
.guide { margin: 0.75rem 0 0.6rem; }
.guide ul { margin: 0.4rem 0; }
.guide li { margin: 0.4rem 0; max-width: 46rem; }
.word { font-weight: 650; }
.word.sound { color: var(--sound); }
.word.unsound { color: var(--unsound); }
.word.unsure { color: var(--unsure); }
kbd {
  font: 0.8em/1 ui-monospace, 'DejaVu Sans Mono', Menlo, monospace;
  border: 1px solid var(--rule); border-bottom-width: 2px; border-radius: 4px;
  padding: 0.1em 0.4em; background: var(--paper); color: var(--soft);
}
button {
  font: inherit; color: inherit; background: var(--paper);
  border: 1px solid var(--edge, var(--soft)); border-radius: 8px;
  padding: 0.45rem 0.8rem; min-height: 2.75rem; cursor: pointer;
}
button:hover { background: var(--tint); }
button:disabled { opacity: 0.45; cursor: default; }
:focus-visible { outline: 3px solid var(--wc); outline-offset: 2px; }
article:focus, h2:focus { outline: none; }
button[aria-pressed='true'] {
  background: var(--ink); color: var(--paper); border-color: var(--ink);
}
#bar {
  position: sticky; top: 0; z-index: 2; display: flex; flex-wrap: wrap;
  align-items: center; gap: 0.4rem 0.6rem; padding: 0.5rem 0;
  background: var(--paper); border-bottom: 1px solid var(--rule);
}
#done { flex: 1 1 12rem; display: flex; gap: 0.75rem; align-items: center; }
#count { font-variant-numeric: tabular-nums; white-space: nowrap; }
progress {
  flex: 1 1 6rem; max-width: 22rem; height: 0.6rem; border: 0;
  border-radius: 1rem; overflow: hidden; background: var(--rule);
  appearance: none;
}
progress::-webkit-progress-bar { background: var(--rule); }
progress::-webkit-progress-value {
  background: var(--sound); border-radius: 1rem;
}
progress::-moz-progress-bar { background: var(--sound); border-radius: 1rem; }
#bar button, .more button {
  padding: 0.3rem 0.7rem; font-size: 0.92rem; min-height: 2.5rem;
}
#save { background: var(--ink); color: var(--paper); border-color: var(--ink); }
#save:hover { background: var(--soft); }
#map details { margin: 0.4rem 0; }
#status {
  flex: 1 1 12rem; margin: 0; color: var(--soft); font-size: 0.9rem;
  line-height: 1.3; text-align: right;
}
#status.bad, .warning { color: var(--unsound); font-weight: 600; }
#map div { display: flex; flex-wrap: wrap; gap: 0.35rem; padding: 0.5rem 0; }
#jumps button {
  --edge: var(--rule); min-width: 3.1rem; padding: 0.2rem 0.3rem;
  min-height: 2.4rem; font-size: 0.85rem; font-variant-numeric: tabular-nums;
}
#jumps button[data-verdict] { color: var(--tone); border-color: var(--tone); }
[data-verdict='sound'] { --tone: var(--sound); }
[data-verdict='unsound'] { --tone: var(--unsound); }
[data-verdict='unsure'] { --tone: var(--unsure); }
#jumps button[data-verdict='sound']::after { content: ' \\2713'; }
#jumps button[data-verdict='unsound']::after { content: ' \\2717'; }
#jumps button[data-verdict='unsure']::after { content: ' ?'; }
#jumps button[aria-current] {
  outline: 2px solid var(--ink); outline-offset: 1px;
}
article { padding: 1rem 0 0; border-top: 1px solid var(--rule); }
.live article {
  border-top: 0; display: flex; flex-direction: column;
  min-height: calc(100vh - 4rem); min-height: calc(100dvh - 4rem);
}
.where {
  display: flex; flex-wrap: wrap; gap: 0.1rem 1rem; align-items: baseline;
}
.where p { margin: 0; font-size: 0.88rem; color: var(--soft); }
.sides { display: grid; gap: 0 2.5rem; grid-template-columns: minmax(0, 1fr); }
@media (min-width: 900px) {
  .sides { grid-template-columns: minmax(0, 5fr) minmax(0, 6fr); }
}
.text {
  white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: plaintext;
  tab-size: 4; line-height: 1.6;
}
.program .text {
  font: 0.88rem/1.5 ui-monospace, 'DejaVu Sans Mono', Menlo, monospace;
}
.solution {
  background: var(--tint); border-radius: 8px; padding: 0.8rem 1rem;
  border-left: 4px solid var(--soft);
}
.final { font-weight: 650; }
.dock {
  position: sticky; bottom: 0; background: var(--paper); z-index: 1;
  border-top: 1px solid var(--rule); margin-top: 1.5rem; padding: 0.6rem 0;
  display: grid; gap: 0.5rem; grid-template-columns: minmax(0, 1fr) auto;
  align-items: end;
}
@media (min-width: 900px) {
  .dock {
    grid-template-columns: minmax(24rem, auto) minmax(0, 1fr) auto;
    align-items: end;
  }
}
.live .dock { margin-top: auto; }
.sides { margin-bottom: 1.5rem; }
.verdicts, .steps { display: flex; gap: 0.5rem; }
.verdicts button {
  flex: 1 1 0; font-weight: 600; padding: 0.4rem 0.6rem; white-space: nowrap;
  color: var(--tone); border-color: var(--tone);
}
.verdicts button[aria-pressed='true'] {
  background: var(--tone); border-color: var(--tone); color: var(--paper);
}
.steps button { white-space: nowrap; }
@media (max-width: 899px) {
  .verdicts { grid-column: 1 / -1; }
  .steps button { min-width: 3rem; }
  .steps .words, .dock kbd { display: none; }
}
.dock label { display: block; }
textarea {
  font: inherit; color: inherit; background: var(--paper); width: 100%;
  height: 2.75rem; min-height: 2.75rem; resize: vertical; display: block;
  border: 1px solid var(--soft); border-radius: 8px; padding: 0.55rem 0.7rem;
}
textarea::placeholder { color: var(--soft); opacity: 1; }
.unseen {
  position: absolute; width: 1px; height: 1px; overflow: hidden;
  clip-path: inset(50%); white-space: nowrap;
}
@media (max-width: 560px) {
  body { padding-top: 1rem; }
  #done { flex: 1 1 3rem; }
  #done progress { display: none; }
  #status { order: 1; flex-basis: 100%; text-align: left; min-height: 1.3em; }
  #bar .words { display: none; }
}
@media (max-height: 560px) { #bar, .dock { position: static; } }
@media print { #bar, #map, .dock, #status { display: none; } }
"""
