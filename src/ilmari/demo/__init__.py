"""The demo: small real weights, fetched from a package index and laid out as an InternLM2 checkpoint."""
