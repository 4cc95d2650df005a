"""The demo: small real weights, fetched from a package index and laid out as an InternLM2 checkpoint."""

from collections.abc import Callable

Report = Callable[[str, int, int], None]
"""Called as `report(step, done, total)` while a step goes on; `done` and `total` are in the step's own unit."""
