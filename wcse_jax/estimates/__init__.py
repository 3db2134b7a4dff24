"""What stages will cost and how long they take, before anything is spent.

jobs      what is to be done: sampling, training, grading; its FLOPs and bytes
sizes     bytes and meshes of it
figures   an estimate; sums, rows and the text table
here      estimates for this machine
shares    which part of a machine's peak is reached: the one table
tpu       estimates for a TPU slice, by compiling for it
kept      compiled figures, kept on the disk

`launch/study.py --dry_run` makes the jobs of a study and prints them.
"""
