"""The report of a study: a static HTML page without outside loads, and files.

html      the page: frame, content policy, order of the sections
summary   the answer, and what was compared
dial      a dial of the cost ratio
sampled   coverage, diversity, majority vote of the sampled data
spent     coverage against cost, in each currency
levels    coverage level by level, false positives
chosen    soundness by judge, selection, exports, overlap of the sets
trained   the students
contrasts differences between arms
evidence  truth by brute force
planned   what a pilot foretold
ratios    outcome over cost ratios
costs     what the study cost, part by part
appendix  examples, notes, prompts, provenance
live      what a served page has besides
following pages that follow a run folder
serving   the server of the pages, for this machine alone
brief     the study in short, as Markdown
names     what arms, roles and budgets are called
figures   the charts: curves, rows, bars
charts    a chart with its numbers: on the page, as SVG, as CSV
plots     estimates as marks
drawing   parts of charts: scales, axes, marks
rounding  round places of axes
markup    tags and tables from text, which is escaped unless made here
text      numbers, estimates and intervals in words
style     the style sheets
"""
