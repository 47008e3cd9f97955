"""Numbers in words: bytes, counts, durations and energies. Imports no torch."""

from __future__ import annotations


def byte_size(number: float) -> str:
    """Return a number of bytes in words: 700 B, 2.1 KiB, 3.4 GiB."""
    for unit, size in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number:.0f} B"


def count(number: int) -> str:
    """Return a count in words: 3,370,000 -> 3.4 M."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return str(number)


def duration(seconds: float) -> str:
    """Return a duration in words."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def operations(number: float) -> str:
    """Return a number of floating-point operations in words: 3.4 GFLOP, 120.0 PFLOP."""
    for unit, size in (("EFLOP", 1e18), ("PFLOP", 1e15), ("TFLOP", 1e12), ("GFLOP", 1e9), ("MFLOP", 1e6)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number:.0f} FLOP"


def energy(kwh: float) -> str:
    """Return an energy in kWh in words: 12.3 kWh, 35 Wh, 700 J."""
    if kwh >= 1:
        return f"{kwh:,.1f} kWh"
    return f"{kwh * 1e3:.0f} Wh" if kwh >= 0.01 else f"{kwh * 3.6e6:,.0f} J"
