"""The command line as a process: exit codes, what goes to which stream, and how little is imported for help."""

import os
import pty
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

CONFIG = """\
name: my model
frontend:
  checkpoint: ./absent
  shape: {input_ids: [[32], [64]]}
backend: {type: tvm_vacc, dtype: fp16}
workspace: {path: out}
"""

STUB = """\
import sys, types
from pathlib import Path
from ilmari.errors import OutputError

def compile_model(config, *, target, report):
    {body}

module = types.ModuleType("ilmari.compile.pipeline")
module.compile_model = compile_model
sys.modules["ilmari.compile.pipeline"] = module
from ilmari.{entry} import main
main()
"""

STEPS = """\
assert target == "generic"
    for done in range(3): report("weights", done, 2)
    report("kernels", 1, 1)
    return config.output"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


def ilmari(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "ilmari", *args], capture_output=True, text=True, check=False)


def stubbed(body: str, *args: str, entry: str = "cli.app") -> subprocess.CompletedProcess[str]:
    """Run the real command with `body` in place of the compiler."""
    code = STUB.format(body=body, entry=entry)
    return subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=False)


def test_version() -> None:
    result = ilmari("--version")
    assert (result.returncode, result.stdout) == (0, f"ilmari {version('ilmari')}\n")


@pytest.mark.parametrize("args", [[], ["compile"]])
def test_help_names_what_there_is(args: list[str]) -> None:
    result = ilmari(*args, "--help")
    assert result.returncode == 0
    for word in ["--set", "--target", "CONFIG.yaml"] if args else ["compile", "--version"]:
        assert word in result.stdout


@pytest.mark.parametrize("entry", ["cli.app", "compat.vamc"])
def test_help_imports_nothing_heavy(entry: str) -> None:
    code = (
        f"import sys\nfrom ilmari.{entry} import main\nsys.argv = ['x', 'compile', '--help']\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print('heavy:', {'tvm', 'numpy', 'yaml', 'tokenizers', 'ilmari.compile.config'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "heavy: set()" in result.stdout


@pytest.mark.parametrize("args", [["compil"], ["compile"], ["compile", "a.yaml", "--no-such"], ["--no-such"]])
def test_usage_error(args: list[str]) -> None:
    result = ilmari(*args)
    assert result.returncode == 2
    assert result.stdout == ""
    assert "Usage:" in result.stderr


def test_mistake_is_one_line_and_exit_code_2(config: Path) -> None:
    result = ilmari("compile", str(config), "--set", "backend.dtype=fp8")
    assert result.returncode == 2
    assert result.stdout == ""
    expected = 'error: --set backend.dtype=fp8: `backend.dtype` is "fp8" (a string); expected fp16, bf16 or int8.\n'
    assert result.stderr == expected


def test_message_cannot_drive_the_terminal(tmp_path: Path) -> None:
    result = ilmari("compile", str(tmp_path / "\x1b[31m\n.yaml"))
    assert result.returncode == 2
    assert r"\x1b[31m\n.yaml" in result.stderr
    assert "\x1b" not in result.stderr


@pytest.mark.parametrize("entry", ["cli.app", "compat.vamc"])
def test_compile_says_what_it_does(config: Path, entry: str) -> None:
    result = stubbed(STEPS, "compile", str(config), "--target", "generic", "--set", "name=new model", entry=entry)
    assert result.returncode == 0
    assert result.stdout == "wrote out/new model\nnext: ilmari chat --model 'out/new model'\n"
    notice, *steps = result.stderr.splitlines()
    assert notice.startswith("`backend.type` has no effect: there is no VACC silicon")
    assert [step.split(":")[0] for step in steps] == ["weights", "kernels"]
    assert all(step.endswith(" s") for step in steps)


def test_target_is_host_unless_told(config: Path) -> None:
    assert stubbed("return Path(target)", "compile", str(config)).stdout.startswith("wrote host\n")


def test_bars_on_a_terminal(config: Path) -> None:
    ours, theirs = pty.openpty()
    code = STUB.format(body=STEPS, entry="cli.app")
    command = [sys.executable, "-c", code, "compile", str(config), "--target", "generic"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    environment.pop("NO_COLOR", None)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, text=True, env=environment) as process:
        os.close(theirs)
        seen = b""
        try:
            while chunk := os.read(ours, 65536):
                seen += chunk
        except OSError:  # Linux's way of saying that the other end is closed
            pass
        assert process.wait() == 0
    os.close(ours)
    text = seen.decode()
    assert "\x1b[2m`backend.type`" in text, "notices are dim"
    for word in ["weights", "kernels", "2/2", "1/1"]:
        assert word in text


def test_error_from_the_compiler(config: Path) -> None:
    result = stubbed("raise OutputError('out is full; make room.')", "compile", str(config))
    assert (result.returncode, result.stderr.splitlines()[-1]) == (2, "error: out is full; make room.")
    assert "Traceback" not in result.stderr


def test_bug_shows_its_traceback(config: Path) -> None:
    result = stubbed("raise AssertionError('ours')", "compile", str(config))
    assert result.returncode == 1
    assert "Traceback (most recent call last)" in result.stderr


def test_interrupt(config: Path) -> None:
    result = stubbed("raise KeyboardInterrupt", "compile", str(config))
    assert (result.returncode, result.stderr.splitlines()[-1]) == (130, "interrupted")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("args", [["--help"], ["--version"]])
def test_closed_pipe_is_quiet(args: list[str]) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    command = [sys.executable, "-m", "ilmari", *args]
    result = subprocess.run(command, stdout=write_end, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write_end)
    assert (result.returncode, result.stderr) == (1, "")
