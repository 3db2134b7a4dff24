"""Other engines, timed on the work of `bench`."""
