"""Quantities for people to read."""

_PREFIXES = ("", "k", "M", "G", "T", "P")


def si(value: float, unit: str) -> str:
    """`value` to three digits with a decimal prefix: 181272832 bytes are "181 MB", 46080 are "46.1 kB"."""
    for prefix in _PREFIXES:
        if value < 999.5 or prefix == _PREFIXES[-1]:
            break
        value /= 1000
    digits = f"{value:.0f}" if value >= 99.95 or value == int(value) else f"{value:.3g}"
    return f"{digits} {prefix}{unit}".rstrip()
