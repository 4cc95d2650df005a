"""Is it fast? What this machine can do at best, and how near a model and each of its kernels come to that."""
