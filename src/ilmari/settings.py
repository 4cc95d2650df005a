"""Every environment variable that ilmari reads."""

import os
import shlex
import socket
from pathlib import Path

from ilmari.cpus import cores, cpu_quota, usable_cpus
from ilmari.errors import ConfigError

MAX_THREADS = 1024

_MPI_WORLDS = (
    ("PMI_RANK", "PMI_SIZE"),  # Hydra: MPICH, Intel MPI, MVAPICH
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),  # of a step, which is srun's; a script of sbatch has the first alone
)

_HYDRA_LAUNCHERS = ("HYDRA_LAUNCHER", "HYDRA_BOOTSTRAP", "I_MPI_HYDRA_BOOTSTRAP")
_SSH = "ssh"
_SSH_OPTIONS = "-o BatchMode=yes -o ConnectTimeout=5"
"""Ask for no password, and give up on a host that does not answer."""


def cache_dir() -> Path:
    """Where downloads are kept: `ILMARI_CACHE`, else the user's cache folder."""
    if path := os.environ.get("ILMARI_CACHE"):
        return Path(path)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ilmari"


def openai_api_key() -> str | None:
    """The key for somebody else's server: `OPENAI_API_KEY`, where OpenAI's own clients look for it."""
    return os.environ.get("OPENAI_API_KEY") or None


def num_threads() -> int:
    """How many threads kernels use: `ILMARI_NUM_THREADS`, else the cores that this process may use, at most 1024.

    Hardware threads of one core count once, since kernels keep a core's arithmetic busy by themselves. A container's
    quota (`docker run --cpus=2`) lowers the number.

    Raises:
        ConfigError: the variable is not an integer from 1 to 1024.
    """
    text = os.environ.get("ILMARI_NUM_THREADS")
    if not text:
        count = len(cores())
        return min(count, cpu_quota() or count, MAX_THREADS)
    if not (text.isascii() and text.isdecimal() and len(text) <= 9 and 1 <= int(text) <= MAX_THREADS):
        raise ConfigError(
            f"ILMARI_NUM_THREADS is {text!r}; set it to a positive number of threads, up to {MAX_THREADS}."
        )
    return int(text)


def set_num_threads(count: int | None) -> None:
    """Set what `num_threads` returns from now on, unless it is None; to be called before any kernel runs."""
    if count is not None:
        os.environ["ILMARI_NUM_THREADS"] = str(count)


def pinned_cpus() -> tuple[int, ...]:
    """The CPU of each thread if `ILMARI_PIN_THREADS` is 1: cores first, then their other hardware threads; else empty.

    Raises:
        ConfigError: the variable is neither 0 nor 1, there are more threads than CPUs, or the system pins no threads.
    """
    text = os.environ.get("ILMARI_PIN_THREADS") or "0"
    if text not in ("0", "1"):
        raise ConfigError(f"ILMARI_PIN_THREADS is {text!r}; set it to 1 to give each thread a CPU of its own, or to 0.")
    if text == "0":
        return ()
    if not hasattr(os, "sched_setaffinity"):
        raise ConfigError("ILMARI_PIN_THREADS is 1, and this system pins no threads; set it to 0.")
    first = cores()
    cpus = *first, *sorted(set(usable_cpus()) - set(first))
    if num_threads() > len(cpus):
        raise ConfigError(
            f"ILMARI_PIN_THREADS is 1 and there are {num_threads()} threads for {len(cpus)} CPUs; set "
            f"ILMARI_NUM_THREADS to {len(cpus)} or less, or ILMARI_PIN_THREADS to 0."
        )
    return cpus[: num_threads()]


def mpi_world() -> tuple[int, int] | None:
    """This process's rank and how many there are, if `mpiexec` or Slurm started it with others, else None."""
    for rank, size in _MPI_WORLDS:
        if rank in os.environ and int(os.environ.get(size, 1)) > 1:
            return int(os.environ[rank]), int(os.environ[size])
    return None


def mpi_host() -> str:
    """What MPI's launcher calls this machine, else its own name."""
    return os.environ.get("PMI_HOSTNAME") or socket.gethostname()


def without_mpi_world() -> dict[str, str]:
    """The environment for a process that does not belong to this one's MPI world; where it has none, all of it.

    A site's or a user's own settings of MPI have the same prefixes as what a launcher tells its ranks.
    """
    started = any(rank in os.environ and size in os.environ for rank, size in _MPI_WORLDS)
    prefixes = ("PMI", "OMPI_", "HYDI_") if started else ()
    return {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}


def hydra_ssh() -> list[str] | None:
    """The ssh, and its options, by which Hydra reaches other machines; None if it is told to use something else."""
    if any(os.environ.get(name, _SSH) != _SSH for name in _HYDRA_LAUNCHERS):
        return None
    return [
        os.environ.get("HYDRA_LAUNCHER_EXEC") or _SSH,
        "-x",
        *shlex.split(os.environ.get("HYDRA_LAUNCHER_EXTRA_ARGS", _SSH_OPTIONS)),
    ]


def with_ssh(environment: dict[str, str]) -> dict[str, str]:
    """The environment in which Hydra uses ssh as `hydra_ssh` says."""
    if hydra_ssh() is None:
        return environment
    return {"HYDRA_LAUNCHER": _SSH, "HYDRA_LAUNCHER_EXTRA_ARGS": _SSH_OPTIONS} | environment


def mpi_descriptors() -> list[int]:
    """Open files by which a process joins the MPI world; a child that is to join instead must inherit them."""
    return [int(os.environ["PMI_FD"])] if "PMI_FD" in os.environ else []
