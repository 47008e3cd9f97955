"""10,000 run directories collected and tabulated, cold and from the cache.

`python -m tests.bench.test_results FOLDER` only makes them.
"""

import itertools
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from dinodiet.store.grid import write_grid
from tests.bench.rows import Note
from tests.results import studies

RUNS = 10_000
MODELS = [f"{name}-{size}" for name in ("dinov2", "mae", "ijepa", "aimv2", "vit") for size in ("small", "base")]
DATASETS = (
    "pathmnist",
    "dermamnist",
    "octmnist",
    "bloodmnist",
    "organamnist",
    "cifar10",
    "cifar100",
    "digits",
    "mnist",
    "folder",
)


def generate(study: Path) -> None:
    """Write a study: 10 models x 10 datasets x 2 methods x 5 smoothings x 10 seeds, scores at 10 epochs."""
    cells = []
    grid = itertools.product(MODELS, DATASETS, ("diet", "dino"), (0.0, 0.1, 0.2, 0.3, 0.4), range(10))
    for number, (model, dataset, method, value, seed) in enumerate(grid):
        key = "method.loss.label_smoothing" if method == "diet" else "method.loss.student_temp"
        final = 0.8 + (number * 7919 % 1000) / 10_000
        content = studies.results(model, dataset, method, seed, 0.8, final, {key: value}, epochs=10)
        studies.write(study, content)
        cells.append(studies.cell(content, f"{key}={value}"))
    assert len(cells) == RUNS
    write_grid(study, cells)


@dataclass
class Cost:
    """A command from its start to its end: seconds on the clock and of the CPU, and its peak memory."""

    seconds: float
    cpu_seconds: float
    megabytes: float

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s ({self.cpu_seconds:.1f} CPU seconds, {self.megabytes:.0f} MB)"


TABLE = "runpy.run_module('dinodiet.results', run_name='__main__')"
# What no table can do without: pandas, and the content of all results.
LEAST = (
    "import gc, json, pandas; gc.disable(); study = sys.argv[1]; names = sorted(os.listdir(study)); "
    "[json.loads(open(f'{study}/{name}/results.json').read()) for name in names if name[0] != '.']"
)


def measure(*arguments: str, does: str = TABLE) -> tuple[Cost, str]:
    """Return the cost of a command and what it printed."""
    script = (
        "import os, sys, atexit, resource, runpy; used = lambda: resource.getrusage(resource.RUSAGE_SELF); "
        "peak = lambda: open('/proc/self/status').read().partition('VmHWM:')[2].split()[0]; "
        "atexit.register(lambda: print(used().ru_utime + used().ru_stime, int(peak()) / 1024)); "
        f"{does}"
    )
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - begun
    printed, _, used = done.stdout.rstrip().rpartition("\n")
    return Cost(seconds, *map(float, used.split())), printed


@pytest.mark.bench
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_ten_thousand_runs(tmp_path: Path, note: Note) -> None:
    study = tmp_path / "study"
    generate(study)
    least = min((measure(str(study), does=LEAST)[0] for _ in range(2)), key=lambda cost: cost.cpu_seconds)
    cold, first = measure(str(study))
    measure(str(study))  # reads again what was written a moment before it was read
    (same, again), *others = (measure(str(study)) for _ in range(4))
    best = min([same, *(other for other, _ in others)], key=lambda cost: cost.cpu_seconds)
    changed, _ = measure(str(study), "--metric", "kmeans/ari")
    tidy, _ = measure(str(study), "--tidy", str(tmp_path / "scores.csv"))
    print(
        f"\n{RUNS:,} runs tabulated: cold {cold}, again, nothing changed, {same}, best of four {best}; "
        f"another metric {changed}; reading alone {least}; all scores as CSV {tidy}"
    )
    costs = {
        "read and tabulated": cold,
        "tabulated again, nothing changed": best,
        "tabulated by another metric": changed,
        "all scores as CSV": tidy,
    }
    for what, cost in costs.items():
        note(f"{RUNS:,} runs {what}", f"{cost.cpu_seconds:.1f} CPU seconds, {cost.megabytes:.0f} MB")
    assert f"{RUNS} runs: {RUNS} done" in first
    assert first.count(" (10)") == 3000
    assert first == again
    # Where other work shares the cores CPU seconds are longer too: by reading alone it is told how much.
    assert cold.cpu_seconds < max(3, 3 * least.cpu_seconds)
    assert best.cpu_seconds < 0.5
    assert changed.cpu_seconds < 3
    assert max(cold.megabytes, tidy.megabytes) < 1000


if __name__ == "__main__":
    generate(Path(sys.argv[1]))
