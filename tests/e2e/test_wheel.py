"""The wheel: complete, and its commands run from an environment that knows nothing of this checkout."""

import importlib.util
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")
ISOLATION = ["--no-build-isolation"] if importlib.util.find_spec("setuptools") else []

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing is left in the checkout and nothing stale gets in."""
    source, output = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    run([*PIP, "wheel", "--quiet", "--no-deps", *ISOLATION, "--wheel-dir", output, source], os.environ)
    (built,) = output.glob("ilmari-*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new virtual environment with the wheel in it, which sees the packages of this one behind its own."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    run(
        [*PIP, "--python", folder / "bin" / "python", "install", "--quiet", "--no-deps", "--no-index", wheel],
        os.environ,
    )
    (packages,) = folder.glob("lib/python*/site-packages")
    # Folders named in a .pth come last, and .pth files in them, such as an editable install's, are not read.
    theirs = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (packages / "dependencies.pth").write_text("\n".join(theirs), encoding="utf-8")
    return folder


def run(command: list[str | Path], env: "os._Environ[str] | dict[str, str]", cwd: Path | None = None) -> str:
    """Stdout of a command that succeeds."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, env=env, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_content(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (entry_points,) = (archive.read(name).decode() for name in names if name.endswith("/entry_points.txt"))
    package = ROOT / "src" / "ilmari"
    files = (*package.rglob("*.py"), *(package / "webui" / "static").iterdir())
    sources = {str(path.relative_to(ROOT / "src")) for path in files}
    assert {name for name in names if name.startswith("ilmari/")} == {
        *sources,
        "ilmari/py.typed",
        "ilmari/demo/demo.yaml",
    }
    assert {line.split(" = ")[0] for line in entry_points.splitlines() if " = " in line} == {
        "ilmari",
        "vamc",
        "vastgenx",
    }


@pytest.mark.demo_model
def test_commands_run(environment: Path, demo_gguf: Path, tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    env["ILMARI_CACHE"] = str(demo_gguf.parent)
    programs = environment / "bin"
    where = run([programs / "python", "-c", "import ilmari; print(ilmari.__file__)"], env, tmp_path)
    assert Path(where.strip()).is_relative_to(environment)
    assert "gravity" in run([programs / "ilmari", "demo", "--max-tokens", "8"], env, tmp_path).lower()
    assert "compile" in run([programs / "vamc", "--help"], env, tmp_path)
