"""What a sweep costs beside its runs: composing, locks, states and, on SLURM, the start of a job."""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dinodiet.sweep import task
from dinodiet.sweep.drive import drive
from dinodiet.sweep.launchers import local
from dinodiet.sweep.launchers.local import Local
from tests.bench.rows import Note
from tests.places import ROOT
from tests.running import TINY, command
from tests.slurm.conftest import Cluster, cluster  # noqa: F401 - a fixture
from tests.sweep.cells import seeds

RUNS = 8


@pytest.mark.bench
def test_a_sweep_costs_little_beside_its_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, note: Note) -> None:
    inside = []

    def timed(one: task.Task) -> None:
        begun = time.process_time()
        task.execute(one)
        inside.append(time.process_time() - begun)

    monkeypatch.setattr(local, "execute", timed)
    begun = time.process_time()
    grid = seeds(tmp_path, RUNS)
    composed = time.process_time()
    drive(grid, Local(), retry_failed=False)
    driving = time.process_time() - composed - sum(inside)
    composing = composed - begun
    each = (composing + driving) / RUNS
    print(
        f"\nCPU seconds a run: composing {composing / RUNS:.3f}, locks and states {driving / RUNS:.4f}; "
        f"a run of sweeps/smoke takes 30: {each / 30:.2%}"
    )
    note("a run of a sweep, composing", f"{composing / RUNS:.3f} CPU seconds")
    note("a run of a sweep, locks and states", f"{driving / RUNS:.4f} CPU seconds")
    assert each < 0.02 * 30


@pytest.mark.bench
def test_a_finished_sweep_ends_at_once(tmp_path: Path, note: Note) -> None:
    """The same command on a finished sweep takes what Python, Hydra and pandas take to start, and composing."""
    grid = command(tmp_path, "-m", *TINY, "schedule.epochs=0", f"seed=range({RUNS})")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(grid, env=environment, check=True, capture_output=True, cwd=tmp_path)
    imports = [sys.executable, "-c", "import hydra, pandas"]
    again: list[float] = []
    bare: list[float] = []
    for _ in range(3):
        for words, seconds in ((grid, again), (imports, bare)):
            begun = time.perf_counter()
            subprocess.run(words, env=environment, check=True, capture_output=True, cwd=tmp_path)
            seconds.append(time.perf_counter() - begun)
    print(
        f"\n{RUNS} finished runs, the command again: {statistics.median(again):.2f} s; "
        f"`import hydra, pandas` alone: {statistics.median(bare):.2f} s"
    )
    note(
        f"the command again, {RUNS} finished runs, over `import hydra, pandas`",
        [a / b for a, b in zip(again, bare, strict=True)],
    )
    assert min(again) < min(bare) + 2.5


@pytest.mark.bench
@pytest.mark.slurm
def test_a_slurm_job_starts_as_fast_as_an_empty_one(cluster: Cluster, tmp_path: Path, note: Note) -> None:  # noqa: F811
    """From the first line of the batch script to that of the run, against a Python that imports nothing."""
    (tmp_path / "empty.sh").write_text(
        f"#!/bin/sh\ndate +%s.%N > begun\nsrun {sys.executable} -c 'import time; print(time.time())' > python\n"
    )
    environment = {**os.environ, **cluster.environment, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    extra = []
    for number in range(3):
        subprocess.run(["sbatch", "--wait", "empty.sh"], env=environment, check=True, cwd=tmp_path, capture_output=True)
        empty = float((tmp_path / "python").read_text()) - float((tmp_path / "begun").read_text())
        sweep = command(
            tmp_path,
            *("-m", "hydra/launcher=slurm", "hydra.launcher.gpus_per_node=null", "hydra.launcher.cpus_per_task=1"),
            *("hydra.launcher.mem_gb=1", "hydra.launcher.poll_seconds=1"),
            *(f"hydra.launcher.setup=['date +%s.%N > {tmp_path}/begun']", *TINY, "schedule.epochs=0", f"seed={number}"),
        )
        subprocess.run(sweep, env=environment, check=True, cwd=tmp_path, capture_output=True)
        (log,) = tmp_path.glob(f"default/*seed{number}*/log.txt")
        extra.append(_first_line(log) - float((tmp_path / "begun").read_text()) - empty)
    print(f"\nseconds of a SLURM job before its run, over an empty Python's: {', '.join(f'{s:.2f}' for s in extra)}")
    note("seconds of a SLURM job before its run, over an empty Python's", extra)
    assert statistics.median(extra) < 1.0


def _first_line(log: Path) -> float:
    """Return when the run's log was begun, in seconds since the epoch."""
    return float(log.read_text().partition("at ")[2].split()[0])
