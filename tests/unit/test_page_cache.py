"""Files come into the page cache whole, and where the system has them in huge pages."""

import mmap
import os
import sys
from pathlib import Path

import pytest
from checkpoints import CompileTiny

from ilmari.artifact import params
from ilmari.artifact.artifact import Artifact
from ilmari.artifact.page_cache import read_into_page_cache

SIZE = (80 << 20) + 4097  # no whole number of pages of any size, nor of the pieces that are read at a time


@pytest.fixture
def advice(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The size of each mapping that was given advice, and the advice, in order."""
    given: list[tuple[int, ...]] = []

    class Mapping(mmap.mmap):
        def madvise(self, option: int, *where: int) -> None:
            given.append((len(self), option, *where))
            super().madvise(option, *where)

    monkeypatch.setattr(mmap, "mmap", Mapping)
    return given


def at_once(path: Path, place: int) -> int:
    """Bytes of the page at `place` that can be read without waiting for a disk."""
    with path.open("rb") as file:
        try:
            return os.preadv(file.fileno(), [bytearray(4096)], place, os.RWF_NOWAIT)
        except BlockingIOError:
            return 0


@pytest.mark.skipif(sys.platform != "linux", reason="what it tests is Linux's")
def test_all_of_it(tmp_path: Path, advice: list[tuple[int, ...]]) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.write(os.urandom(SIZE))
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if at_once(path, 0):
        pytest.skip("this file system has files nowhere but in memory")
    read_into_page_cache(path)
    assert sum(at_once(path, place) for place in range(0, SIZE, 4096)) == SIZE
    assert advice[0] == (SIZE, mmap.MADV_HUGEPAGE)


@pytest.mark.skipif(sys.platform != "linux", reason="what it tests is Linux's")
def test_weights_are_asked_for_before_they_are_read(compile_tiny: CompileTiny, advice: list[tuple[int, ...]]) -> None:
    folder = compile_tiny("w8a16")
    artifact = Artifact.load(folder)
    weights = (folder / params.file_name(0)).stat().st_size
    asked = (weights, mmap.MADV_HUGEPAGE)
    assert asked in advice
    advice.clear()
    artifact.params()
    assert asked in advice


@pytest.mark.parametrize("option", [None, 9999])
@pytest.mark.parametrize("size", [0, 4097])
def test_where_there_are_no_huge_pages(
    tmp_path: Path, compile_tiny: CompileTiny, monkeypatch: pytest.MonkeyPatch, option: int | None, size: int
) -> None:
    """On systems that do not know the advice, and on Linux built without them."""
    if option is None:
        monkeypatch.delattr(mmap, "MADV_HUGEPAGE", raising=False)
    else:
        monkeypatch.setattr(mmap, "MADV_HUGEPAGE", option, raising=False)
    path = tmp_path / "file"
    path.write_bytes(bytes(size))
    read_into_page_cache(path)
    assert Artifact.load(compile_tiny("w8a16")).params()
