"""Sweeps on the loopback cluster, for tests: their command, and what can be read where they write."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests import forking
from tests.running import TINY, command, scores
from tests.slurm.conftest import Cluster

# The same numbers as SingleView, slowly: time to disturb a run that takes no processor from the others.
SLOW_VIEW = """
import time
from dinodiet.data.views.views import SingleView


class SlowView(SingleView):
    def __call__(self, images, generator):
        time.sleep(0.06)
        return super().__call__(images, generator)
"""
SLURM = (
    "hydra/launcher=slurm",
    "hydra.launcher.poll_seconds=1",
    "hydra.launcher.gpus_per_node=null",
    "hydra.launcher.cpus_per_task=1",
    "hydra.launcher.mem_gb=1",
)
SLOW = ("method.views._target_=slow_view.SlowView", "checkpoint_minutes=0.02", "schedule.epochs=60")  # 240 steps
PLAIN = ("schedule.epochs=60",)


class Sweep:
    """A multirun's command, where it writes, and what can be read there."""

    def __init__(self, cluster: Cluster, folder: Path, *overrides: str, base: Sequence[str] = TINY) -> None:
        (folder / "slow_view.py").write_text(SLOW_VIEW)
        self.cluster, self.folder = cluster, folder
        # A shell starts background jobs with Ctrl-C switched off, and Python then leaves it off.
        ctrl_c = ("env", "--default-signal=INT")
        self.command = [*ctrl_c, *command(folder, "-m", "name=sweep", *base, *SLURM, *overrides)]
        self.environment = {**os.environ, **cluster.environment, "OMP_NUM_THREADS": "1", "HYDRA_FULL_ERROR": "0"}

    def start(self, *more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self.command, *more],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *more: str) -> tuple[int, str]:
        return finish(self.start(*more))

    def status(self) -> dict[str, dict[str, Any]]:
        """Return status.json by run id."""
        return {path.parent.name: json.loads(path.read_text()) for path in self.folder.glob("sweep/*/status.json")}

    def starts(self) -> list[int]:
        return sorted(status.get("starts", 0) for status in self.status().values())

    def steps(self) -> list[int]:
        """Return the last logged step of each run."""
        return [
            int(json.loads(line)["step"])
            for path in self.folder.glob("sweep/*/metrics.jsonl")
            if (line := ["", *path.read_text().splitlines()][-1]).endswith("}")
        ]

    def all_train(self, runs: int) -> bool:
        """Return whether so many runs have come some way, but are not near their end."""
        return sum(step >= 20 for step in self.steps()) == runs

    def results(self) -> dict[tuple[Any, ...], dict[str, Any]]:
        return read(self.folder / "sweep")


def finish(process: subprocess.Popen[str], seconds: float = 400) -> tuple[int, str]:
    try:
        output, _ = process.communicate(timeout=seconds)
    finally:
        process.kill()
    return process.returncode, output


def read(study: Path) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Return what training and chance decide, by what the grids here vary."""
    found = {}
    for path in study.glob("[!.]*/results.json"):
        results = json.loads(path.read_text())
        found[results["choices"]["method"], results["seed"], results["config"]["model"]["model_args"]["num_heads"]] = (
            scores(results)
        )
    return found


@functools.cache
def undisturbed(*overrides: str) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Return the scores of the same grid, run in one process without SLURM."""
    with tempfile.TemporaryDirectory() as folder:
        whole = forking.start(Path(folder), "-m", "name=whole", *TINY, *PLAIN, *overrides)
        assert forking.finish(whole) == 0, forking.printed(Path(folder))
        return read(Path(folder) / "whole")
