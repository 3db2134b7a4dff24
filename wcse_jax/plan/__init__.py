"""From a cheap pilot to a decision: which model to sample from, how often."""
