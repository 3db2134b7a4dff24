"""The decoder: its config (no jax), its attention, the whole model."""
