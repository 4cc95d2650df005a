"""The real commands as processes, for every end-to-end test."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ILMARI = (sys.executable, "-m", "ilmari")
STORED = (sys.executable, str(Path(__file__).with_name("stored_ilmari.py")))
"""The same with kernels from a store; what follows is the store and the program's name."""

Result = subprocess.CompletedProcess[str]


def run(
    command: tuple[str, ...],
    *args: str | Path,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Result:
    """Run a command to its end; its text is decoded but otherwise left as it came, line ends too."""
    done = subprocess.run([*command, *map(str, args)], input=stdin, capture_output=True, check=False, env=env, cwd=cwd)
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def ilmari(*args: str | Path, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Result:
    """Run `ilmari` to its end."""
    return run(ILMARI, *args, stdin=stdin, env=env)


def assert_refused(result: Result, *fragments: str) -> None:
    """A user's mistake: exit code 2, nothing on stdout, and one line that says all of `fragments`."""
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    for fragment in fragments:
        assert fragment in result.stderr
