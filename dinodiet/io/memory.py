"""How much memory a process may have at most: of the machine, of its control groups, of its own limits. No torch."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")
UNLIMITED = 2**60  # a larger limit is none


def most_memory(proc: Path = PROC, cgroups: Path = CGROUPS) -> int | None:
    """Return the most bytes that this process can ever hold, swap included; None where nothing tells."""
    machine = _meminfo(proc)
    swap = machine.get("SwapTotal", 0)
    found = [machine["MemTotal"] + swap] if "MemTotal" in machine else []
    found += [limit + swap for limit in _of_cgroups(proc, cgroups)]
    found += [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    return min((limit for limit in found if 0 < limit < UNLIMITED), default=None)


def _meminfo(proc: Path) -> dict[str, int]:
    """Return what the kernel says of the machine's memory, in bytes by name."""
    lines = [line.split() for line in _text(proc / "meminfo").splitlines()]
    return {words[0].rstrip(":"): 1024 * int(words[1]) for words in lines if len(words) > 1 and words[1].isdigit()}


def _of_cgroups(proc: Path, cgroups: Path) -> Iterator[int]:
    """Yield the limits of the groups that this process is in, and of those above them; of both versions of groups."""
    for line in _text(proc / "self" / "cgroup").splitlines():
        _, kinds, place = [*line.split(":", 2), "", ""][:3]
        root = cgroups if not kinds else cgroups / "memory"
        if kinds and "memory" not in kinds.split(","):
            continue
        group = root / place.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(root):
                yield from _limits_in(folder)


def _limits_in(folder: Path) -> Iterator[int]:
    for name in ("memory.max", "memory.limit_in_bytes"):
        if (word := _text(folder / name).strip()).isdigit():
            yield int(word)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
