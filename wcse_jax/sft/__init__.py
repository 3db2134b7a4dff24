"""Supervised fine-tuning: data, the jitted step, and the loop around it."""
