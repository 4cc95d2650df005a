"""Results in order, made by several threads ahead of their turn."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Made = TypeVar("Made")


def in_order(make: Callable[[int], Made], count: int, workers: int) -> Iterator[Made]:
    """`make(0)`, `make(1)`, ..., `make(count - 1)`, up to `workers` of them in the making at a time, none kept.

    Threads, not processes: what a layer takes is NumPy's loops over large arrays, which run side by side, and nothing
    has to be sent anywhere. An exception of `make` is raised where its result would have come.
    """
    with ThreadPoolExecutor(workers) as pool:
        made: deque[Future[Made]] = deque()
        try:
            for index in range(count):
                made.append(pool.submit(make, index))
                if len(made) == workers:
                    yield made.popleft().result()
            while made:
                yield made.popleft().result()
        finally:
            for future in made:
                future.cancel()
