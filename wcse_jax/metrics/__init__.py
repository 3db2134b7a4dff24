"""Measures of sampled data, each with its number of problems and interval.

coverage       the chance that at least one of k samples is right
extrapolation  the same at more samples than were drawn
diversity      the number of distinct right solutions among k samples
entropy        how varied the wording of right solutions is
majority       maj@k, and the majority vote as verifier
intervals      bootstrap intervals over problems (and over training replicates)
table          graded samples as columns, from rows that pass once
quantity       every measure as two numbers of each problem
measure        all of them from one table
contrast       one model against another on the same problems
"""
