"""ilmari beside what its users would pick instead, on the same machine and the same model."""
