"""Runs of no steps, and runs that train on labels: resumed, from scratch, and from the weights of another run."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from dinodiet.errors import UserError
from dinodiet.run.trained import load
from tests.running import CHOICES, TINY, composed, killed_after, launch, results_in, run, scores

FROZEN = {**CHOICES, "method": "frozen"}
SUPERVISED = {**CHOICES, "method": "supervised"}


def test_a_frozen_run_has_its_initial_scores_as_final_ones_and_trains_nothing(tmp_path: Path) -> None:
    found = run(composed(tmp_path, "method=frozen", "eval=[knn,linear]"), FROZEN)
    assert found["steps"] == 0
    assert found["final"] == found["initial"] and {"knn/accuracy", "linear/accuracy"} <= found["final"].keys()
    assert found["validation"]["final"] == found["validation"]["initial"] != {}
    (run_dir,) = (tmp_path / "default").glob("*_frozen_*")
    assert [path.name for path in run_dir.glob("*.safetensors")] == ["encoder.safetensors"]
    towers = [one.backbone.state_dict() for one in (load(run_dir), load(run_dir, tower="trained"))]
    assert all(towers[0][name].equal(towers[1][name]) for name in towers[0]) and towers[0].keys() == towers[1].keys()
    again = run(
        composed(tmp_path, "method=frozen", "eval=[knn,linear]", "schedule.epochs=9", "schedule.lr=1.0"), FROZEN
    )
    assert again["finished"] == found["finished"]  # what a schedule says changes nothing
    more = run(composed(tmp_path, "method=frozen", "eval.knn.k=3"), FROZEN)
    assert more["final"]["knn(k=3)/accuracy"] == more["initial"]["knn(k=3)/accuracy"]
    assert [path.name for path in (tmp_path / "default").glob("*_frozen_*")] == [run_dir.name]


def test_scores_of_a_frozen_run_on_budgets_of_labels_stand_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("eval=[knn,geometry]", "eval.labels_per_class=[1,2]", "eval.label_seeds=1", "eval.knn.k=3")
    found = run(composed(tmp_path, "method=frozen", *words), FROZEN)
    assert found["final"] == found["initial"]  # geometry uses no labels, and is there once
    assert {name.partition("/")[0] for name in found["final"]} == {"geometry"}
    assert {row["phase"] for row in found["budgets"]} == {"initial", "final"}
    table = capsys.readouterr().out.partition("labels of train")[2].splitlines()
    assert table[0].split()[-2:] == ["value", "draws"]
    (value,) = {row["test"]["knn/accuracy"] for row in found["budgets"] if row["per_class"] == 2}
    assert table[2].split() == ["knn/accuracy,", "2", "a", "class", f"{value:.3f}", "1"]


def test_a_part_of_an_epoch_that_is_no_step_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"schedule\.epochs: 0\.01 of 4 steps is no step; choose more"):
        run(composed(tmp_path, "schedule.epochs=0.01"))


@pytest.mark.slow
def test_a_grid_of_frozen_models_and_sets_is_one_table(tmp_path: Path) -> None:
    words = [word for word in TINY if not word.startswith(("model=", "dataset="))]
    arrays = ("dataset=digits", "dataset.split_seed=0,1")
    done = launch(tmp_path, "-m", *words, "model=vit_tiny,vit_small", *arrays, "method=frozen")
    assert done.returncode == 0, done.stderr
    assert "4 runs: 4 done" in done.stdout
    assert "knn/accuracy, final" in done.stdout
    assert "knn/accuracy, initial" not in done.stdout and "change" not in done.stdout.split("4 runs: 4 done")[1]


@pytest.mark.slow
def test_a_classifier_learns_digits_and_is_scored(tmp_path: Path) -> None:
    words = ("method=supervised", "dataset.limit=null", "schedule.epochs=12", "schedule.lr.value=3e-3")
    found = run(composed(tmp_path, *words, "eval.every_epochs=6"), SUPERVISED)
    assert found["final"]["classifier/accuracy"] > 0.25
    assert found["validation"]["final"]["classifier/accuracy"] > 0.25
    assert found["final"]["knn/accuracy"] > found["initial"]["knn/accuracy"]
    assert "classifier/accuracy" not in found["initial"]
    assert 0.1 < found["epochs"][0]["val/classifier/accuracy"] < 1


def of_classifier(values: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if name.startswith("classifier/")}


@pytest.mark.slow
@pytest.mark.parametrize("way", ["another evaluator", "evaluate"])
def test_the_classifier_of_a_finished_run_without_its_scores_is_scored_later(tmp_path: Path, way: str) -> None:
    found = run(composed(tmp_path, "method=supervised"), SUPERVISED)
    (run_dir,) = (tmp_path / "default").iterdir()
    (file,) = (run_dir / "scores").glob("final_classifier_*")
    file.unlink()
    words = ("mode=evaluate", f"checkpoint={run_dir}") if way == "evaluate" else ("method=supervised", "eval.knn.k=3")
    run(composed(tmp_path, *words), SUPERVISED, words)
    later = results_in(tmp_path)
    for before, after in ((found, later), (found["validation"], later["validation"])):
        assert of_classifier(before["final"]) == of_classifier(after["final"]) != {}
    assert [path.name for path in (run_dir / "scores").glob("*_classifier_*")] == [file.name]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["supervised", "supervised_linear"])
def test_a_killed_run_ends_as_an_undisturbed_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    few = ("dataset.labels_per_class=4", "dataset.limit=null", "schedule.batch_size=16", "model.drop_path=0.1")
    words = (f"method={method}", *few, "checkpoint_minutes=0")
    choices = {**CHOICES, "method": method}
    expected = run(composed(tmp_path / "undisturbed", *words), choices)
    assert expected["steps"] == 6
    with killed_after(3, monkeypatch):
        run(composed(tmp_path / "killed", *words), choices)
    found = run(composed(tmp_path / "killed", *words), choices)
    assert scores(found) == scores(expected)
    weights = [next((tmp_path / name).glob("*/*/weights.safetensors")) for name in ("undisturbed", "killed")]
    first, second = map(load_file, weights)
    assert first.keys() == second.keys() and all(first[name].equal(second[name]) for name in first)
    weights[1].with_name("results.json").unlink()  # stopped when all scores were there
    assert scores(run(composed(tmp_path / "killed", *words), choices)) == scores(expected)


@pytest.mark.slow
def test_supervised_training_goes_on_from_a_run_of_diet(tmp_path: Path) -> None:
    run(composed(tmp_path / "diet"))
    (parent,) = (tmp_path / "diet" / "default").iterdir()
    words = ("method=supervised_two_layer", f"model.weights={parent}", "dataset.labels_per_class=3")
    found = run(
        composed(tmp_path / "next", *words, "dataset.limit=null"), {**CHOICES, "method": "supervised_two_layer"}
    )
    saved = json.loads((parent / "results.json").read_text())
    assert found["parent"]["run_id"] == saved["run_id"]
    assert results_in(tmp_path / "next")["parent"]["weights"] == found["parent"]["weights"]


@pytest.mark.slow
def test_other_weights_under_the_same_path_are_another_run(tmp_path: Path) -> None:
    run(composed(tmp_path / "diet"))
    run(composed(tmp_path / "other", "seed=1"))
    first, second = (next((tmp_path / name / "default").iterdir()) for name in ("diet", "other"))
    place, names = tmp_path / "parent", []
    for parent in (first, second):
        parent.rename(place)
        names.append(run(composed(tmp_path / "next", "method=frozen", f"model.weights={place}"), FROZEN)["run_id"])
        place.rename(parent)
    moved = run(composed(tmp_path / "next", "method=frozen", f"model.weights={second}"), FROZEN)["run_id"]
    assert names[0] != names[1] == moved


def test_weights_of_a_run_that_is_not_finished_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with killed_after(3, monkeypatch):
        run(composed(tmp_path / "diet", "checkpoint_minutes=0"))
    (parent,) = (tmp_path / "diet" / "default").iterdir()
    told = (
        rf"model\.weights: .*{parent.name} is a run that is not finished \(step \d of 12\); finish it first, or give "
    )
    with pytest.raises(UserError, match=told):
        run(composed(tmp_path, "method=frozen", f"model.weights={parent}"), FROZEN)
    planned = launch(tmp_path, "-m", *TINY, "mode=plan", "method=frozen", f"model.weights={parent}")
    assert planned.returncode != 0
    assert f"{parent.name} is a run that is not finished" in planned.stderr
    run(composed(tmp_path, "method=frozen", f"model.weights={parent}/checkpoint.pt"), FROZEN)
