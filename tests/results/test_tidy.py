"""Runs on disk as a tidy frame: what is a column, what is a row, what is left out."""

import json
import os
from pathlib import Path

import pandas as pd
import pytest

from dinodiet.errors import UserError
from dinodiet.results import collect
from dinodiet.results.runs import read
from tests.results import studies

PLAIN = ["study", "run", "model", "dataset", "method", "seed", "metric", "phase", "value", "low", "high"]


def value(frame: pd.DataFrame, **where: object) -> float:
    for column, wanted in where.items():
        frame = frame[frame[column] == wanted]
    assert len(frame) == 1
    return float(frame["value"].iloc[0])


def test_a_row_per_run_metric_and_phase(tmp_path: Path) -> None:
    contents = studies.grid(tmp_path / "study")
    frame = collect(tmp_path / "study")
    assert list(frame.columns) == PLAIN  # device, folders, what follows from method or seed: none of them a column
    assert set(frame["phase"]) == {"initial", "final", "change"}
    assert frame["model"].unique().tolist() == ["dinov2-base", "mae", "resnet50"]
    scores = frame[~frame["metric"].isin(["train_seconds", "device_hours", "steps"])]
    assert len(scores[scores["metric"] == "knn/accuracy"]) == len(contents) * 3
    for content in contents:
        run = frame[frame["run"] == content["run_id"]]
        assert value(run, metric="kmeans/nmi", phase="final") == content["final"]["kmeans/nmi"]
        assert value(run, metric="val/knn/f1", phase="initial") == content["validation"]["initial"]["knn/f1"]
        change = content["final"]["knn/f1"] - content["initial"]["knn/f1"]
        assert value(run, metric="knn/f1", phase="change") == pytest.approx(change)
        assert value(run, metric="train_seconds", phase="final") == 61.5
        assert value(run, metric="device_hours", phase="final") == 90 / 3600
        assert value(run, metric="energy_kwh", phase="final") == 0.01
    assert not frame["metric"].isin(["knn/k", "knn/temperature", "linear/C"]).any()


def test_what_an_older_run_spent_is_unknown(tmp_path: Path) -> None:
    content = studies.results()
    del content["spent"]
    studies.write(tmp_path, content)
    for _ in range(2):  # of the file, and of what is kept of it
        frame = collect(tmp_path)
        assert frame.loc[frame["metric"].isin(["device_hours", "energy_kwh"]), "value"].isna().tolist() == [True] * 2


def test_ends_of_an_interval_stand_beside_its_score_and_nowhere_else(tmp_path: Path) -> None:
    known = {"initial": {"knn/accuracy": [0.7, 0.9]}, "final": {"knn/accuracy": [0.75, 0.95]}}
    studies.write(tmp_path, studies.results(seed=1) | {"intervals": known})
    studies.write(tmp_path, studies.results(seed=2))  # results from before intervals were known
    for _ in range(2):  # of the files, and of what is kept of them
        frame = collect(tmp_path).dropna(subset=["low"])
        found = frame[["seed", "metric", "phase", "low", "high"]].astype({"metric": str, "phase": str}).to_numpy()
        assert found.tolist() == [[1, "knn/accuracy", "initial", 0.7, 0.9], [1, "knn/accuracy", "final", 0.75, 0.95]]


@pytest.mark.parametrize("broken", [0.5, [0.9, 0.7], [0.7], ["a", "b"]])
def test_an_interval_that_is_none_is_a_broken_file(tmp_path: Path, broken: object) -> None:
    studies.write(tmp_path, studies.results() | {"intervals": {"final": {"knn/f1": broken}}})
    assert "knn/f1: " in read([tmp_path]).messages()[0]


def test_what_differs_is_a_column(tmp_path: Path) -> None:
    for smoothing in (0.0, 0.2):
        studies.write(tmp_path, studies.results(overrides={"method.loss.label_smoothing": smoothing}))
    studies.write(tmp_path, studies.results(method="dino"))
    studies.write(tmp_path, studies.results(method="dino", overrides={"method.views.global_scale": [0.1, 1.0]}))
    frame = collect(tmp_path).drop_duplicates("run")
    assert [name for name in frame.columns if name not in PLAIN] == [
        "method.loss.label_smoothing",
        "method.views.global_scale",
    ]
    diet = frame[frame["method"] == "diet"]
    assert sorted(diet["method.loss.label_smoothing"]) == [0.0, 0.2]
    assert frame[frame["method"] == "dino"]["method.loss.label_smoothing"].isna().all()
    assert set(frame["method.views.global_scale"].dropna()) == {"[0.4, 1.0]", "[0.1, 1.0]"}


def test_a_group_that_nothing_was_chosen_of_is_no_difference(tmp_path: Path) -> None:
    for seed, choice in enumerate((None, "None", "absent")):
        content = studies.results(seed=seed)
        content["choices"] |= {} if choice == "absent" else {"dataset@eval.dataset": choice}
        studies.write(tmp_path / "study", content)
    assert list(collect(tmp_path / "study").columns) == PLAIN
    content = studies.results(seed=3)
    content["choices"] |= {"dataset@eval.dataset": "cifar10"}
    studies.write(tmp_path / "study", content)
    assert "dataset@eval.dataset" in collect(tmp_path / "study").columns


def test_a_run_that_links_lead_to_counts_once_and_by_its_own_name(tmp_path: Path) -> None:
    contents = [studies.results(seed=seed) for seed in (0, 1)]
    for content in contents:
        studies.write(tmp_path / "study", content)
    names = {content["run_id"] for content in contents}
    study = tmp_path / "study"
    (study / "unfinished").mkdir()
    (study / "unfinished" / "status.json").write_text("{}")
    for link, target in (("best", contents[0]["run_id"]), ("again", "unfinished")):
        (study / link).symlink_to(target)
    (tmp_path / "a_study").symlink_to("study")  # by name before what it leads to
    for paths in ([study], [tmp_path], [study / "best", study], [study, tmp_path / "a_study"]):
        found = read(paths)
        assert {run.name for run in found.runs} == names and len(found.runs) == 2
        assert [run.name for run in found.unfinished] == ["unfinished"]
        assert {run.record["study"] for run in found.runs} == {"study"}
    assert [run.name for run in read([study / "best"]).runs] == ["best"]


def test_names_that_are_no_text_are_written_with_escapes(tmp_path: Path) -> None:
    for name in (b"\xff", b"a\nb"):
        studies.write(tmp_path, studies.results(overrides={"method.loss.label_smoothing": os.fsdecode(name)}))
    frame = collect(tmp_path)
    assert set(frame["method.loss.label_smoothing"]) == {r"\xff", r"a\nb"}
    frame.to_parquet(tmp_path / "scores.parquet")
    for wanted in (r"\xff", os.fsdecode(b"\xff")):
        assert len(collect(tmp_path, where={"label_smoothing": wanted}).drop_duplicates("run")) == 1


def test_several_studies(tmp_path: Path) -> None:
    studies.write(tmp_path / "one", studies.results())
    studies.write(tmp_path / "two", studies.results())
    assert collect(tmp_path)["study"].unique().tolist() == ["one", "two"]
    assert collect(tmp_path / "one", tmp_path / "two").equals(collect(tmp_path))
    assert collect([str(tmp_path / "one"), tmp_path / "two"]).equals(collect(tmp_path))
    (run,) = (tmp_path / "two").glob("d*")
    assert collect(run)["study"].unique().tolist() == ["two"]
    assert not (tmp_path / "two" / ".sweep" / "results.json.lock").exists()


def test_a_value_that_was_not_finite_is_missing(tmp_path: Path) -> None:
    content = studies.results()
    content["final"]["knn/accuracy"] = None
    studies.write(tmp_path, content)
    frame = collect(tmp_path)
    found = frame[frame["metric"] == "knn/accuracy"].set_index("phase")["value"]
    assert found["initial"] == 0.8
    assert found[["final", "change"]].isna().all()


@pytest.mark.parametrize(
    ("where", "runs"),
    [
        ({"method": "diet"}, 3),
        ({"model": ["mae", "resnet50"]}, 2),
        ({"label_smoothing": "0.20"}, 1),
        ({"method.loss.label_smoothing": [0, "null"]}, 3),
        ({"seed": "0", "schedule.epochs": 3}, 4),
    ],
)
def test_filters(where: dict[str, object], runs: int, tmp_path: Path) -> None:
    studies.write(tmp_path, studies.results())
    studies.write(tmp_path, studies.results(model="mae", overrides={"method.loss.label_smoothing": 0.0}))
    studies.write(tmp_path, studies.results(model="resnet50", overrides={"method.loss.label_smoothing": 0.0}))
    studies.write(tmp_path, studies.results(method="dino"))
    assert collect(tmp_path, where=where)["run"].nunique() == runs


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (
            {"colour": "red"},
            "colour: no such column; choose from",
        ),
        ({"method": "byol"}, "method: no run has byol"),
        ({"_target_": "x"}, "_target_: more than one key ends so; choose from"),
    ],
)
def test_a_wrong_filter_is_told(where: dict[str, object], message: str, tmp_path: Path) -> None:
    studies.write(tmp_path, studies.results())
    studies.write(tmp_path, studies.results(method="dino"))
    with pytest.raises(UserError) as raised:
        collect(tmp_path, where=where)
    assert str(raised.value).startswith(message)


def test_no_such_folder_and_no_runs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: no such folder"):
        collect(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"^paths: none given"):
        collect([])
    with pytest.raises(UserError, match="no runs there"):
        collect(tmp_path)


def test_broken_results_and_other_versions_are_named_and_left_out(tmp_path: Path) -> None:
    studies.write(tmp_path, studies.results())
    for seed, written in ((1, 0), (2, 0), (3, 7)):
        studies.write(tmp_path, studies.results(seed=seed) | {"format": written})
    half = studies.write(tmp_path, studies.results(seed=4))
    (half / "results.json").write_text(json.dumps(studies.results(seed=4))[:500])
    empty = studies.write(tmp_path, studies.results(seed=5))
    (empty / "results.json").write_text("[]")
    with pytest.warns(UserWarning) as warned:
        frame = collect(tmp_path)
    assert frame["seed"].unique().tolist() == [0]
    older, newer, *broken = (str(one.message) for one in warned)
    assert "older version (format 0" in older
    assert "_seed1_" in older and "_seed2_" in older
    assert "newer version (format 7" in newer
    assert half.name in broken[0] and "run the same command again" in broken[0]
    assert empty.name in broken[1]
