"""Results made by threads ahead of their turn."""

import threading

import pytest

from ilmari.compile.ahead import in_order


@pytest.mark.parametrize("workers", [1, 2, 3, 50])
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_order(workers: int, count: int) -> None:
    assert list(in_order(lambda index: index * index, count, workers)) == [index * index for index in range(count)]


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_as_many_at_a_time(workers: int) -> None:
    """Each waits for `workers` to be in the making; one more is never begun before a result is taken."""
    begun: list[int] = []
    together = threading.Barrier(workers, timeout=30)

    def make(index: int) -> int:
        begun.append(index)
        if index < workers:
            together.wait()
        return index

    results = in_order(make, 9, workers)
    assert next(results) == 0
    assert len(begun) == workers
    assert list(results) == list(range(1, 9))


def test_exception_in_its_turn() -> None:
    def make(index: int) -> int:
        if index == 2:
            raise ValueError("two")
        return index

    results = in_order(make, 5, 2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(results)
