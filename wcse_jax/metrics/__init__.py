"""Measures of sampled data, each with its number of problems and interval.

coverage       the chance that at least one of k samples is right
extrapolation  the same at more samples than were drawn
diversity      the number of distinct right solutions among k samples
entropy        how varied the wording of right solutions is
majority       maj@k, and the majority vote as verifier
intervals      intervals over problems
shares         the interval of a share of known variance
replicated     intervals of students that were trained several times
multiple       p-values of several questions
power          how small a difference a study can find
calibration    how often a study's own intervals hold the truth
candidates     the intervals that were tried
populations    made-up students whose true accuracy is known
simulated_studies, simulated_data
               how often all these hold the truth
table          graded samples as columns, from rows that pass once
quantity       every measure as two numbers of each problem
measure        all of them from one table
contrast       one model against another on the same problems
"""
