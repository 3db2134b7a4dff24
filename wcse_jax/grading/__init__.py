"""Verdicts on texts: final answers and reasoning."""
