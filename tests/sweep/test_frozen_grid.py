"""The grid of frozen backbones on files of MedMNIST+, small: what it measures stands beside what is published."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.data.sources.test_medmnist import write
from tests.places import ROOT
from tests.running import launch

SMALL = ("model=resnet18", "model.weights=none", "dataset.image_size=32", "dataset.source.published=null")
SETS = ("dataset=bloodmnist,breastmnist,chestmnist", "dataset.source.size=28,64")


def beside(study: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dinodiet.results", str(study), "--against", "medmnist_plus", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_frozen_scores_stand_beside_the_published_ones(tmp_path: Path) -> None:
    for name in ("bloodmnist", "breastmnist", "chestmnist"):
        for size in (28, 64):
            write(tmp_path, name, size)
    grid = ("-m", "sweeps=frozen_medmnist_plus", *SMALL, *SETS, f"data_dir={tmp_path}")
    done = launch(tmp_path / "out", *grid)
    assert done.returncode == 0, done.stderr
    study = tmp_path / "out" / "frozen_medmnist_plus"
    rows = [line.split() for line in beside(study).stdout.splitlines()]
    blood = next(row for row in rows if row[:2] == ["knn/accuracy", "bloodmnist"] and "28" in row)
    assert "0.750" in blood  # Doerrich et al. 2025: k-NN of 11 on ResNet-18
    assert len([row for row in rows if row[:1] == ["knn/accuracy"]]) == 4
    assert len([row for row in rows if row[:2] == ["linear/auroc", "chestmnist"]]) == 2
    before = beside(study, "--metric", "knn/accuracy").stdout
    other = launch(tmp_path / "out", *grid, "eval.knn.k=3")  # in the same runs, and never held against a k of 11
    assert other.returncode == 0, other.stderr
    assert beside(study, "--metric", "knn/accuracy").stdout == before
