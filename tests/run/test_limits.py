"""Real limits of a machine: full disks and full shared memory, mounted for the tested process alone."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.running import TINY, command

MOUNTS = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0 and not os.getuid()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not MOUNTS, reason="mounts need root and unshare -m")]
ENOUGH, SECONDS = "mount -o remount,size=200m", 60


def mounted(place: Path, size: str, words: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command twice: where so much fits into a folder, and with room."""
    script = f'mount -t tmpfs -o size={size} tmpfs {place} && "$@"; echo left with $?; {ENOUGH} {place} && "$@"'
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HYDRA_FULL_ERROR": "0"}
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", *words],
        env=environment, capture_output=True, text=True, check=False, timeout=2 * SECONDS,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("size", "named"),
    [
        ("12k", "splits.json"),
        ("24k", "scores/"),
        ("60k", "checkpoint.pt"),
        ("500k", "checkpoint.pt"),
        ("700k", "weights"),
    ],
)
def test_a_full_disk_is_one_line_and_the_run_goes_on_with_room(tmp_path: Path, size: str, named: str) -> None:
    done = mounted(tmp_path, size, command(tmp_path, *TINY, "checkpoint_minutes=0"))
    assert "left with 75" in done.stdout
    assert "No space left on device" in done.stderr
    assert named in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 0, done.stderr
    assert ("continuing from step" in done.stdout) == (size in ("500k", "700k"))


@pytest.mark.parametrize("size", ["8k", "64k"])
def test_full_shared_memory_ends_a_run_with_workers(tmp_path: Path, size: str) -> None:
    done = mounted(Path("/dev/shm"), size, command(tmp_path, *TINY, "num_workers=2"))
    assert "left with 75" in done.stdout
    assert "shared memory (/dev/shm" in done.stderr
    assert "num_workers=0" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 0, done.stderr
