"""How long work tells how far it is, to whoever shows it."""

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""progress(done, total): how far one step is, in units of its own; done == total ends it."""

Report = Callable[[str, int, int], None]
"""report(step, done, total): the same for a job of named steps, which come one after the other."""
