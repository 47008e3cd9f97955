"""Real limits of a machine: full disks and full shared memory, mounted for the tested process alone."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kinds import after_nightly, rest_nightly
from tests.places import ROOT
from tests.running import TINY, command

MOUNTS = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0 and not os.getuid()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not MOUNTS, reason="mounts need root and unshare -m")]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HYDRA_FULL_ERROR": "0"}
ENOUGH, SECONDS = "mount -o remount,size=200m", 300  # for two runs on a machine that does other work


def mounted(place: Path, size: str, words: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command twice: where so much fits into a folder, and with room."""
    script = f'mount -t tmpfs -o size={size} tmpfs {place} && "$@"; echo left with $?; {ENOUGH} {place} && "$@"'
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", *words],
        env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=SECONDS,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("size", "named"),
    rest_nightly(
        [
            ("12k", "splits.json"),
            ("24k", "scores/"),
            ("60k", "checkpoint.pt"),
            ("500k", "checkpoint.pt"),
            ("700k", "weights"),
        ],
        [("500k", "checkpoint.pt")],
    ),
)
def test_a_full_disk_is_one_line_and_the_run_goes_on_with_room(tmp_path: Path, size: str, named: str) -> None:
    done = mounted(tmp_path, size, command(tmp_path, *TINY, "checkpoint_minutes=0"))
    assert "left with 75" in done.stdout
    assert "No space left on device" in done.stderr
    assert named in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 0, done.stderr
    assert ("continuing from step" in done.stdout) == (size in ("500k", "700k"))


@pytest.mark.parametrize("format", after_nightly(1, ["npz", "parquet"]))
def test_embeddings_go_on_with_room_after_a_full_disk(tmp_path: Path, format: str) -> None:
    small = ("mode=embed", f"embed.format={format}", "embed.rows=64", "eval.batch_size=64", f"embed.out={tmp_path}/out")
    done = mounted(tmp_path, "72k", command(tmp_path, *TINY, *small))
    assert "left with 75" in done.stdout
    told = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert len(told) == 1 and "No space left on device" in told[0] and f"{tmp_path}/out/" in told[0]
    assert "Traceback" not in done.stderr
    assert done.returncode == 0, done.stderr
    assert "images were embedded already, " in done.stdout  # the parts that there was room for


# Fills the disk when a function of a module is called, and then runs the command line.
FILLING = """
import importlib, os, sys
from pathlib import Path
place, name, function, *sys.argv[1:] = sys.argv[1:]
module = importlib.import_module(name)
owner, _, last = function.rpartition(".")
holder = getattr(module, owner) if owner else module
before = getattr(holder, last)
def full(*args, **kwargs):
    with Path(place, "filler").open("wb", buffering=0) as file:
        for size in (4096, 1):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError:
                continue
    return before(*args, **kwargs)
setattr(holder, last, full)
from dinodiet.sweep.command import cli
sys.exit(cli())
"""


@pytest.mark.parametrize(
    ("module", "function", "named"),
    after_nightly(
        1,
        [
            ("dinodiet.store.rundir", "RunDir.append_metrics", "metrics.jsonl"),
            ("dinodiet.run.run", "write_results", "results.json"),
        ],
    ),
)
def test_a_disk_that_fills_in_the_middle_is_one_line(tmp_path: Path, module: str, function: str, named: str) -> None:
    words = [*TINY, "log_every=1", "checkpoint_minutes=0", f"outputs_dir={tmp_path}"]
    filling = [sys.executable, "-W", "error", "-c", FILLING, str(tmp_path), module, function, *words]
    usual = [sys.executable, "-W", "error", str(ROOT / "launch.py"), *words]
    script = f"mount -t tmpfs -o size=4m tmpfs {tmp_path}; {shlex.join(filling)}; echo left with $?; "
    script += f"cat {tmp_path}/*/*/status.json; rm {tmp_path}/filler; {shlex.join(usual)} && cat {tmp_path}/*/*/*.jsonl"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script],
        cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=SECONDS,
    )  # fmt: skip
    assert "left with 75" in done.stdout, done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert len(told) == 1, done.stderr
    assert named in told[0]
    assert "No space left on device" in told[0]
    assert "Traceback" not in done.stderr
    assert done.returncode == 0, done.stderr
    assert [step for step in range(1, 13) if f'"step": {step},' in done.stdout] == list(range(1, 13))


@pytest.mark.parametrize("size", after_nightly(1, ["8k", "64k"]))
def test_full_shared_memory_ends_a_run_with_workers(tmp_path: Path, size: str) -> None:
    done = mounted(Path("/dev/shm"), size, command(tmp_path, *TINY, "num_workers=2"))
    assert "left with 75" in done.stdout
    assert "shared memory (/dev/shm" in done.stderr
    assert "num_workers=0" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 0, done.stderr
