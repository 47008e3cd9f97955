"""The smallest of all limits on memory is found, wherever it stands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dinodiet.io.memory import most_memory

GIB = 2**30


def machine(folder: Path, groups: str, **limits: int | str) -> tuple[Path, Path]:
    """Write what a kernel says of 8 GiB and 1 GiB of swap, of its control groups, and their limits by file."""
    (folder / "proc" / "self").mkdir(parents=True)
    (folder / "proc" / "meminfo").write_text(f"MemTotal: {8 * 2**20} kB\nSwapTotal: {2**20} kB\nHugePages_Total: 0\n")
    (folder / "proc" / "self" / "cgroup").write_text(groups)
    for name, limit in limits.items():
        path = folder / "groups" / name.replace("__", "/").replace("DOT", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{limit}\n")
    return folder / "proc", folder / "groups"


@pytest.mark.parametrize(
    ("groups", "limits", "gib"),
    [
        ("0::/\n", {}, 9),
        ("0::/\n", {"memoryDOTmax": 2 * GIB}, 3),  # of a container, swap included
        ("0::/job/step\n", {"job__memoryDOTmax": 3 * GIB, "job__step__memoryDOTmax": "max"}, 4),  # of a group above
        ("0::/job\n", {"job__memoryDOTmax": 64 * GIB}, 9),  # more than the machine has
        ("4:memory:/a/b\n0::/\n", {"memory__a__memoryDOTlimit_in_bytes": 5 * GIB}, 6),
        ("5:cpu,memory:/x\n", {"memory__memoryDOTlimit_in_bytes": 4 * GIB}, 5),  # seen from inside, at its root
        ("4:memory:/a\n", {"memory__a__memoryDOTlimit_in_bytes": 2**63 - 4096}, 9),  # none
        ("5:cpu:/x\nnonsense\n", {"memory__memoryDOTlimit_in_bytes": 4 * GIB}, 9),
    ],
)
def test_the_smallest_limit_counts(groups: str, limits: dict[str, int | str], gib: float, tmp_path: Path) -> None:
    assert most_memory(*machine(tmp_path, groups, **limits)) == gib * GIB


def test_where_nothing_tells_nothing_is_known(tmp_path: Path) -> None:
    assert most_memory(tmp_path / "proc", tmp_path / "groups") is None


def test_own_limits_count() -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_DATA, (2**29, 2**29))\n"
        "from dinodiet.io.memory import most_memory; print(most_memory())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == 2**29
