"""A whole study on a cluster, small: it changes while its jobs wait, and ends with the table of one left alone."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from dinodiet.io.locks import is_locked
from dinodiet.store.code import take_snapshot
from dinodiet.store.grid import read_grid, read_jobs, submit_lock
from tests.data.sources.test_folder import tree
from tests.data.sources.test_medmnist import write
from tests.places import ROOT
from tests.running import command, scores
from tests.slurm.conftest import Cluster, wait_until
from tests.slurm.sweeps import Sweep, finish

pytestmark = [pytest.mark.slurm, pytest.mark.nightly, pytest.mark.timeout(3600)]

Cell = dict[str, Any]  # values by key
METHODS: tuple[Cell, ...] = (
    {"method": "diet"},
    {"method": "simclr", "method.head.hidden_dims": "[32]"},
    {
        "method": "lejepa",
        "method.views.crops": "2",
        "method.head.hidden_dims": "[32]",
        "method.loss.sigreg.directions": 64,
    },
    {"method": "mae", "method.head.width": 32, "method.head.heads": 4, "method.head.depth": 1},
)
SETS: tuple[Cell, ...] = (
    {"dataset": "digits"},
    {"dataset": "folder", "dataset.source.root": "images"},
    {"dataset": "bloodmnist", "dataset.source.published": None, "dataset.source.download": False},
)
HEADS, SIZES, SEEDS = (2, 3), (16, 32), (0, 1)
COMMON: Cell = {
    "model": {"patch_size": 8, "model_args": {"depth": 2, "embed_dim": 24, "num_heads": 2}},
    "dataset": {"image_size": 32},
    "schedule": {"epochs": 2, "batch_size": 16},
    "eval": {"knn": {"k": 5}},
    **{"log_every": 1, "figures": False, "device": "cpu"},
}
CHOSEN = {"model": "vit_tiny", "eval": "knn", "tuned": "none"}
ORDER = ("absent", "blocked", "queued", "running", "done")  # that a run goes through where nothing goes wrong


def grid() -> list[Cell]:
    """Return 96 cells: 4 objectives x 3 sets x 2 backbones x 2 sizes x 2 seeds."""
    axes = itertools.product(METHODS, SETS, HEADS, SIZES, SEEDS)
    return [
        {**method, **images, "model.model_args.num_heads": heads, "dataset.limit": size, "seed": seed}
        for method, images, heads, size, seed in axes
    ]


def write_grid(folder: Path, cells: list[Cell]) -> None:
    """Write the cells as a sweep of one's own, `sweeps=small`."""
    (folder / "sweeps").mkdir(parents=True, exist_ok=True)
    sweep = {**COMMON, "hydra": {"sweeper": {"params": CHOSEN, "together": {"cell": cells}}}}
    (folder / "sweeps" / "small.yaml").write_text(f"# @package _global_\n{yaml.safe_dump(sweep, sort_keys=False)}")


class Study(Sweep):
    """The sweep of a checkout that people change, with their grid in `mine` and data beside it."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        super().__init__(cluster, folder, "sweeps=small", f"data_dir={folder / 'data'}", base=())
        shutil.copytree(take_snapshot(folder / "taken", {}), folder, dirs_exist_ok=True)
        place = next(place for place, word in enumerate(self.command) if word.endswith("launch.py"))
        self.command[place : place + 1] = [str(folder / "launch.py"), "--config-dir", str(folder / "mine")]
        self.environment |= {"PYTHONPATH": str(folder)}

    def truth(self) -> dict[str, str]:
        """Return what directories and squeue say of each run; only its job's number is read by the package."""
        status = self.status()
        while is_locked(submit_lock(self.folder / "sweep")):  # jobs are on their way to the queue
            time.sleep(0.1)
        queue, jobs = self.cluster.queued(), read_jobs(self.folder / "sweep")
        return {
            name: _state(self.folder / "sweep" / name, found["state"], waits=jobs.get(name) in queue)
            for name, found in status.items()
        }

    def told(self) -> tuple[Counter[str], dict[str, str]]:
        """Return the counts of states that the command for results prints, and the state of each run named there."""
        words = [sys.executable, "-m", "dinodiet.results", str(self.folder / "sweep"), "--status"]
        asked = subprocess.run(words, env=self.environment, capture_output=True, text=True, check=True, cwd=ROOT)
        first, *lines = asked.stdout.splitlines()
        counts = Counter({state: int(number) for number, state in re.findall(r"(\d+) (?!runs)(\w+)", first)})
        return +counts, dict(named for line in lines if (named := _named(line)) is not None)

    def check_told(self, left: frozenset[str] = frozenset()) -> Counter[str]:
        """Hold what is told of each run against what was true shortly before and after; return the counts.

        Runs that have `left` the grid are told as stopped.
        """
        before = self.truth()
        counts, told = self.told()
        after = self.truth()
        assert counts == Counter({**dict.fromkeys(after, "done"), **told}.values())
        assert {name for name in after if told.get(name) == "stopped"} == left
        for name in after.keys() - left:
            states = before.get(name, "absent"), told.get(name, "done"), after[name]
            assert [*states] == sorted(states, key=ORDER.index), (name, states)
        return counts


def _state(run: Path, status: str, *, waits: bool) -> str:
    """Return the state of a run by its directory, and by whether its job waits or runs."""
    if (run / "results.json").exists():
        return "done"
    return "lost" if status in ("queued", "running") and not waits else status


def _named(line: str) -> tuple[str, str] | None:
    """Return run and state of a line that names a run."""
    words = line.split()
    return (words[1], words[0]) if len(words) > 1 and "_seed" in words[1] else None


def table(study: Path) -> list[str]:
    """Return the lines of the table of a study, before and after the training, without those on states."""
    words = [sys.executable, "-m", "dinodiet.results", str(study), "--phase", "initial,final"]
    asked = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT)
    return asked.stdout.partition("\n\n")[2].splitlines()


def found_in(study: Path) -> dict[str, Any]:
    """Return the scores of the finished runs of a study, by name."""
    return {path.parent.name: scores(json.loads(path.read_text())) for path in study.glob("[!.]*/results.json")}


def codes(study: Path) -> dict[str, str]:
    """Return the digest of the code that each finished run had, by name."""
    return {path.parent.name: json.loads(path.read_text())["code"] for path in study.glob("[!.]*/results.json")}


def undisturbed(folder: Path) -> subprocess.Popen[str]:
    """Start the whole grid in one process, with its own caches and the code as it is."""
    words = command(folder / "alone", "-m", "sweeps=small", "name=sweep", f"data_dir={folder / 'data'}")
    place = next(place for place, word in enumerate(words) if word.endswith("launch.py"))
    words[place + 1 : place + 1] = ["--config-dir", str(folder / "mine")]
    return subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_a_study_that_is_disturbed_ends_with_the_table_of_one_left_alone(cluster: Cluster, folder: Path) -> None:
    tree(folder / "images", "train", "val", "test", count=12)
    (folder / "data").mkdir()
    study, cells = Study(cluster, folder), grid()
    write_grid(folder / "mine", cells)
    loop = folder / "dinodiet" / "training" / "loop.py"
    code = loop.read_text()

    # The first command: what lacks its images is blocked, the rest waits.
    submitted = cluster.submitted()
    code_of_end, output = study.run("detach=true")
    assert code_of_end == 1, output  # as it says, some are blocked
    assert "blocked" in output
    assert study.check_told()["blocked"] == 32
    # The code is broken under the jobs that wait; they have a copy.
    loop.write_text("raise RuntimeError('another loop')\n")
    done = study.check_told()["done"]
    wait_until(lambda: study.check_told()["done"] >= done + 8, 600)
    loop.write_text(f"{code}\n# a later version\n")

    # A cell leaves the grid while its job waits, another one comes, and the images that were missing are there.
    before = {cell.run_id for cell in read_grid(folder / "sweep")}
    place = max(number for number, cell in enumerate(cells) if cell["dataset"] == "folder")
    write_grid(folder / "mine", [*cells[:place], {**cells[place], "seed": 2}, *cells[place + 1 :]])
    write(folder / "data", "bloodmnist")
    alone, process = undisturbed(folder), study.start("prune=true")
    wait_until(lambda: {cell.run_id for cell in read_grid(folder / "sweep")} != before, 120)
    after = {cell.run_id for cell in read_grid(folder / "sweep")}
    (gone,), (come,) = before - after, after - before
    wait_until(lambda: study.status()[gone]["state"] == "killed", 120)
    while process.poll() is None and study.check_told(frozenset({gone}))["done"] < 90:
        time.sleep(5)
    code_of_end, output = finish(process, 1200)
    assert code_of_end == 0, output
    assert "cancelled 1 SLURM jobs of 1 runs that left the grid" in output
    assert "96 runs: 96 done" in output
    assert study.check_told(frozenset({gone})) == {"done": 96, "stopped": 1}
    assert cluster.submitted() == submitted + 96  # that was cancelled before it began
    assert Counter(study.starts()) == {0: 1, 1: 96}

    # Runs had the code that they were submitted with.
    assert sorted(Counter(codes(folder / "sweep").values()).values()) == [32 + 1, 64 - 1]
    # Numbers and table are those of the grid that was left alone.
    code_of_end, output = finish(alone, 1200)
    assert code_of_end == 0, output
    assert come in found_in(folder / "sweep")
    assert found_in(folder / "sweep") == found_in(folder / "alone" / "sweep")
    assert table(folder / "sweep") == table(folder / "alone" / "sweep") != []
