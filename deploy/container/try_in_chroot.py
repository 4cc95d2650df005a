"""Performs the steps of the Containerfile in clean roots made by debootstrap, and runs the server there.

sudo unshare --mount python -m deploy.container.try_in_chroot ARTIFACT RECORD [FOLDER ...]

Debian's own Python stands in for the image's. FOLDERs are those that pip's configuration names, if any. As a container
would, the server runs as the file's USER, in a root that it cannot write, with the model mounted read-only. It is asked
one question, its HEALTHCHECK is run, and it is told to end.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

FILE: Final = Path(__file__).with_name("Containerfile")
SOURCES: Final = Path(__file__).resolve().parents[2]
PACKAGES: Final = "python3,python3-venv,ca-certificates"
OF_THE_HOST: Final = ("/etc/resolv.conf", "/etc/ssl/certs/ca-certificates.crt")
QUESTION: Final = {
    "messages": [{"role": "user", "content": "What is the capital of Finland?"}],
    "max_tokens": 24,
    "temperature": 0,
}


@dataclass
class Image:
    """A root, and what the file says about it."""

    root: Path
    env: dict[str, str] = field(default_factory=dict)
    user: str = "0"
    entry: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)

    def command(self, words: list[str], root: Path | None = None) -> list[str]:
        """What runs `words` in the root, or where that is mounted, as the image's user and with its variables."""
        variables = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"} | self.env
        chroot = ["chroot", f"--userspec={self.user}:{self.user}", str(root or self.root)]
        return [*chroot, "/usr/bin/env", "-i", *(f"{name}={value}" for name, value in variables.items()), *words]


@contextmanager
def mounted(source: Path, target: Path, *, writable: bool = False) -> Iterator[None]:
    """A folder, seen at another place too."""
    target.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "--bind", source, target], check=True)
    try:
        if not writable:
            subprocess.run(["mount", "-o", "remount,bind,ro", target], check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", target], check=True)


def make_base(root: Path) -> None:
    """Debian with Python, and this machine's way to the package index."""
    command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", root]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    for path in OF_THE_HOST:
        shutil.copy(path, root / path.removeprefix("/"))
    settings = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], check=True, capture_output=True, text=True
    )
    pairs = (line.removeprefix("global.").split("=", 1) for line in settings.stdout.splitlines() if line[0] != ":")
    lines = [f"{name} = {' '.join(value[1:-1].split())}\n" for name, value in pairs]
    (root / "etc" / "pip.conf").write_text("[global]\n" + "".join(lines))


def build(folder: Path, base: Path, index: list[Path]) -> Image:
    """The file's last image."""
    lines = FILE.read_text().replace("\\\n", " ").splitlines()
    images: dict[str, Image] = {}
    for line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        print(line, flush=True)
        step, rest = line.split(maxsplit=1)
        match step:
            case "FROM":
                image = images[rest.partition(" AS ")[2]] = Image(folder / f"root-{len(images)}")
                subprocess.run(["cp", "--archive", base, image.root], check=True)
            case "COPY":
                copy(rest.split(), image, images)
            case "RUN":
                run(image, json.loads(rest), index)
            case "ENV":
                image.env |= dict(pair.split("=", 1) for pair in rest.split())
            case "USER":
                image.user = rest
            case "ENTRYPOINT":
                image.entry = json.loads(rest)
            case "HEALTHCHECK":
                image.health = json.loads(rest.partition("CMD ")[2])
            case "EXPOSE" | "STOPSIGNAL":
                pass
            case _:
                raise SystemExit(f"no such step is known: {line}")
    return image


def copy(words: list[str], image: Image, images: dict[str, Image]) -> None:
    """COPY: files into a folder, or a folder as another one."""
    origin = SOURCES
    if words[0].startswith("--from="):
        origin = images[words.pop(0).removeprefix("--from=")].root
    target = image.root / words[-1].lstrip("/")
    for word in words[:-1]:
        source = origin / word.lstrip("/")
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)


def run(image: Image, words: list[str], index: list[Path]) -> None:
    """RUN, with the folders of the package index in sight."""
    with ExitStack() as stack:
        for folder in index:
            stack.enter_context(mounted(folder, image.root / folder.relative_to("/")))
        stack.enter_context(mounted(Path("/dev"), image.root / "dev", writable=True))
        subprocess.run(image.command(words), check=True)


def serve(image: Image, artifact: Path, place: Path) -> dict[str, Any]:
    """Run the server as a container would, and what came of it."""
    (image.root / "model").mkdir()
    with ExitStack() as stack:
        stack.enter_context(mounted(image.root, place))
        stack.enter_context(mounted(artifact, place / "model"))
        for folder in ("dev", "proc"):
            stack.enter_context(mounted(Path("/", folder), place / folder, writable=True))
        command = image.command([*image.entry, "--host", "127.0.0.1"], place)
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            assert server.stdout
            ready = server.stdout.readline().strip()
            assert ready.startswith("serving"), f"the server ended with exit code {server.wait()}"
            user = Path(f"/proc/{server.pid}/status").read_text().split("Uid:\t")[1].split()[0]
            answer = ask(ready.split()[-1])
            health = subprocess.run(image.command(image.health, place), check=False).returncode
        finally:
            server.terminate()
        return {
            "user": user,
            "answer": answer,
            "exit_code_of_health_check": health,
            "exit_code_after_sigterm": server.wait(60),
        }


def ask(url: str) -> str:
    """The answer to the question."""
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(QUESTION).encode(), headers)
    with urllib.request.urlopen(request, timeout=120) as answer:
        return str(json.load(answer)["choices"][0]["message"]["content"])


def main(artifact: Path, record: Path, index: list[Path]) -> None:
    """Build, run, and write what was seen."""
    if os.geteuid() != 0:
        raise SystemExit("only root can change the root")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = folder / "base"
        make_base(base)
        image = build(folder, base, index)
        size = subprocess.run(["du", "-sm", image.root / "opt"], check=True, capture_output=True, text=True).stdout
        python = subprocess.run(image.command(["python3", "--version"]), check=True, capture_output=True, text=True)
        seen = {"python": python.stdout.strip(), "installed_mb": int(size.split()[0])}
        seen |= serve(image, artifact, folder / "running")
    record.write_text(json.dumps(seen, indent=2, ensure_ascii=False) + "\n")
    print(record.read_text())
    if seen["exit_code_of_health_check"] or seen["exit_code_after_sigterm"]:
        raise SystemExit("the server is not well there")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), list(map(Path, sys.argv[3:])))
