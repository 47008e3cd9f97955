"""What it costs before anything is computed: CPU seconds of whole processes, over those of the imports they need."""

import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.bench.rows import Note
from tests.places import ROOT

REPEATS = int(os.environ.get("BENCH_REPEATS", "1"))  # of what takes seconds; what takes less is repeated more often

HYDRA = "import hydra"
TORCH_AND_DATA = "import torch, timm; from dinodiet.data.sources.digits import digits; digits()"
# The run as it is, up to its first step.
FIRST_STEP = """
import os, sys
from dinodiet.sweep.command import cli
from dinodiet.run.monitor import Monitor
Monitor.on_step = lambda *_: os._exit(0)
sys.argv = ["launch.py", "outputs_dir=" + sys.argv[1], *sys.argv[2:]]
cli()
"""


def cpu_seconds(arguments: Sequence[str | Path], expected: int = 0) -> float:
    """Return the user and system time of a Python process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == expected, done.stderr
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def report(note: Note, what: str, seconds: Sequence[float], floor: Sequence[float]) -> float:
    ratios = [one / other for one, other in zip(seconds, floor, strict=True)]
    note(f"{what}, CPU time over that of the imports", ratios)
    print(
        f"\n{what}: {statistics.median(seconds):.2f} s, {statistics.median(ratios):.2f} x "
        f"({min(ratios):.2f} to {max(ratios):.2f}, {len(ratios)} pairs)",
        end="",
    )
    return min(ratios)  # fails where the measurement contradicts the claim, and not where it is noise


@pytest.mark.bench
def test_help_and_refusals_take_little_more_than_importing_hydra(note: Note) -> None:
    launch = ROOT / "launch.py"
    commands = {
        "--help": (["--help"], 0),
        "--cfg job, which Hydra answers": (["--cfg", "job"], 0),
        "an unknown choice": (["model=nope"], 1),
        "an unknown size": (["model=dinov2", "model.size=huge"], 1),
        "a value of the wrong type": (["method.loss.label_smoothing=much"], 1),
    }
    floor: list[float] = []
    seconds: dict[str, list[float]] = {what: [] for what in commands}
    for _ in range(2 * REPEATS):
        floor.append(cpu_seconds(["-c", HYDRA]))
        for what, (arguments, status) in commands.items():
            seconds[what].append(cpu_seconds([launch, *arguments], status))
    print(f"\nimport hydra: {statistics.median(floor):.2f} CPU s", end="")
    least = {what: report(note, what, found, floor) for what, found in seconds.items()}
    assert least["--help"] <= 1
    assert max(least.values()) <= 5


@pytest.mark.bench
def test_the_first_step_comes_soon_after_the_imports(tmp_path: Path, note: Note) -> None:
    """The first of several runs of a backbone scores it; the others find these scores.

    `BENCH_REPEATS=3` takes the whole of the default's evaluation; else its slowest part is left out, for both.
    """
    evaluation = () if REPEATS > 1 else ("eval=[knn,kmeans]",)
    whole = cpu_seconds(["-c", FIRST_STEP, tmp_path, "seed=0", *evaluation])
    floor, first = [], []
    for repeat in range(REPEATS):
        floor.append(cpu_seconds(["-c", TORCH_AND_DATA]))
        first.append(cpu_seconds(["-c", FIRST_STEP, tmp_path, f"seed={1 + repeat}", *evaluation]))
    note("to the first step of the first run, which scores the backbone", f"{whole:.1f} CPU seconds")
    print(f"\nimport torch, timm and the data: {statistics.median(floor):.2f} CPU s", end="")
    print(f"\nto the first step of the first run, which scores the backbone: {whole:.2f} CPU s", end="")
    assert report(note, "to the first step of a later run of the same backbone", first, floor) <= 1.3
