"""How a command ends: the exit code, and one line instead of a traceback for what a user can mend."""

import errno
import io
import os
import sys

import typer

from ilmari.errors import IlmariError

USER_ERROR = 2
INTERRUPTED = 130

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def run(app: typer.Typer, name: str) -> int:
    """Run a command line to its exit code: 0, 2 for a user's mistake, 130 after Ctrl-C, 1 for a closed pipe."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as Python has it for stderr: models write any character
    try:
        code = _run(app, name)
        sys.stdout.flush()
    except BrokenPipeError:
        code = 1
    except OSError as error:
        # What commands write elsewhere has a name and a sentence of its own.
        if error.errno not in _NO_ROOM or error.filename is not None:
            raise
        print_error(f"stdout cannot be written ({error.strerror}); free space, or send it elsewhere.")
        code = USER_ERROR
    else:
        return code
    # Give the interpreter's own flush at exit somewhere to write.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _run(app: typer.Typer, name: str) -> int:
    try:
        app(prog_name=name)
    except IlmariError as error:
        print_error(str(error))
        return USER_ERROR
    except KeyboardInterrupt:
        code: object = INTERRUPTED
    except SystemExit as end:
        code = end.code
    if code == INTERRUPTED:
        print("interrupted", file=sys.stderr)
    return code if isinstance(code, int) else 0


def print_error(text: str) -> None:
    """Print a sentence about what a user can mend; files and arguments that it quotes may hold anything."""
    print(f"error: {printable(text)}", file=sys.stderr)


def printable(text: str) -> str:
    """`text` on one line, with what could move a terminal's cursor or colour it escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
