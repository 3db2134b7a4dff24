"""Pallas kernels, and what they must compute."""
