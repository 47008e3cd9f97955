"""Curves by epoch against means by hand, and figures that can be opened."""

import json
import math
import statistics
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest

from dinodiet.errors import UserError
from dinodiet.results.curves import curves, quantity, title_of
from dinodiet.results.figures import curves_figure, draw_curves, draw_heat_map, heat_map_figure
from dinodiet.results.runs import read
from dinodiet.results.summary import cells_of
from dinodiet.results.table import layout, place
from dinodiet.results.unfinished import unfinished
from dinodiet.store.grid import write_grid
from tests.results import studies


def test_scores_run_from_the_initial_to_the_final_one(tmp_path: Path) -> None:
    finals = (0.85, 0.95)
    for seed, final in enumerate(finals):
        studies.write(tmp_path, studies.results(seed=seed, initial=0.8, final=final))
    runs = read([tmp_path]).runs
    name = quantity(runs, "knn/accuracy")
    data = curves(runs, name, layout(runs))
    assert data["epoch"].tolist() == [0.0, 1.0, 2.0, 3.0]
    assert data["n"].tolist() == [2, 2, 2, 2]
    between = [[0.8 + (final - 0.8) * epoch / 3 for final in finals] for epoch in (1, 2)]  # as the runs wrote them
    ends = [[0.79, 0.79], [final - 0.01 for final in finals]]  # validation, not test
    assert data["mean"].tolist() == pytest.approx([statistics.mean(v) for v in (ends[0], *between, ends[1])])
    assert data["sd"].tolist() == pytest.approx([statistics.stdev(v) for v in (ends[0], *between, ends[1])])
    assert name == quantity(runs, "val/knn/accuracy") == quantity(runs) == "val/knn/accuracy"
    assert title_of(name) == "knn/accuracy (validation)"


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
    with pytest.raises(UserError, match=r"^loss: no curve of it; choose from"):
        quantity(runs, "loss")


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_figures(suffix: str, tmp_path: Path) -> None:
    study = tmp_path / "study"
    studies.grid(study, models=("mae", "dinov2-base"), seeds=(0, 1))
    found = read([study])
    cells, plan, _ = cells_of(found, phases=["change"])
    draw_heat_map(cells, plan, tmp_path / f"map{suffix}")
    draw_curves(curves(found.runs, "val/knn/f1", plan), "knn/f1 (validation)", plan, tmp_path / f"curves{suffix}")
    for name in ("map", "curves"):
        file = tmp_path / f"{name}{suffix}"
        if suffix == ".png":
            image = matplotlib.image.imread(file)
            assert (abs(image[..., 0] - image[..., 2]) > 0.2).mean() > 0.01  # there is colour on it
        else:
            assert "</svg>" in file.read_text()


def running(study: Path, content: dict[str, Any], *rows: dict[str, float]) -> None:
    """Write a run that is not finished and has logged some rows."""
    directory = studies.write_status(study, content["run_id"], state="running", heartbeat=2e9)
    (directory / "config.yaml").write_text(json.dumps(content["config"]))
    (directory / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_running_runs_have_curves(tmp_path: Path) -> None:
    contents = [studies.results(method=method) for method in ("diet", "dino")]
    for content in contents:
        running(tmp_path, content, {"step": 1, "epoch": 0.5, "loss": 3.0, "val/knn/accuracy": 0.7})
    write_grid(tmp_path, [studies.cell(contents[0])])  # the other is known by its name
    runs = unfinished(read([tmp_path]).unfinished)
    assert quantity(runs) == "val/knn/accuracy"
    data = curves(runs, "loss", place(runs))
    assert data[["method", "model", "dataset", "epoch", "mean"]].to_numpy().tolist() == [
        ["diet", "dinov2-base", "pathmnist", 0.5, 3.0],
        ["dino", "dinov2-base", "pathmnist", 0.5, 3.0],
    ]


def test_a_run_that_has_not_begun_has_no_curve(tmp_path: Path) -> None:
    studies.write_status(tmp_path, "vit_digits_diet_seed0_12345678", state="queued")
    assert unfinished(read([tmp_path]).unfinished) == []


class TestFigures:
    """What is drawn, read back from the figure."""

    @pytest.fixture
    def study(self, tmp_path: Path) -> Path:
        studies.grid(tmp_path, models=("mae",), seeds=(0,))
        return tmp_path

    def test_one_run_with_one_point(self, tmp_path: Path) -> None:
        directory = studies.write(tmp_path, studies.results())
        (directory / "metrics.jsonl").write_text('{"step": 5, "epoch": 0.5, "loss": 1.0}')
        runs = read([tmp_path]).runs
        (ax,) = curves_figure(curves(runs, "loss", layout(runs)), "loss", layout(runs)).axes
        assert ax.lines[0].get_marker() == "o"
        cells, plan, _ = cells_of(read([tmp_path]), phases=["change"])
        assert "+0.050" in [text.get_text() for text in heat_map_figure(cells, plan).axes[0].texts]

    def test_one_legend_serves_all_panels(self, study: Path) -> None:
        runs = read([study]).runs
        figure = curves_figure(curves(runs, "val/knn/f1", layout(runs)), "knn/f1", layout(runs))
        assert len(figure.axes) == 2 and not any(ax.get_legend() for ax in figure.axes)
        (legend,) = figure.legends
        assert [text.get_text() for text in legend.get_texts()] == ["diet, mae (n = 1)", "dino, mae (n = 1)"]

    def test_titles_are_not_cut(self, tmp_path: Path) -> None:
        for smoothing in (0.4, 0.0, 0.2):
            changed = {"method.loss.label_smoothing": smoothing}
            studies.write(tmp_path, studies.results("efficientnet_lite0", "digits", overrides=changed))
        cells, plan, _ = cells_of(read([tmp_path]), phases=["change"])
        runs = read([tmp_path]).runs
        by_panel = place(runs, cols=["label_smoothing"])
        for figure in (heat_map_figure(cells, plan), curves_figure(curves(runs, "val/knn/f1", by_panel), "", by_panel)):
            figure.draw_without_rendering()
            titles = [ax.title for ax in figure.axes if ax.get_title()]
            assert [title.get_text() for title in titles] == [f"label_smoothing={value}" for value in (0, 0.2, 0.4)]
            edges = [edge for title in titles for edge in (title.get_window_extent().x0, title.get_window_extent().x1)]
            assert edges == sorted(edges) and edges[0] >= 0 and edges[-1] <= figure.bbox.x1

    def test_colours_follow_what_is_better(self, study: Path) -> None:
        def shown(**options: Any) -> tuple[float, str, str]:
            cells, plan, _ = cells_of(read([study]), phases=["change"], **options)
            panel, *_, bar = heat_map_figure(cells, plan).axes
            values = panel.images[0].get_array()
            assert values is not None
            return float(np.ma.filled(values, math.nan)[0, 0]), panel.texts[0].get_text(), bar.get_ylabel()

        gain, text, bar = shown()
        assert (f"{gain:+.3f}", bar) == (text, "change")
        for file in study.glob("*/results.json"):
            content = json.loads(file.read_text())
            file.write_text(json.dumps({**content, "better": {"knn/accuracy": "lower"}}))
        turned, same, bar = shown()
        assert (turned, same, bar) == (-gain, text, "better by")
        for file in study.glob("*/results.json"):
            content = json.loads(file.read_text())
            file.write_text(json.dumps({**content, "better": {"knn/accuracy": "none"}}))
        white, same, bar = shown()
        assert math.isnan(white) and (same, bar) == (text, "change")
