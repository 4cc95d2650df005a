"""Operators: a TVMScript generator and a NumPy reference each, the CPU they are made for, and the compiled set."""
