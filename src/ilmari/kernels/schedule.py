"""When work is spread over threads, and which kernel does it."""

PARALLEL_ROWS = 8
"""Rows below which an element-wise kernel runs on the calling thread: waking the others costs more than it saves."""

PREFILL_ROWS = 32
"""Rows from which a linear layer runs the kernel for many rows: what that prepares for all of them has to pay off."""
