"""SLURM's jobs: which wait or run (squeue), and how the others ended (sacct, where it works)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping

SECONDS = 60  # SLURM's clients retry for long where the controller is away


def active_jobs() -> dict[str, str] | None:
    """Return why each of this user's jobs waits, by id (12, or 12_3 in an array); None where SLURM cannot say.

    Jobs that run are there too; their reason is `None`.
    """
    out = _ask("squeue", "--noheader", "--array", f"--user={os.getuid()}", "--format=%i|%r")
    return None if out is None else dict(_job_and_reason(line) for line in out.splitlines() if line.strip())


def _job_and_reason(line: str) -> tuple[str, str]:
    job, _, reason = line.strip().partition("|")
    return job, reason


def is_held(reason: str) -> bool:
    """Return whether a job waits because someone holds it."""
    return "held" in reason.lower()


def hold(jobs: Iterable[str]) -> bool:
    """Keep waiting jobs from starting; return whether SLURM did."""
    return _ask("scontrol", "hold", ",".join(sorted(jobs))) is not None


def release(jobs: Iterable[str]) -> bool:
    """Let held jobs start; return whether SLURM did."""
    return _ask("scontrol", "release", ",".join(sorted(jobs))) is not None


def endings(jobs: Iterable[str]) -> dict[str, str]:
    """Return how jobs ended by sacct, such as OUT_OF_MEMORY or CANCELLED; those it does not know are left out."""
    wanted = sorted(jobs)
    if not wanted:
        return {}
    which = ("--allocations", "--format=JobID,State", f"--jobs={','.join(wanted)}")
    rows = [line.split("|") for line in (_ask("sacct", "--noheader", "--parsable2", *which) or "").splitlines()]
    return {row[0]: row[1].split()[0] for row in rows if len(row) == 2 and row[0] in wanted and row[1]}


def cancel(jobs: Iterable[str]) -> None:
    """Ask SLURM to cancel jobs; those that ended meanwhile do not matter."""
    if wanted := sorted(jobs):
        _ask("scancel", *wanted)


def requeue(job: str) -> bool:
    """Ask SLURM to put a running job back into the queue; return whether it did."""
    return _ask("scontrol", "requeue", job) is not None


def array_throttle(array: str) -> int | None:
    """Return how many jobs of an array may run at a time; None: all, it is none, or SLURM does not say."""
    found = re.search(r"ArrayTaskThrottle=(\d+)", _ask("scontrol", "show", "job", "--oneliner", array) or "")
    return int(found[1]) or None if found else None


def update(job: str, values: Mapping[str, object]) -> bool:
    """Change settings of a job, by scontrol's names; return whether SLURM did."""
    return _ask("scontrol", "update", f"JobId={job}", *(f"{key}={value}" for key, value in values.items())) is not None


def max_array_size() -> int:
    """Return how many tasks an array of this cluster may have."""
    for line in (_ask("scontrol", "show", "config") or "").splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "MaxArraySize":
            return int(value)
    return 1001  # SLURM's own default


def _ask(*command: str) -> str | None:
    if shutil.which(command[0]) is None:
        return None
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=SECONDS).stdout
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return None
