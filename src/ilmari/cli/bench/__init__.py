"""`ilmari bench`: how fast this machine is, and how near a model and its kernels come to that."""
