"""Which of how many processes this one is, as those who started it say. Imports no torch."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Place:
    """Which of how many processes this is, the GPU of its machine, and where they meet.

    They meet by torch's `init_method`, or by a file in which the first one writes where it listens.
    """

    rank: int
    size: int
    local_rank: int
    rendezvous: str | Path = "env://"


def place_in(environment: Mapping[str, str]) -> Place | None:
    """Return the place that torchrun gave to this process; None for a process that was started alone."""
    given = [environment.get(name, "") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")]
    if not all(number.isdecimal() for number in given) or given[1] == "1":
        return None
    rank, size, local = map(int, given)
    return Place(rank, size, local)


def task_in(environment: Mapping[str, str], rendezvous: Path) -> Place | None:
    """Return the place of this task of a SLURM job; None where the job has no other task."""
    size = environment.get("SLURM_STEP_NUM_TASKS") or environment.get("SLURM_NTASKS") or "1"
    if size == "1":
        return None
    return Place(int(environment["SLURM_PROCID"]), int(size), int(environment["SLURM_LOCALID"]), rendezvous)


def machine_name() -> str:
    """Return what this machine is called: in a SLURM job the name of the node."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


SHARING = "DINODIET_RUNS_PER_GPU"  # a launcher that puts several runs on a GPU tells each of them


def runs_per_gpu(environment: Mapping[str, str]) -> int:
    """Return how many runs share the GPU of this process, as the launcher that started it says."""
    told = environment.get(SHARING, "")
    return max(int(told), 1) if told.isdecimal() else 1
