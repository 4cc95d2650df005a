"""A small process beside a rank that kills it when it has stopped: `python guard.py PID`, its beats coming by stdin.

Nobody else can where the rank is alone on its machine, and MPI's launcher would wait for it for ever. It runs without
the package, and ends with the rank.
"""

import os
import select
import signal
import sys

BEAT = 0.5
MOST_MISSED = 12
"""Beats of our own clock; a little more than others allow, which say who it is."""

MOST_AT_FIRST = 240
"""Before the first one, while MPI waits for all ranks to begin."""


def main() -> None:
    """Watch until the end of stdin."""
    missed, limit = 0, MOST_AT_FIRST
    while missed < limit:
        ready, _, _ = select.select([0], [], [], BEAT)
        if ready and not os.read(0, 1 << 12):
            return
        missed, limit = (0, MOST_MISSED) if ready else (missed + 1, limit)
    os.kill(int(sys.argv[1]), signal.SIGKILL)


if __name__ == "__main__":
    main()
