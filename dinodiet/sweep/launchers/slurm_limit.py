"""One limit for all jobs of a study that run at a time, whatever number of arrays they were submitted in.

SLURM limits each array alone. So an array gets what the others of its study leave. Where they leave nothing, or another
one waits already, it waits for the newest and takes its place: the limit holds also where nobody watches. Who watches
hands on what becomes free.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dinodiet.store import queue as slurm_queue
from dinodiet.store.grid import read_jobs

WAITS = ("Dependency", "DependencyNeverSatisfied")  # why a job waits that is not to count yet


@dataclass(frozen=True)
class Array:
    """An array of a study that is not at its end.

    Attributes:
        job: its id.
        active: how many of its jobs wait or run.
        throttle: how many of them may run at a time; None: all.
        waits: for another array.
    """

    job: str
    active: int
    throttle: int | None
    waits: bool

    @property
    def share(self) -> int:
        """How many of its jobs may run now."""
        return 0 if self.waits else min(self.throttle or self.active, self.active)


@dataclass(frozen=True)
class Room:
    """What a new array may do: so many jobs at a time, once another array (`after`) has ended; None: at once."""

    throttle: int
    after: str | None = None


def arrays_of(study: Path) -> list[Array]:
    """Return the arrays of a study that have not ended, oldest first; none where SLURM does not say."""
    active = slurm_queue.active_jobs() or {}
    jobs = {job: active[job] for job in set(read_jobs(study).values()) if job in active}
    counts = Counter(_array(job) for job in jobs)
    waiting = {_array(job) for job, reason in jobs.items() if reason in WAITS}
    return [
        Array(array, counts[array], slurm_queue.array_throttle(array), array in waiting)
        for array in sorted(counts, key=int)
    ]


def room_for(arrays: Sequence[Array], limit: int) -> Room:
    """Return how a new array is to share a limit with those that there are."""
    free = limit - sum(array.share for array in arrays)
    waiting = [array for array in arrays if array.waits]
    if not waiting and (free > 0 or not arrays):
        return Room(max(free, 1))
    before = waiting[-1] if waiting else arrays[-1]
    return Room(min(before.throttle or before.active, before.active, limit), before.job)


def rebalance(study: Path, limit: int, dependency: str = "") -> None:
    """Hand on what is free of a limit.

    Args:
        study: whose arrays they are.
        limit: of jobs at a time.
        dependency: what the user makes all jobs wait for, which stays.
    """
    for array, (throttle, begins) in changes(arrays_of(study), limit).items():
        begun = {"Dependency": dependency} if begins else {}
        slurm_queue.update(array.job, {"ArrayTaskThrottle": throttle, **begun})


def changes(arrays: Sequence[Array], limit: int) -> dict[Array, tuple[int, bool]]:
    """Return how many jobs arrays may run at a time from now on, and whether they need not wait any more.

    The oldest that waits begins; those behind it will take its place, and have as much. Only where none waits, arrays
    that run get more.
    """
    free = limit - sum(array.share for array in arrays)
    waiting = [array for array in arrays if array.waits]
    if free <= 0:
        return {}
    if waiting:
        throttle = min(free, waiting[0].active)
        return {array: (throttle, array is waiting[0]) for array in waiting}
    found: dict[Array, tuple[int, bool]] = {}
    for array in arrays:
        if (more := min(free, array.active - array.share)) > 0:
            found[array] = array.share + more, False
            free -= more
    return found


def _array(job: str) -> str:
    return job.partition("_")[0]
