"""Which CPUs each rank computes with."""

from __future__ import annotations

import json
import os
import re
import reprlib
from pathlib import Path

from ilmari.cpus import core_of, usable_cpus
from ilmari.errors import ConfigError

NODES = Path("/sys/devices/system/node")
MOST_CPUS = 1 << 16

_RANGE = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")


def parse_devices(text: str, ranks: int) -> list[str]:
    """What each rank is given, from "0,1", "[0,1]" or "0-7;8-15": a device's number, or a set of CPUs, which is no
    number even where it is one CPU.

    Raises:
        ConfigError: it is neither, or not one for each rank.
    """
    if ";" in text or "-" in text:
        parts = [part.strip() for part in text.split(";")]
        valid = all(_cpus(part) is not None for part in parts)
        devices = [f"{part}-{part}" if part.isdecimal() else part for part in parts]
    else:
        try:
            numbers = json.loads(text if text.lstrip().startswith("[") else f"[{text}]")
        except (ValueError, RecursionError):
            numbers = None
        valid = isinstance(numbers, list) and all(type(number) is int and number >= 0 for number in numbers)
        devices = [str(number) for number in numbers] if valid else []
    if not valid or not devices:
        raise ConfigError(
            f"--devices is {reprlib.repr(text)}; give a device for each rank, such as 0,1, or a set of CPUs, such as "
            "0-7;8-15."
        )
    if len(devices) != ranks:
        raise ConfigError(f"--devices {text} names {len(devices)} devices for {ranks} ranks; give one for each rank.")
    return devices


def cpus_for(devices: list[str], index: int) -> list[int]:
    """The usable CPUs of rank `index` of this machine's, whose devices `parse_devices` gave.

    Numbers are those of NUMA nodes if all of them are, else of as many even parts. Ranks that have the same device
    divide it.

    Raises:
        ConfigError: there is no such device, or none of its CPUs may be used.
    """
    usable = usable_cpus()
    nodes = numa_nodes(usable)
    device = devices[index]
    if not device.isdecimal():
        cpus = sorted(set(_cpus(device) or ()) & set(usable))
        known = f"CPUs {usable[0]} to {usable[-1]}"
    else:
        numbers = {int(each) for each in devices}
        known = f"{len(numbers)} even parts, from 0,"
        if nodes:
            known = f"NUMA nodes {', '.join(map(str, nodes))}, or {known}"
        if numbers <= nodes.keys():
            cpus = nodes[int(device)]
        else:
            cpus = even_part(usable, int(device), len(numbers)) if int(device) < len(numbers) else []
    if not cpus:
        raise ConfigError(f"--devices has {device!r} and this machine has {known} to use; choose among these.")
    sharers = [place for place, other in enumerate(devices) if other == device]
    return even_part(cpus, sharers.index(index), len(sharers))


def even_part(cpus: list[int], index: int, parts: int) -> list[int]:
    """Part `index` of `parts` even ones of whole cores, in the order of NUMA nodes; shared where cores are fewer."""
    node_of = {cpu: node for node, its in numa_nodes(cpus).items() for cpu in its}
    cores: dict[tuple[int, int], list[int]] = {}
    for cpu in cpus:
        cores.setdefault((node_of.get(cpu, 0), core_of(cpu)), []).append(cpu)
    ordered = [cores[key] for key in sorted(cores)]
    if len(ordered) < parts:
        return sorted(ordered[index % len(ordered)])
    first, last = (len(ordered) * at // parts for at in (index, index + 1))
    return sorted(cpu for core in ordered[first:last] for cpu in core)


def numa_nodes(cpus: list[int]) -> dict[int, list[int]]:
    """Those of the CPUs that each NUMA node has, by its number; nothing where the system does not say."""
    nodes = {}
    for folder in NODES.glob("node[0-9]*"):
        its = set(_cpus((folder / "cpulist").read_text().strip()) or ())
        if usable := sorted(its & set(cpus)):
            nodes[int(folder.name.removeprefix("node"))] = usable
    return dict(sorted(nodes.items()))


def bind(cpus: list[int]) -> None:
    """Compute with these CPUs alone, in all threads that start from now on."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cpus)


def _cpus(text: str) -> list[int] | None:
    """CPUs of a list as Linux writes it, such as 0-3,8; None if it is none."""
    cpus: list[int] = []
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            return None
        first, last = int(match[1]), int(match[2] or match[1])
        cpus += range(first, last + 1)
    return cpus or None
