"""The CPU that machine code is made for, and the CPU that runs it."""

from __future__ import annotations

import platform
from collections.abc import Set
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ilmari.errors import TargetError
from ilmari.kernels.isa import choose_isa

HOST = "host"
TRIPLES = {"x86_64": "x86_64-linux-gnu", "aarch64": "aarch64-linux-gnu"}
ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}  # other systems' names for the same

CPUINFO_NAMES = {
    "sse3": "pni",
    "ssse3": "ssse3",
    "sse4.1": "sse4_1",
    "sse4.2": "sse4_2",
    "sse4a": "sse4a",
    "popcnt": "popcnt",
    "avx": "avx",
    "f16c": "f16c",
    "fma": "fma",
    "avx2": "avx2",
    "bmi": "bmi1",
    "bmi2": "bmi2",
    "lzcnt": "abm",
    "movbe": "movbe",
    "avx512f": "avx512f",
    "avx512cd": "avx512cd",
    "avx512bw": "avx512bw",
    "avx512dq": "avx512dq",
    "avx512vl": "avx512vl",
    "avx512vnni": "avx512_vnni",
    "avx512bf16": "avx512_bf16",
    "avx512ifma": "avx512ifma",
    "avx512vbmi": "avx512vbmi",
    "avx512vbmi2": "avx512_vbmi2",
    "avx512bitalg": "avx512_bitalg",
    "avx512vpopcntdq": "avx512_vpopcntdq",
    "avx512fp16": "avx512_fp16",
    "avxvnni": "avx_vnni",
    "gfni": "gfni",
    "vpclmulqdq": "vpclmulqdq",
    "neon": "asimd",
    "dotprod": "asimddp",
    "fullfp16": "asimdhp",
    "i8mm": "i8mm",
    "sve": "sve",
    "sve2": "sve2",
}
"""LLVM's name of each feature that generated code may use, and Linux's name of it in /proc/cpuinfo."""

UNRECORDED = frozenset(
    {
        "fma4",
        "xop",
        "tbm",
        "avxifma",
        "avxneconvert",
        "avxvnniint8",
        "avxvnniint16",
        "avx10.1",
        "avx10.2",
        "egpr",
        "ndd",
        "ccmp",
        "nf",
        "push2pop2",
        "ppx",
        "zu",
        "cf",
    }
)
"""Features of some CPUs that Linux does not name alike: code does without them, so that no artifact needs them."""


@dataclass(frozen=True)
class Target:
    """A CPU by LLVM's name, and what its code needs: architecture, and features by LLVM's names, sorted."""

    cpu: str
    arch: str
    features: tuple[str, ...]

    @property
    def isa_name(self) -> str:
        """Which kernels are written for it."""
        return choose_isa(frozenset(self.features)).name


def host_arch() -> str:
    """This machine's architecture, by Linux's name."""
    machine = platform.machine().lower()
    return ARCHITECTURES.get(machine, machine)


@cache
def host_features() -> frozenset[str]:
    """Features that this CPU has, by LLVM's names."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return frozenset(_llvm_features({"kind": "llvm", "mcpu": _host_cpu()}))
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    flags = next((line.split(":", 1)[1].split() for line in lines if line.startswith(("flags", "Features"))), [])
    return frozenset(name for name, flag in CPUINFO_NAMES.items() if flag in flags)


def check_host(target: Target, source: str) -> None:
    """Raise unless this CPU can run code made for `target`; `source` is the artifact, for the message.

    Raises:
        TargetError: another architecture, or features that this CPU lacks.
    """
    if target.arch != host_arch():
        raise TargetError(
            f"{source} was compiled for {target.arch} ({target.cpu}) and this machine is {host_arch()}; "
            "compile it again here, or with --target for this machine."
        )
    if missing := sorted(set(target.features) - host_features()):
        raise TargetError(
            f"{source} was compiled for {target.cpu}, and this CPU lacks {', '.join(missing)}; "
            "compile it again here, or with a --target that this CPU covers."
        )


def resolve_target(name: str) -> Target:
    """The target named `host`, or any CPU that LLVM knows (`haswell`, `znver4`, `neoverse-n1` ...). Needs the compiler.

    Raises:
        TargetError: LLVM does not know the name, or it is a 32-bit CPU.
    """
    if name == HOST:
        features = _llvm_features({"kind": "llvm", "mcpu": _host_cpu()}) & host_features()
        return Target(_host_cpu(), host_arch(), tuple(sorted(features)))
    import tvm
    from tvm.target import codegen

    for arch, triple in TRIPLES.items():
        if name in codegen.llvm_get_cpu_archlist(tvm.target.Target({"kind": "llvm", "mtriple": triple})):
            options = {"kind": "llvm", "mcpu": name, "mtriple": triple}
            if arch == "x86_64" and not codegen.llvm_cpu_has_features("64bit", tvm.target.Target(options)):
                raise TargetError(f"--target {name} is a 32-bit CPU; use x86-64 or a newer one.")
            return Target(name, arch, tuple(sorted(_llvm_features(options))))
    raise TargetError(
        f"--target {name} is not a CPU that LLVM knows; use host, or a name such as "
        "x86-64-v3, haswell, skylake-avx512, sapphirerapids, znver4 or neoverse-n1."
    )


def tvm_target(target: Target) -> Any:
    """`target` as TVM's object."""
    import tvm

    options: dict[str, Any] = {"kind": "llvm", "mcpu": target.cpu}
    if target.arch != host_arch():
        options["mtriple"] = TRIPLES[target.arch]
    # A virtual machine may hide what its CPU has.
    absent = _llvm_features(options, CPUINFO_NAMES.keys() | UNRECORDED) - set(target.features)
    if absent:
        options["mattr"] = [f"-{name}" for name in sorted(absent)]
    return tvm.target.Target(options)


def _host_cpu() -> str:
    from tvm.target import codegen

    return str(codegen.llvm_get_system_cpu())


def _llvm_features(options: dict[str, Any], known: Set[str] = CPUINFO_NAMES.keys()) -> set[str]:
    import tvm
    from tvm.target import codegen

    return {str(name) for name in codegen.llvm_get_cpu_features(tvm.target.Target(options))} & known
