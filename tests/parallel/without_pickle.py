"""`ilmari` in a process that cannot pickle: `without_pickle.py VERB...`."""

import pickle

import jinja2  # noqa: F401 - which pickles a number as it is imported

from ilmari.cli.app import main


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("something was to be pickled")


# mpi4py, which is imported later, takes both from here.
pickle.dumps = pickle.loads = refuse  # type: ignore[assignment]

main()
