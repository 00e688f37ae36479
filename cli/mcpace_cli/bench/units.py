"""Numbers as people read them, and the units in which they write bounds."""

from __future__ import annotations

from typing import Final

TIMES: Final = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}
SIZES: Final = {"": 1.0, "B": 1.0, "KiB": 1024.0, "Ki": 1024.0, "MiB": 1024.0**2, "Mi": 1024.0**2}


def duration(seconds: float) -> str:
    """`3.2 ms`, to three digits."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size * 0.9995 or unit == "µs":
            number = seconds / size
            return f"{number:.0f} {unit}" if number >= 99.95 else f"{number:.3g} {unit}"
    raise AssertionError


def amount(number: float) -> str:
    """`1,234`, `12.3`, `0.12`."""
    return f"{number:,.0f}" if number >= 99.95 else f"{number:.3g}"


def part(number: float) -> str:
    """`12.3 %`; what is not all, or not nothing, is not said to be."""
    percent = number * 100
    if 99.95 <= percent < 100:
        return "> 99.9 %"
    if 0 < percent < 0.05:
        return "< 0.1 %"
    return f"{percent:.1f} %".replace(".0 %", " %")


def size(number: float) -> str:
    """`12.3 KiB`."""
    for unit in ("B", "KiB", "MiB"):
        if number < 1023.5:
            return f"{amount(number)} {unit}"
        number /= 1024
    return f"{amount(number)} GiB"
