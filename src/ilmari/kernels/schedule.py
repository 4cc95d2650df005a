"""When work is spread over threads, and which kernel does it."""

PARALLEL_ROWS = 8
"""Rows below which an element-wise kernel runs on the calling thread: waking the others costs more than it saves."""
