"""Files in the page cache in pages of 2 MiB, where Linux has such pages for files.

TLBs hold the addresses of few pages of 4 KiB, and where they miss, prefetching works badly (docs/log.md). A page keeps
the size with which it came into the cache, so whoever brings a file there first, by writing or by reading, decides.
"""

import mmap
from contextlib import suppress
from pathlib import Path

HUGE_PAGE = 2 << 20
"""Bytes of a huge page of x86-64, and of ARM's with base pages of 4 KiB."""

_POPULATE_READ = 22  # MADV_POPULATE_READ of Linux 5.14, which Python does not name
_PIECE = 32 << 20  # bytes read at a time: other threads, and Ctrl-C, wait as long


def ask_for_huge_pages(mapping: mmap.mmap) -> None:
    """What a mapping brings into the page cache comes in pages of 2 MiB; without effect where there are none."""
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # Linux without them
            mapping.madvise(mmap.MADV_HUGEPAGE)


def read_into_page_cache(path: Path) -> None:
    """Bring a whole file there, four times as fast as by reading it; on systems that cannot, nothing happens.

    Nor does anything where reading fails: whoever reads the file next is told why.

    Raises:
        OSError: the file cannot be opened.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if not hasattr(mmap, "MADV_HUGEPAGE") or not size:
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapping:
            ask_for_huge_pages(mapping)
            with suppress(OSError):  # an older Linux, or a disk's error
                for first in range(0, size, _PIECE):
                    mapping.madvise(_POPULATE_READ, first, min(_PIECE, size - first))
