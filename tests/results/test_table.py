"""Tables against the same computed by hand, and what is missing."""

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dinodiet.errors import UserError
from dinodiet.results.plan import planned
from dinodiet.results.render import tables
from dinodiet.results.runs import read
from dinodiet.results.summary import cells_of
from dinodiet.results.table import Layout, layout
from dinodiet.store.grid import write_grid
from tests.results import studies


def made(study: Path, **options: Any) -> pd.DataFrame:
    cells, _, _ = cells_of(read([study]), **options)
    return cells


def cell(cells: pd.DataFrame, **where: str) -> "pd.Series[float]":
    for column, wanted in where.items():
        cells = cells[cells[column] == wanted]
    assert len(cells) == 1, cells
    return cells.iloc[0]


def test_means_and_deviations_are_those_computed_by_hand(tmp_path: Path) -> None:
    contents = studies.grid(tmp_path)
    cells = made(tmp_path)
    assert len(cells) == 3 * 2 * 2 * 3
    for model in ("dinov2-base", "mae", "resnet50"):
        finals = [
            one["final"]["knn/accuracy"] for one in contents if one["run_id"].startswith(f"{model}_pathmnist_dino")
        ]
        initials = [
            one["initial"]["knn/accuracy"] for one in contents if one["run_id"].startswith(f"{model}_pathmnist_dino")
        ]
        mean = sum(finals) / 3
        sd = math.sqrt(sum((value - mean) ** 2 for value in finals) / 2)
        found = cell(cells, model=model, dataset="pathmnist", method="dino", phase="final")
        assert found[["mean", "sd", "n"]].tolist() == pytest.approx([mean, sd, 3])
        changed = cell(cells, model=model, dataset="pathmnist", method="dino", phase="change")
        assert changed["mean"] == pytest.approx(mean - sum(initials) / 3)


def test_best_and_those_within_its_sd_are_marked(tmp_path: Path) -> None:
    for model, values in {"a": (0.8, 0.84), "b": (0.79, 0.80), "c": (0.74, 0.79), "d": (0.5, 0.9)}.items():
        for seed, final in enumerate(values):  # a: 0.82 +- 0.028
            studies.write(tmp_path, studies.results(model=model, seed=seed, final=final))
    cells = made(tmp_path, phases=["final"])
    assert cells.set_index("model")["mark"].to_dict() == {"a": "best", "b": "tie", "c": "", "d": ""}


def test_the_best_cost_is_the_least(tmp_path: Path) -> None:
    for model, seconds in (("a", 10.0), ("b", 20.0)):
        studies.write(tmp_path, studies.results(model=model) | {"train_seconds": seconds})
    cells = made(tmp_path, metrics=["train_seconds"])
    assert cells["phase"].unique().tolist() == ["final"]  # there is none before the training
    assert cells.set_index("model")["mark"].to_dict() == {"a": "best", "b": ""}


def lower(name: str, **choices: Any) -> dict[str, Any]:
    return studies.results(**choices) | {"better": {name: "lower"}}


def test_the_best_of_what_is_better_when_lower_is_the_smallest(tmp_path: Path) -> None:
    for model, final in (("a", 0.3), ("b", 0.5)):
        studies.write(tmp_path, lower("knn/accuracy", model=model, final=final, initial=0.4))
    cells, plan, _ = cells_of(read([tmp_path]))
    marks = cells.set_index(["phase", "model"])["mark"].to_dict()
    assert (marks["final", "a"], marks["final", "b"]) == ("best", "")
    assert (marks["change", "a"], marks["change", "b"]) == ("best", "")
    assert cell(cells, phase="change", model="a")["mean"] == pytest.approx(-0.1)  # final - initial, as ever
    assert "(n); lower is better; * best" in tables(cells, plan)
    cells, plan, _ = cells_of(read([tmp_path]), metrics=["val/knn/accuracy", "knn/f1"])
    assert plan.lower == ("val/knn/accuracy",)


def test_nothing_is_marked_of_what_has_no_best(tmp_path: Path) -> None:
    for model, final in (("a", 0.3), ("b", 0.5)):
        better = {"knn/accuracy": "none", "knn/f1": "higher"}
        studies.write(tmp_path, studies.results(model=model, final=final) | {"better": better})
    cells, plan, _ = cells_of(read([tmp_path]))
    assert plan.unranked == ("knn/accuracy",) and plan.lower == ()
    assert set(cells["mark"]) == {""}
    told = tables(cells, plan)
    assert "(n); neither direction is better\n" in told and "*" not in told and "best of its column" not in told
    cells, plan, _ = cells_of(read([tmp_path]), metrics=["val/knn/accuracy", "knn/f1"], phases=["final"])
    assert plan.unranked == ("val/knn/accuracy",)
    assert "neither direction of val/knn/accuracy is better; * best" in tables(cells, plan)
    marks = cells.set_index(["metric", "model"])["mark"]
    assert set(marks["val/knn/accuracy"]) == {""} and "best" in set(marks["knn/f1"])


def test_one_run_has_no_deviation(tmp_path: Path) -> None:
    studies.write(tmp_path, studies.results())
    found = cell(made(tmp_path), phase="final")
    assert found["n"] == 1 and math.isnan(found["sd"])


def test_what_is_missing_is_told_from_what_was_not_planned(tmp_path: Path) -> None:
    done = [studies.results(seed=seed) for seed in (0, 1)] + [studies.results("mae", "dermamnist")]
    waiting = [studies.results(seed=2), studies.results("mae", "pathmnist"), studies.results("ijepa", "pathmnist")]
    for content in done:
        studies.write(tmp_path, content)
    write_grid(tmp_path, [studies.cell(content) for content in [*done, *waiting]])
    cells = made(tmp_path, phases=["final"])
    assert cell(cells, model="dinov2-base", dataset="pathmnist")[["n", "planned"]].tolist() == [2, 3]
    states = cells.set_index(["model", "dataset"])["state"]
    assert states["mae", "pathmnist"] == states["ijepa", "pathmnist"] == "missing"
    assert states["dinov2-base", "dermamnist"] == states["ijepa", "dermamnist"] == "-"
    assert cells.loc[cells["n"] == 0, "mean"].isna().all()


def test_what_failed_is_said_to_have_failed(tmp_path: Path) -> None:
    contents = [studies.results(model=model, seed=seed) for model in ("a", "b", "c", "d") for seed in (0, 1)]
    write_grid(tmp_path, [studies.cell(content) for content in contents])
    for content in contents[:2]:
        studies.write_status(tmp_path, content["run_id"], state="failed")
    studies.write(tmp_path, contents[2])
    studies.write_status(tmp_path, contents[3]["run_id"], state="failed")
    studies.write_status(tmp_path, contents[4]["run_id"], state="preempted")
    cells, plan, _ = cells_of(read([tmp_path]), phases=["final"])
    assert cells.set_index("model")["state"].to_dict() == {"a": "failed", "b": "done", "c": "stopped", "d": "missing"}
    assert "0.850 (1 of 2, 1 failed)" in tables(cells, plan)


def test_a_method_without_any_finished_run_has_its_own_row(tmp_path: Path) -> None:
    done, waiting = studies.results(method="diet"), studies.results(method="dino")
    studies.write(tmp_path, done)
    write_grid(tmp_path, [studies.cell(done), studies.cell(waiting)])
    cells = made(tmp_path, phases=["final"])
    assert cells.set_index("method")["state"].to_dict() == {"diet": "done", "dino": "missing"}
    assert cell(cells, method="diet")["planned"] == 1


def test_unfinished_cells_belong_where_their_overrides_say(tmp_path: Path) -> None:
    values = {"method.loss.label_smoothing": (0.0, 0.2, 0.4)}
    contents = [
        studies.results(seed=seed, overrides={key: value}, epochs=1)
        for key, levels in values.items()
        for value in levels
        for seed in (0, 1)
    ]
    for content in contents[:3]:
        studies.write(tmp_path, content)
    write_grid(
        tmp_path,
        [
            studies.cell(
                one,
                f"method.loss.label_smoothing={one['config']['method']['loss']['label_smoothing']}",
                "+model.args={a: 1}",
            )
            for one in contents
        ],
    )
    cells = made(tmp_path, rows=["label_smoothing"], phases=["final"])
    assert cells[["method.loss.label_smoothing", "n", "planned", "state"]].to_numpy().tolist() == [
        ["0", 2, 2, "done"],
        ["0.2", 1, 2, "done"],
        ["0.4", 0, 2, "missing"],
    ]


def test_without_a_grid_gaps_are_missing_and_nothing_is_planned(tmp_path: Path) -> None:
    studies.write(tmp_path, studies.results("mae", "pathmnist"))
    studies.write(tmp_path, studies.results("ijepa", "dermamnist"))
    cells = made(tmp_path, phases=["final"])
    assert cells["planned"].isna().all()
    assert (cells["state"] == "missing").sum() == 2


def test_what_differs_is_never_averaged_unseen(tmp_path: Path) -> None:
    for limit in (1000, 10, None):
        studies.write(tmp_path, studies.results(overrides={"dataset.limit": limit}))
    cells = made(tmp_path, phases=["final"])
    assert cells["dataset.limit"].tolist() == ["10", "1000", "null"]
    assert made(tmp_path, phases=["final"], over=["seed", "dataset.limit"])["n"].tolist() == [3]


def test_several_metrics_are_columns_or_rows(tmp_path: Path) -> None:
    studies.write(tmp_path, studies.results())
    options: Any = {"metrics": ["knn/accuracy", "kmeans/ari"], "phases": ["final"]}
    cells, plan, _ = cells_of(read([tmp_path]), cols=["metric"], **options)
    assert (plan.rows, plan.cols) == (("model",), ("metric",))
    assert sorted(cells["metric"]) == ["kmeans/ari", "knn/accuracy"]
    _, plan, _ = cells_of(read([tmp_path]), **options)
    assert plan.rows == ("metric", "model")


@pytest.mark.parametrize(
    ("options", "rows", "cols"),
    [
        ({"over": ["dataset", "seed"]}, ("model",), ("metric",)),
        ({"over": ["model", "seed"]}, ("dataset",), ("metric",)),
        ({"rows": ["dataset"]}, ("dataset",), ("metric",)),
        ({"cols": ["model"]}, ("dataset",), ("model",)),
    ],
)
def test_rows_and_columns_make_way(options: Any, rows: tuple[str, ...], cols: tuple[str, ...], tmp_path: Path) -> None:
    studies.write(tmp_path, studies.results())
    cells, plan, _ = cells_of(read([tmp_path]), phases=["final"], **options)
    assert (plan.rows, plan.cols) == (rows, cols)
    assert cells["mean"].tolist() == [0.85]


def test_a_layout_names_what_there_is(tmp_path: Path) -> None:
    studies.write(tmp_path, studies.results())
    runs = read([tmp_path]).runs
    assert layout(runs) == Layout(("model",), ("dataset",))
    with pytest.raises(UserError, match=r"^colour: no such column; choose from"):
        layout(runs, rows=["colour"])
    with pytest.raises(UserError, match=r"^knn/speed: no such metric; choose from"):
        layout(runs, metrics=["knn/speed"])
    with pytest.raises(UserError, match=r"^over: dataset is in cols"):
        layout(runs, cols=["dataset"], over=["dataset"])
    with pytest.raises(UserError, match=r"^middle: no such phase; choose from"):
        layout(runs, phases=["middle"])


def test_plans_of_studies_without_grid_are_empty(tmp_path: Path) -> None:
    studies.write(tmp_path, studies.results())
    found = read([tmp_path])
    assert planned(found) == ([], set())
