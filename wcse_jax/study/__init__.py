"""A whole study: sample, grade, measure, plan, train, evaluate, report.

settings  what a study is: models, arms, setups, budgets, test sets
design    what follows from it: counts, pools, students, folders
graph     stages that need others, and running those that are missing
stages    the stages of a study
exporting training sets for others
planning  the pilot's plan, and following it
outcome   what the students scored, and the answer
sampled   what the samples show: coverage, gaps, cost ratios
powers    what a study can find
dry       what it would cost, before it runs
recipes   studies to start from
findings  all numbers of the report
run       a study from beginning to end, or its report alone
"""
