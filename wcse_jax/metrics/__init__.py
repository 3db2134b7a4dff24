"""Measures of sampled data, each with its number of problems and interval.

coverage    the chance that at least one of k samples is right
diversity   the number of distinct right solutions among k samples
intervals   bootstrap intervals over problems (and over training replicates)
measure     all of them from problems, samples and grades
"""
