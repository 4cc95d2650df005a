"""Tokens in, tokens out: sequences over a paged KV cache, run through compiled kernels."""
