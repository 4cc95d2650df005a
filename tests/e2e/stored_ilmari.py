"""As a program, `stored_ilmari.py STORE PROGRAM ARGUMENT...` is `PROGRAM ARGUMENT...` with kernels from a store.

It spares the seconds in which kernels are compiled that a test before it has compiled already.
"""

import sys
from importlib import import_module
from pathlib import Path

MAINS = {"ilmari": "ilmari.cli.app", "vamc": "ilmari.compat.vamc"}

if __name__ == "__main__":
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    from kernel_store import kernel_store

    store, program = Path(sys.argv.pop(1)), sys.argv.pop(1)
    with kernel_store(store):
        import_module(MAINS[program]).main()
