"""How runs share GPUs: how many at a time, on which, and of how much memory. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from dinodiet.errors import UserError
from dinodiet.sweep.drive import Launcher
from dinodiet.sweep.task import Task

GIB = 2**30


@dataclass(frozen=True)
class Packing:
    """How a launcher puts runs on GPUs.

    Attributes:
        runs_per_gpu: runs at a time on one GPU.
        memory: bytes of one GPU; None: unknown.
        gpus: how many this machine shares out, 0 where it has none; None: jobs of a cluster have one each.
    """

    runs_per_gpu: int
    memory: int | None = None
    gpus: int | None = None

    @property
    def is_limited(self) -> bool:
        """Whether several runs have to fit into the known memory of one GPU."""
        return self.runs_per_gpu > 1 and self.memory is not None

    def packs(self, tasks: Sequence[Task]) -> list[list[Task]]:
        """Return tasks in lists that share an allocation, in their order; the last may be shorter."""
        return [list(tasks[first : first + self.runs_per_gpu]) for first in range(0, len(tasks), self.runs_per_gpu)]

    def told(self, runs: int) -> str:
        """Return how so many runs are shared out, in words."""
        if self.gpus is None:
            allocations = _count(math.ceil(runs / self.runs_per_gpu), "allocation")
            each = f"{self.runs_per_gpu} runs per GPU: " if self.runs_per_gpu > 1 else ""
            return f"{each}{allocations} for {_count(runs, 'run')} to do"
        if not self.gpus:
            return f"{_count(self.runs_per_gpu, 'run')} at a time on this machine, which has no GPU"
        together = self.runs_per_gpu * self.gpus
        at_a_time = f"{_count(together, 'run')} at a time"
        return f"{_count(self.runs_per_gpu, 'run')} per GPU: {at_a_time} on {_count(self.gpus, 'GPU')} of this machine"


@runtime_checkable
class PackingLauncher(Launcher, Protocol):
    """A launcher that may put several runs on one GPU."""

    @property
    def packing(self) -> Packing | None:
        """How it puts runs on GPUs; None: it was not told how many."""
        ...


def packing_of(launcher: Launcher) -> Packing | None:
    """Return how a launcher puts runs on GPUs; None where it does not say."""
    return launcher.packing if isinstance(launcher, PackingLauncher) else None


def check_alone(tasks: Sequence[Task], runs_per_gpu: int) -> None:
    """Refuse runs of several processes where runs share a GPU.

    Raises:
        UserError: names the first one's processes.
    """
    for task in tasks:
        asked = task.config.get("processes")
        if runs_per_gpu > 1 and isinstance(asked, int) and asked > 1:
            raise UserError(
                f"processes: {asked} of a run need a GPU each, and runs_per_gpu={runs_per_gpu} puts several runs on "
                "one; set processes=1 or hydra.launcher.runs_per_gpu=1"
            )


def memory_in_bytes(gibibytes: float | None) -> int | None:
    """Return the bytes of a memory that was given in GiB."""
    return None if gibibytes is None else int(gibibytes * GIB)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
