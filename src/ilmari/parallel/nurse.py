"""Runs a rank on behalf of MPI's launcher: `python nurse.py COMMAND...`.

Where one rank ends, most launchers kill the others at once. They learn of an end from here a moment later than the
ranks learn of it from each other, so that these can say which one it was. This runs without the package.
"""

import subprocess
import sys
import time

LAST_WORDS = 2.0  # seconds


def main() -> int:
    """Wait for the command's end; its exit code."""
    # The launcher's open files are the rank's too: by one of them it joins the others.
    code = subprocess.call(sys.argv[1:], close_fds=False)
    if code:
        time.sleep(LAST_WORDS)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
