"""Tries the unit as far as can be without systemd: its own checks, and whether the server lives with the restrictions.

python -m deploy.systemd.try_unit ARTIFACT RECORD

The server is run under strace, asked one question and told to end: every system call must be one that the unit allows,
and no file may be opened to be written. It is run once more where memory cannot become executable, as with
MemoryDenyWriteExecute: as long as it does not start there, the unit has to leave that setting off.
"""

from __future__ import annotations

import ctypes
import json
import re
import signal
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Final

UNIT: Final = Path(__file__).with_name("ilmari.service")
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
HARMLESS: Final = re.compile(r"/dev/(null|shm/\S*)|/proc/\S+|/sys/\S+")


def analyze(*words: str | Path) -> str:
    """What systemd-analyze prints."""
    return subprocess.run(["systemd-analyze", *words], check=True, capture_output=True, text=True).stdout


def allowed(filters: list[str]) -> set[str]:
    """System calls that SystemCallFilter= lines let through."""
    calls: set[str] = set()
    for line in filters:
        names = set().union(*(_expanded(name) for name in line.removeprefix("~").split()))
        calls = calls - names if line.startswith("~") else calls | names
    return calls


def _expanded(name: str) -> set[str]:
    if not name.startswith("@"):
        return {name}
    lines = [line.strip() for line in analyze("syscall-filter", name).splitlines()[1:]]
    return set().union(*(_expanded(line) for line in lines if line and not line.startswith("#")))


def serve(artifact: Path, *before: str) -> subprocess.Popen[str]:
    """`ilmari serve` on a free port, started by another program."""
    command = [*before, sys.executable, "-B", "-m", "ilmari", "serve", "--model", str(artifact), "--port", "0"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def traced(artifact: Path, log: Path) -> None:
    """Start the server, ask it one question, and end it, all under strace."""
    strace = serve(artifact, "strace", "--follow-forks", "--quiet=all", f"--output={log}")
    assert strace.stdout
    url = re.search(r"http://\S+", strace.stdout.readline())
    assert url, "the server does not start under strace"
    body = json.dumps({"prompt": "One, two,", "max_tokens": 8}).encode()
    question = urllib.request.Request(f"{url[0]}/v1/completions", body, {"content-type": "application/json"})
    with urllib.request.urlopen(question, timeout=300) as answer:
        assert json.load(answer)["usage"]["completion_tokens"]
    # strace hands no signals on; the first process in its log is the server.
    subprocess.run(["kill", f"-{signal.SIGTERM.name.removeprefix('SIG')}", log.read_text().split()[0]], check=True)
    assert strace.wait(300) == 0


def without_executable_memory(artifact: Path) -> bool:
    """Whether the server starts where memory cannot become executable."""

    def refuse() -> None:
        if ctypes.CDLL(None).prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0):
            raise OSError("this kernel cannot refuse executable memory")

    command = [sys.executable, "-m", "ilmari", "serve", "--model", str(artifact), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, preexec_fn=refuse)
    assert process.stdout
    started = bool(process.stdout.readline())
    process.terminate()
    process.wait()
    return started


def system_calls(log: list[str]) -> set[str]:
    """Those in strace's log."""
    return {match[1] for line in log if (match := re.match(r"\d+ +(\w+)\(", line))}


def files_written(log: list[str]) -> list[str]:
    """Files that were opened to be written, but for devices and shared memory."""
    opened = re.compile(r'\d+ +open(?:at)?\((?:AT_FDCWD, )?"([^"]*)", \S*(?:O_WRONLY|O_RDWR|O_CREAT).*= \d')
    names = {match[1] for line in log if (match := opened.match(line))}
    return sorted(name for name in names if not HARMLESS.fullmatch(name))


def main(artifact: Path, record: Path) -> None:
    """Run the trial and write what was seen."""
    text = UNIT.read_text()
    with tempfile.TemporaryDirectory() as name:
        unit, trace = Path(name) / UNIT.name, Path(name) / "strace"
        unit.write_text(text.replace("/opt/ilmari/bin/ilmari", sys.executable))
        analyze("verify", "--man=no", unit)
        security = analyze("security", "--offline=true", "--no-pager", unit)
        traced(artifact, trace)
        log = trace.read_text().splitlines()
    calls = system_calls(log)
    denied = sorted(calls - allowed(re.findall(r"^SystemCallFilter=(.*)$", text, re.MULTILINE)))
    seen = {
        "systemd": analyze("--version").split()[1],
        "exposure": security.strip().splitlines()[-1],
        "system_calls": sorted(calls),
        "system_calls_denied": denied,
        "files_written": files_written(log),
        "starts_where_memory_cannot_become_executable": without_executable_memory(artifact),
    }
    record.write_text(json.dumps(seen, indent=2, ensure_ascii=False) + "\n")
    print(record.read_text())
    if denied or seen["files_written"]:
        raise SystemExit("the unit does not allow what the server does")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
