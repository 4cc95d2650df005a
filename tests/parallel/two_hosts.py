"""Two hosts on one machine: network namespaces with addresses of their own and a cable between them."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

HOSTS = ("10.77.0.1", "10.77.0.2")

_AGENT = """#!/bin/sh
# In place of ssh: agent [-x] [-o OPTION]... HOST COMMAND...
while [ "${1#-}" != "$1" ]; do [ "$1" = -o ] && shift; shift; done
case $1 in %s) name=%s;; %s) name=%s;; *) exit 255;; esac
shift
exec ip netns exec $name sh -c "$*"
"""


@dataclass(frozen=True)
class TwoHosts:
    """`names` of the namespaces; `environment` makes MPI's launcher enter them as if by ssh."""

    names: tuple[str, str]
    environment: dict[str, str]

    def on_first(self, *command: str) -> list[str]:
        """A command that runs on the first host."""
        return ["ip", "netns", "exec", self.names[0], *command]

    def cut(self) -> None:
        """Pull the cable out of the second host."""
        ip("-n", self.names[1], "link", "set", _end(self.names[1]), "down")

    def received(self) -> int:
        """Bytes that came over the cable to the second host."""
        path = f"/sys/class/net/{_end(self.names[1])}/statistics/rx_bytes"
        return int(subprocess.check_output(["ip", "netns", "exec", self.names[1], "cat", path]))


@contextmanager
def two_hosts(folder: Path) -> Iterator[TwoHosts]:
    """Two hosts while it lasts; `folder` is for the agent. Skips the test where the system does not let us."""
    if not shutil.which("ip") or os.geteuid() != 0:
        pytest.skip("network namespaces need iproute2 and root")
    names = f"il{os.getpid()}a", f"il{os.getpid()}b"
    made: list[str] = []
    try:
        for name in names:
            try:
                ip("netns", "add", name)
            except subprocess.CalledProcessError as error:
                pytest.skip(f"no network namespaces here: {error.stderr.strip()}")
            made.append(name)
        ip("link", "add", _end(names[0]), "netns", names[0], "type", "veth", "peer", _end(names[1]), "netns", names[1])
        for name, address in zip(names, HOSTS, strict=True):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", _end(name))
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "link", "set", _end(name), "up")
        _wait_until_up(names)
        agent = folder / "agent"
        agent.write_text(_AGENT % (HOSTS[0], names[0], HOSTS[1], names[1]))
        agent.chmod(0o755)
        # MPI would see that both hosts share memory, and use it.
        environment = {"HYDRA_LAUNCHER": "ssh", "HYDRA_LAUNCHER_EXEC": str(agent), "UCX_TLS": "tcp,self"}
        yield TwoHosts(names, environment)
    finally:
        for name in made:
            ip("netns", "del", name)


def ip(*arguments: str) -> str:
    """What `ip` prints."""
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


def _wait_until_up(names: tuple[str, str]) -> None:
    """Linux may take a second to notice that a cable has both its ends, and MPI passes over one that is down."""
    deadline = time.monotonic() + 10
    for name in names:
        while json.loads(ip("-n", name, "-json", "link", "show", _end(name)))[0]["operstate"] != "UP":
            assert time.monotonic() < deadline, f"the cable does not come up in {name}"
            time.sleep(0.02)


def _end(name: str) -> str:
    return f"v{name}"
