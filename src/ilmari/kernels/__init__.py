"""Operators: a TVMScript generator and a NumPy reference each, the CPU they are made for, and the compiled set."""

import sys

# TVM's foreign function interface imports PyTorch wherever that is installed, which takes seconds and hundreds of
# megabytes. Nothing here needs it, so it is out of sight while the interface loads; afterwards it can be imported.
_HIDE_TORCH = "torch" not in sys.modules
if _HIDE_TORCH:
    sys.modules["torch"] = None  # type: ignore[assignment]
try:
    import tvm_ffi  # noqa: F401
finally:
    if _HIDE_TORCH:
        del sys.modules["torch"]
