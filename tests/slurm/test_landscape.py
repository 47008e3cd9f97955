"""A landscape whose parts are jobs of a real cluster, one of its corners a network of another run."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from tests import forking
from tests.run.landscape.test_landscape import DINO
from tests.slurm.conftest import Cluster
from tests.slurm.sweeps import Sweep

pytestmark = pytest.mark.slurm

GRID = ("landscape.axes=raw", "landscape.origin=first", "landscape.x=[0,1,1]", "landscape.y=[0,1,1]", "landscape.k=5")


def test_parts_are_jobs_and_a_corner_is_of_another_run(cluster: Cluster, folder: Path) -> None:
    trained = forking.start(folder, "-m", "name=runs", *DINO, "seed=0,1")
    assert forking.finish(trained) == 0, forking.printed(folder)
    first, second = sorted((folder / "runs").glob("resnet*"))
    words = ("mode=landscape", f"checkpoint=runs/{first.name}", *GRID, "device=cpu")
    points = f"landscape.points=[teacher,student,runs/{second.name}:student]"
    sweep, before = Sweep(cluster, folder, base=(*words, points, "landscape.chunk=3")), cluster.submitted()
    code, output = sweep.run()
    assert code == 0, output
    assert "4 of 4 points measured" in output
    (spread,) = (folder / "runs" / "landscapes").iterdir()
    parts = [json.loads(path.read_text()) for path in sorted(spread.glob(".parts/*/status.json"))]
    assert [part["state"] for part in parts] == ["done", "done"] and all(part["slurm_job"] for part in parts)
    assert cluster.submitted() == before + 2
    code, output = sweep.run()
    assert (code, cluster.submitted()) == (0, before + 2), output  # nothing is measured twice
    absolute = [word.replace("runs/", f"{folder}/runs/") for word in (*words, points)]
    alone = forking.start(folder, *absolute, "landscape.chunk=4")
    assert forking.finish(alone) == 0, forking.printed(folder)
    (whole,) = (path for path in (folder / "runs" / "landscapes").iterdir() if path != spread)
    pd.testing.assert_frame_equal(pd.read_csv(spread / "landscape.csv"), pd.read_csv(whole / "landscape.csv"))
