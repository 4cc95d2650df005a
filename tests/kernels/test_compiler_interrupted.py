"""Ctrl-C in Python code that TVM runs comes out of TVM as Ctrl-C."""

import subprocess
import sys

PROGRAM = """
import tvm_ffi
import ilmari.kernels.compiler

def interrupted():
    raise KeyboardInterrupt

try:
    tvm_ffi.convert(interrupted)()
except BaseException as error:
    print(type(error).__name__)
"""


def test_ctrl_c_stays_ctrl_c() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["KeyboardInterrupt"]
