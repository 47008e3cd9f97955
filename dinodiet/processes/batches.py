"""How a batch is cut into parts, and shared by processes. Imports no torch."""

from __future__ import annotations

from dinodiet.errors import UserError


def part_size(batch_size: int, parts: int) -> int:
    """Return how many images each of the parts of a batch has; what is left over makes a smaller last one."""
    return -(-batch_size // parts)


def check_divided(batch_size: int, parts: int, processes: int) -> None:
    """Refuse a batch of which processes would have unequal parts.

    Raises:
        UserError: one line with the nearest batch sizes that would do.
    """
    if not _is_divided(batch_size, parts, processes):
        step = parts * processes
        below, above = batch_size // step * step, -(-batch_size // step) * step
        fit = " or ".join(str(size) for size in sorted({below, above}) if size)
        told = f" in {parts} parts (schedule.accumulate)" if parts > 1 else ""
        raise UserError(
            f"schedule.batch_size: {processes} processes cannot share {batch_size} images{told} evenly; choose {fit}"
        )


def _is_divided(batch_size: int, parts: int, processes: int) -> bool:
    size = part_size(batch_size, parts)
    return size % processes == 0 and batch_size % size % processes == 0
