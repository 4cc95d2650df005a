"""The environment decides how many threads there are and where downloads go."""

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from ilmari import cpus
from ilmari.errors import ConfigError
from ilmari.settings import cache_dir, mpi_world, num_threads, pinned_cpus, without_mpi_world


@pytest.fixture(autouse=True)
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 8 CPUs, all for this process, without a control group; the folder to make one in."""
    monkeypatch.delenv("ILMARI_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(cpus, "CGROUP", tmp_path)
    monkeypatch.setattr(cpus, "TOPOLOGY", tmp_path / "topology")
    return tmp_path


def test_cpus_of_the_process() -> None:
    assert num_threads() == 8


@pytest.mark.parametrize(("cpus", "threads"), [(None, 1), (5, 5), (5000, 1024)])
def test_systems_without_affinity(cpus: int | None, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: cpus)
    assert num_threads() == threads


def share_cores(folder: Path, pairs: Iterable[tuple[int, int]]) -> None:
    """CPUs that are hardware threads of one core, two by two."""
    for pair in pairs:
        for cpu in pair:
            topology = folder / "topology" / f"cpu{cpu}" / "topology"
            topology.mkdir(parents=True)
            (topology / "thread_siblings_list").write_text("{},{}\n".format(*pair))


def test_hardware_threads_of_a_core_count_once(cgroup: Path) -> None:
    share_cores(cgroup, [(0, 4), (1, 5), (2, 6), (3, 7)])
    assert num_threads() == 4


def test_part_of_the_cores(cgroup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    share_cores(cgroup, [(0, 4), (1, 5), (2, 6), (3, 7)])
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 4, 5, 6})
    assert num_threads() == 3


def test_threads_are_pinned_to_cores_first(cgroup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    share_cores(cgroup, [(0, 1), (2, 3), (4, 5), (6, 7)])
    assert pinned_cpus() == ()
    monkeypatch.setenv("ILMARI_PIN_THREADS", "1")
    assert pinned_cpus() == (0, 2, 4, 6)
    monkeypatch.setenv("ILMARI_NUM_THREADS", "6")
    assert pinned_cpus() == (0, 2, 4, 6, 1, 3)


@pytest.mark.parametrize(
    ("pin", "threads", "sentence"),
    [("yes", "1", "ILMARI_PIN_THREADS is 'yes'; set it to 1"), ("1", "9", "9 threads for 8 CPUs; set")],
)
def test_threads_that_cannot_be_pinned(pin: str, threads: str, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ILMARI_PIN_THREADS", pin)
    monkeypatch.setenv("ILMARI_NUM_THREADS", threads)
    with pytest.raises(ConfigError, match=sentence):
        pinned_cpus()


def test_systems_that_pin_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ILMARI_PIN_THREADS", "1")
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    with pytest.raises(ConfigError, match="this system pins no threads"):
        pinned_cpus()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no threads")
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one CPU is no choice")
def test_real_threads_are_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    program = """
import os
from ilmari.kernels.library import load_runtime
load_runtime()
print(sorted(tuple(os.sched_getaffinity(int(task))) for task in os.listdir("/proc/self/task")))
"""
    environment = {**os.environ, "ILMARI_PIN_THREADS": "1", "ILMARI_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    found = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    first, second, *_ = sorted(os.sched_getaffinity(0))
    assert found.stdout.strip() == str([(first,), (second,)])


@pytest.mark.parametrize(
    ("content", "threads"),
    [
        ("200000 100000\n", 2),
        ("250000 100000\n", 3),
        ("1000 100000\n", 1),
        ("9900000 100000\n", 8),
        ("max 100000\n", 8),
        ("0 0\n", 8),
        ("", 8),
        ("x y\n", 8),
    ],
)
def test_quota_of_version_2(cgroup: Path, content: str, threads: int) -> None:
    (cgroup / "cpu.max").write_text(content)
    assert num_threads() == threads


@pytest.mark.parametrize(("quota", "threads"), [("150000\n", 2), ("50000\n", 1), ("-1\n", 8)])
def test_quota_of_version_1(cgroup: Path, quota: str, threads: int) -> None:
    (cgroup / "cpu").mkdir()
    (cgroup / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (cgroup / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert num_threads() == threads


@pytest.mark.parametrize(("text", "threads"), [("1", 1), ("016", 16), ("1024", 1024), ("", 2)])
def test_threads_as_asked(cgroup: Path, text: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (cgroup / "cpu.max").write_text("200000 100000")
    monkeypatch.setenv("ILMARI_NUM_THREADS", text)
    assert num_threads() == threads


@pytest.mark.parametrize("text", ["0", "-1", "1025", "²", "٣", "many", "1.5", " 2", "9" * 5000])
def test_threads_that_cannot_be(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ILMARI_NUM_THREADS", text)
    with pytest.raises(
        ConfigError, match=r"ILMARI_NUM_THREADS is .*; set it to a positive number of threads, up to 1024"
    ):
        num_threads()


def test_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/x")
    for name in ("ILMARI_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert cache_dir() == Path("/home/x/.cache/ilmari")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_dir() == Path("/xdg/ilmari")
    monkeypatch.setenv("ILMARI_CACHE", "/cache")
    assert cache_dir() == Path("/cache")


def test_settings_of_mpi_are_for_the_ranks_and_a_rank_s_place_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Open MPI's own settings have the prefix of what its launcher tells a rank."""
    monkeypatch.setenv("OMPI_ALLOW_RUN_AS_ROOT", "1")
    assert mpi_world() is None
    assert without_mpi_world() == dict(os.environ)
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "0")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "1")
    monkeypatch.setenv("PMIX_RANK", "0")
    assert mpi_world() is None
    assert not [name for name in without_mpi_world() if name.startswith(("OMPI_", "PMI"))]


LAUNCHERS = [
    ("PMI_RANK", "PMI_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
]


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (name for launcher in LAUNCHERS for name in launcher):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize(("rank", "size"), LAUNCHERS)
def test_who_started_the_ranks(monkeypatch: pytest.MonkeyPatch, rank: str, size: str) -> None:
    monkeypatch.setenv(rank, "2")
    assert mpi_world() is None
    monkeypatch.setenv(size, "1")
    assert mpi_world() is None
    monkeypatch.setenv(size, "4")
    assert mpi_world() == (2, 4)


@pytest.mark.usefixtures("outside")
def test_a_script_of_slurm_is_no_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    """What sbatch sets; an mpiexec in the script starts ranks, with a site's settings of MPI."""
    for name, value in {"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "PMIX_MCA_gds": "hash"}.items():
        monkeypatch.setenv(name, value)
    assert mpi_world() is None
    assert without_mpi_world() == dict(os.environ)
    monkeypatch.setenv("PMI_RANK", "3")
    monkeypatch.setenv("PMI_SIZE", "8")
    assert mpi_world() == (3, 8)
