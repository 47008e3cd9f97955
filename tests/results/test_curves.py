"""Curves by epoch against means by hand, and figures that can be opened."""

import json
import statistics
from pathlib import Path

import matplotlib.image
import pytest

from dinodiet.errors import UserError
from dinodiet.results.curves import curves
from dinodiet.results.figures import draw_curves, draw_heat_map
from dinodiet.results.runs import read
from dinodiet.results.summary import cells_of
from dinodiet.results.table import layout
from tests.results import studies


def test_scores_run_from_the_initial_to_the_final_one(tmp_path: Path) -> None:
    finals = (0.85, 0.95)
    for seed, final in enumerate(finals):
        studies.write(tmp_path, studies.results(seed=seed, initial=0.8, final=final))
    runs = read([tmp_path]).runs
    data = curves(runs, "knn/accuracy", layout(runs))
    assert data["epoch"].tolist() == [0.0, 1.0, 2.0, 3.0]
    assert data["n"].tolist() == [2, 2, 2, 2]
    between = [[0.8 + (final - 0.8) * epoch / 3 for final in finals] for epoch in (1, 2)]  # as the runs wrote them
    ends = [[0.79, 0.79], [final - 0.01 for final in finals]]  # validation, not test
    assert data["mean"].tolist() == pytest.approx([statistics.mean(v) for v in (ends[0], *between, ends[1])])
    assert data["sd"].tolist() == pytest.approx([statistics.stdev(v) for v in (ends[0], *between, ends[1])])
    assert curves(runs, "val/knn/accuracy", layout(runs)).equals(data)


def test_losses_come_from_what_the_run_logged(tmp_path: Path) -> None:
    directory = studies.write(tmp_path, studies.results())
    rows = [{"step": step, "epoch": step / 10, "loss": 5 / step} for step in (5, 10)]
    (directory / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 15, "lo')
    runs = read([tmp_path]).runs
    data = curves(runs, "loss", layout(runs))
    assert data[["epoch", "mean"]].to_numpy().tolist() == [[0.5, 1.0], [1.0, 0.5]]
    assert data["sd"].isna().all()


def test_a_curve_that_does_not_exist_is_told(tmp_path: Path) -> None:
    studies.write(tmp_path, studies.results())
    runs = read([tmp_path]).runs
    with pytest.raises(UserError, match="loss: no curve of it; choose from: kmeans/ari, kmeans/nmi, knn/accuracy"):
        curves(runs, "loss", layout(runs))


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_figures(suffix: str, tmp_path: Path) -> None:
    study = tmp_path / "study"
    studies.grid(study, models=("mae", "dinov2-base"), seeds=(0, 1))
    found = read([study])
    cells, plan, _ = cells_of(found, phases=["change"])
    draw_heat_map(cells, plan, tmp_path / f"map{suffix}")
    draw_curves(curves(found.runs, "knn/f1", plan), "knn/f1", plan, tmp_path / f"curves{suffix}")
    for name in ("map", "curves"):
        file = tmp_path / f"{name}{suffix}"
        if suffix == ".png":
            image = matplotlib.image.imread(file)
            assert (abs(image[..., 0] - image[..., 2]) > 0.2).mean() > 0.01  # there is colour on it
        else:
            assert "</svg>" in file.read_text()
