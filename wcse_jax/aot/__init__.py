"""What a program would cost on a TPU slice, by compiling it without one."""
