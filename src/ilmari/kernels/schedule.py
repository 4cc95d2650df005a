"""When work is spread over threads."""

PARALLEL_ROWS = 8
"""Rows below which an element-wise kernel runs on the calling thread: waking the others costs more than it saves."""

MANY_ROWS = 24
"""Rows from which on a linear layer is limited by arithmetic more than by reading its weights."""
