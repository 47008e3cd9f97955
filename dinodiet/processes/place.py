"""Which of how many processes this one is, as those who started it say. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """Which of how many processes this is, the GPU of its machine, and where they meet (as torch's `init_method`)."""

    rank: int
    size: int
    local_rank: int
    meeting: str = "env://"


def place_in(environment: Mapping[str, str]) -> Place | None:
    """Return the place that torchrun gave to this process; None for a process that was started alone."""
    given = [environment.get(name, "") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")]
    if not all(number.isdecimal() for number in given) or given[1] == "1":
        return None
    rank, size, local = map(int, given)
    return Place(rank, size, local)
