"""The style sheet of the sample browser, behind that of the report.

A verdict is told by its word, never by its colour alone.
"""

SHEET = """
:root { --good: #00735a; --bad: #b3380a; --doubt: #8a5a00; }
@media screen and (prefers-color-scheme: dark) {
  :root { --good: #55cca8; --bad: #ff9c7c; --doubt: #f2c46b; }
}
[hidden] { display: none !important; }
.browser { max-width: 100rem; padding-bottom: 1rem; }
.browser h1, .problem h1 { font-size: 1.35rem; color: var(--ink); }
#filters {
  display: flex; flex-wrap: wrap; gap: 0.5rem 1rem; margin: 0.75rem 0 0;
}
#filters label { font-size: 0.85rem; color: var(--soft); }
#filters input, #filters select {
  display: block; font: inherit; font-size: 1rem; color: var(--ink);
  background: var(--paper); border: 1px solid var(--soft); border-radius: 6px;
  padding: 0.3rem 0.5rem; min-height: 2.5rem; max-width: 100%;
}
#filters input { width: 16rem; }
#count { color: var(--soft); font-variant-numeric: tabular-nums; }
#panes { display: grid; gap: 1rem; }
#side { max-height: 45vh; overflow-y: auto; }
#frame {
  width: 100%; height: 90vh; border: 1px solid var(--rule); border-radius: 8px;
  background: var(--paper);
}
@media (min-width: 700px) {
  #panes { grid-template-columns: minmax(15rem, 1fr) 2.6fr; }
  #side, #frame { height: 76vh; max-height: none; }
}
#list { list-style: none; margin: 0; padding: 0; }
#list button, #more {
  display: block; width: 100%; text-align: left; font: inherit; color: inherit;
  background: none; border: 0; border-bottom: 1px solid var(--rule);
  padding: 0.5rem 0.6rem; min-height: 2.75rem; cursor: pointer;
}
#list button:hover, #more:hover { background: var(--tint); }
#list button[aria-current='true'] {
  background: var(--tint); box-shadow: inset 4px 0 0 var(--ink);
}
.browser :focus-visible { outline: 3px solid var(--wc); outline-offset: -3px; }
#list .head { display: flex; flex-wrap: wrap; gap: 0 0.8rem; }
#list .head span { color: var(--soft); font-size: 0.85rem; }
#list .head .some { color: var(--good); }
#list .question {
  font-size: 0.88rem; line-height: 1.35; color: var(--soft); overflow: hidden;
  display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2;
}
.problem { max-width: none; padding: 1rem; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; }
.question.text { font-size: 1.05rem; margin: 0.5rem 0; max-width: 52rem; }
.columns { display: grid; gap: 1rem 2rem; margin-top: 1rem; }
@media (min-width: 600px) {
  .columns { grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); }
}
.problem h2 { font-size: 1.1rem; margin: 0; border-top: 0; padding: 0; }
.problem details { margin: 0.6rem 0; }
.problem article {
  border-left: 3px solid var(--rule); padding: 0.1rem 0 0.1rem 0.8rem;
  margin: 0.8rem 0;
}
.problem article .text { font-size: 0.95rem; }
.problem .indices, .problem .found {
  font-size: 0.82rem; color: var(--soft); margin: 0.2rem 0;
}
.kind { font-weight: 650; }
.kind.right { color: var(--good); }
.kind.wrong, .kind.cut { color: var(--bad); }
.kind.unsound, .kind.ungraded { color: var(--doubt); }
mark {
  background: var(--warn-tint); color: inherit; outline: 2px solid var(--bad);
}
"""
