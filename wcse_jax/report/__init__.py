"""The report of a study: a static HTML page without outside loads, and files.

html      the page: frame, content policy, order of the sections
summary   the answer, and what was compared
sampled   coverage, diversity, false positives of the sampled data
chosen    soundness by judge, selection, overlap of the sets
trained   the students
evidence  truth by brute force, outcome over cost ratios
appendix  cost, examples, notes, provenance
names     what arms, roles and budgets are called
figures   the charts: curves, rows, bars
charts    a chart with its numbers: on the page, as SVG, as CSV
drawing   parts of charts: scales, axes, marks
markup    tags and tables from text, which is escaped unless made here
text      numbers, estimates and intervals in words
style     the style sheet
"""
