"""Compile InternLM checkpoints ahead of time to the CPU at hand, and run them."""
