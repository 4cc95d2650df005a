"""The instruction sets that tests of kernels run on, and their threads."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tvm_ffi
from compiled_kernel import WIDTHS, Kernel, compile_once, target_for, written_out
from packed import ROWS
from tvm.tirx import PrimFunc

from ilmari.errors import TargetError
from ilmari.kernels.isa import Isa
from ilmari.kernels.target import check_host


@pytest.fixture(scope="session", autouse=True)
def _two_threads() -> Iterator[None]:
    """Enough to have work shared between threads, on any machine."""
    every_core_alike = 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ILMARI_NUM_THREADS", "2")
        patch.setenv("TVM_NUM_THREADS", "2")  # the environment of the tests may say that it is to be one
        tvm_ffi.get_global_func("runtime.config_threadpool")(every_core_alike, 2)
        yield


@pytest.fixture(scope="session", params=WIDTHS, ids=lambda isa: isa.name)
def isa(request: pytest.FixtureRequest) -> Isa:
    """Each width of vectors that this machine can run; tests of dot products ask for the instruction sets with them."""
    isa: Isa = request.param
    if written_out(isa):
        return isa
    try:
        check_host(target_for(isa), isa.name)
    except TargetError as error:
        pytest.skip(str(error))
    return isa


@pytest.fixture(scope="session")
def compiled(isa: Isa) -> Callable[..., Kernel]:
    """compiled(generator, ...): the kernel that generator(isa, ...) writes; each is compiled once."""

    def compile_for_isa(generate: Callable[..., PrimFunc], *arguments: Any) -> Kernel:
        return compile_once(isa, generate, *arguments)

    return compile_for_isa


@pytest.fixture(params=ROWS)
def m(request: pytest.FixtureRequest) -> int:
    """Rows, one number of them after the other."""
    return int(request.param)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240607)
