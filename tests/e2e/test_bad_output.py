"""Places that cannot be written, or must not be; interrupted and simultaneous compilations."""

import platform
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from commands import ILMARI, STORED
from refusals import Workplace, assert_one_error, content, ilmari_here

pytestmark = pytest.mark.usefixtures("kernels_compiled_once")

MIB = 1 << 20
"""The tiny artifact's parameters are larger, its kernels smaller."""

QUICK_TARGET = ["--target", "x86-64"] if platform.machine() == "x86_64" else []  # compiled sooner than for this CPU


@pytest.fixture
def workplace(tmp_path: Path, tiny_checkpoint: Path) -> Workplace:
    return Workplace.make(tmp_path, tiny_checkpoint)


def test_workspace_that_is_a_file(workplace: Workplace) -> None:
    workplace.artifact.parent.write_text("mine", encoding="utf-8")
    result = ilmari_here("compile", workplace.recipe)
    assert_one_error(result, f"{workplace.artifact.parent} cannot be written", "choose another `workspace.path`")
    assert workplace.artifact.parent.read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("place", ["/proc/ilmari", "/sys/ilmari"])
def test_workspace_that_cannot_be_made(workplace: Workplace, place: str) -> None:
    if not Path(place).parent.is_dir():
        pytest.skip(f"{Path(place).parent} is absent: this is no Linux")
    result = ilmari_here("compile", workplace.recipe, "--set", f"workspace.path={place}")
    assert_one_error(result, f"{place} cannot be written", "choose another `workspace.path`")
    assert not Path(place).exists()


def a_file(place: Path) -> None:
    place.write_text("mine", encoding="utf-8")


def a_folder(place: Path) -> None:
    (place / "inner").mkdir(parents=True)
    (place / "inner" / "notes.txt").write_text("mine", encoding="utf-8")


def a_web_page(place: Path) -> None:
    """Web applications have a `manifest.json` too."""
    place.mkdir()
    (place / "manifest.json").write_text('{"name": "mine"}', encoding="utf-8")
    (place / "index.html").write_text("mine", encoding="utf-8")


@pytest.mark.parametrize("make", [a_file, a_folder, a_web_page])
def test_place_that_is_taken(workplace: Workplace, make: Callable[[Path], None]) -> None:
    workplace.artifact.parent.mkdir()
    make(workplace.artifact)
    before = content(workplace.artifact.parent)
    result = ilmari_here("compile", workplace.recipe)
    assert_one_error(result, f"{workplace.artifact} exists and ", "move it away, or choose another")
    assert content(workplace.artifact.parent) == before


def test_artifact_to_which_something_was_added(workplace: Workplace, compile_tiny: Callable[..., Path]) -> None:
    shutil.copytree(compile_tiny("fp16"), workplace.artifact)
    (workplace.artifact / "notes.txt").write_text("mine", encoding="utf-8")
    before = content(workplace.artifact)
    assert_one_error(ilmari_here("compile", workplace.recipe), "holds 'notes.txt'", "move it away")
    assert content(workplace.artifact) == before


@contextmanager
def small_files() -> Iterator[None]:
    """No file may grow beyond a mebibyte; Python ignores the signal, so that writing more is an error."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_file_that_cannot_grow(workplace: Workplace) -> None:
    with small_files():
        result = ilmari_here("compile", workplace.recipe)
    assert_one_error(result, f"{workplace.artifact} cannot be written (File too large)", "free space")
    workplace.assert_nothing_made()


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system on which two mebibytes fit."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={2 * MIB}", "none", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small file system is not permitted")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_full_disk(workplace: Workplace, full_disk: Path, compile_tiny: Callable[..., Path]) -> None:
    """An artifact that fitted stays, though the next one does not fit beside it."""
    older = Path(shutil.copytree(compile_tiny("fp16"), workplace.artifact))
    (older / "params/rank0.safetensors").unlink()
    shutil.move(older, full_disk / "tiny")
    before = content(full_disk)
    result = ilmari_here("compile", workplace.recipe, "--set", f"workspace.path={full_disk}")
    assert_one_error(result, f"{full_disk}/tiny cannot be written (No space left on device)", "free space")
    assert content(full_disk) == before
    assert [path.name for path in full_disk.iterdir()] == ["tiny"]


@pytest.mark.parametrize("args", [["inspect"], ["generate", "--prompt", "x", "--model"]])
def test_full_stdout(compile_tiny: Callable[..., Path], args: list[str]) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("/dev/full is absent: this is no Linux")
    command = [*ILMARI, *args, str(compile_tiny("fp16"))]
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert_one_error(result, "stdout cannot be written (No space left on device)")
    assert result.stderr.count("\n") == 1


def start(workplace: Workplace, program: tuple[str, ...] = ILMARI) -> subprocess.Popen[str]:
    """A compilation on its way."""
    command = [*program, "compile", str(workplace.recipe)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def interrupted(workplace: Workplace, number: int) -> tuple[int, str]:
    """Exit code and stderr of a compilation that gets a signal while it compiles kernels, which takes seconds."""
    with start(workplace) as process:
        while not any(workplace.artifact.parent.glob(".tiny.*.partial/new/kernels.o")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        process.send_signal(number)
        _, stderr = process.communicate()
    return process.returncode, stderr


def test_interrupt(workplace: Workplace, compile_tiny: Callable[..., Path]) -> None:
    older = compile_tiny("fp16")
    shutil.copytree(older, workplace.artifact)
    code, stderr = interrupted(workplace, signal.SIGINT)
    assert (code, stderr.splitlines()[-1]) == (130, "interrupted")
    assert "Traceback" not in stderr
    assert list(workplace.artifact.parent.iterdir()) == [workplace.artifact]
    assert content(workplace.artifact) == content(older)


def test_termination(workplace: Workplace) -> None:
    """What it leaves is hidden, and does not load."""
    code, _ = interrupted(workplace, signal.SIGTERM)
    assert code == -signal.SIGTERM
    (left_over,) = workplace.artifact.parent.iterdir()
    assert left_over.name.startswith(".tiny.")
    for folder in (workplace.artifact, left_over):
        assert_one_error(ilmari_here("verify", folder), f"{folder} is not a compiled model")


def test_kill_and_compile_again(workplace: Workplace, compile_tiny: Callable[..., Path]) -> None:
    shutil.copytree(compile_tiny("w8a16"), workplace.artifact)
    before = content(workplace.artifact)
    code, _ = interrupted(workplace, signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert len(list(workplace.artifact.parent.iterdir())) == 2
    assert content(workplace.artifact) == before
    assert ilmari_here("generate", "--model", workplace.artifact, "--prompt", "x", "--max-tokens", "1").returncode == 0

    assert ilmari_here("compile", workplace.recipe).returncode == 0
    assert list(workplace.artifact.parent.iterdir()) == [workplace.artifact]
    assert "float16" in ilmari_here("inspect", workplace.artifact).stdout
    assert ilmari_here("verify", workplace.artifact).returncode == 0


def test_two_at_once(workplace: Workplace, kernels_compiled_once: Path) -> None:
    program = (*STORED, str(kernels_compiled_once), "ilmari")
    with start(workplace, program) as first, start(workplace, program) as second:
        ends = [process.communicate() for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), ends
    assert list(workplace.artifact.parent.iterdir()) == [workplace.artifact]
    assert ilmari_here("verify", workplace.artifact).returncode == 0


def test_without_compiler_and_linker(workplace: Workplace, tmp_path: Path) -> None:
    """No such program is on the path, and none at all is started."""
    script = """
import shutil, sys
from ilmari.cli.app import main

assert not any(map(shutil.which, ("cc", "gcc", "clang", "c++", "ld", "lld", "as", "ar", "python")))

def refuse(event, args):
    if event in {"subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn"}:
        assert args[0] == "/dev/null", args

sys.addaudithook(refuse)
main()
"""
    environment = {"PATH": str(tmp_path / "empty"), "CC": "/absent", "LD": "/absent", "HOME": str(tmp_path)}
    for args in (
        ["compile", str(workplace.recipe), *QUICK_TARGET],
        [
            "generate",
            "--model",
            str(workplace.artifact),
            "--prompt",
            "x",
            "--max-tokens",
            "2",
            "--ignore-eos",
            "--json",
        ],
    ):
        command = [sys.executable, "-c", script, *args]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
    assert '"completion_tokens": 2' in result.stdout
