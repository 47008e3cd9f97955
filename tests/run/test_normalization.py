"""What a run normalises by is recorded, and is kept by all that uses its weights later."""

from pathlib import Path

import pytest
import torch

import dinodiet
from dinodiet.backbones.weights.normalised import normalised_by
from dinodiet.io.files import read_json
from dinodiet.run.weights import read_encoder
from dinodiet.store.rundir import RunDir
from tests.running import CHOICES, composed, run

OWN = "dataset.normalization={mean: [0.3, 0.3, 0.3], std: [0.4, 0.4, 0.4]}"


def test_numbers_of_the_dataset_are_another_run_and_stay_with_its_weights(tmp_path: Path) -> None:
    plain = run(composed(tmp_path, "schedule.epochs=1"))
    by_data = run(composed(tmp_path, "schedule.epochs=1", "dataset.normalization=dataset"))
    assert plain["run_id"] != by_data["run_id"]
    assert plain["initial"] != by_data["initial"]
    run_dir = RunDir(tmp_path / "default" / by_data["run_id"])
    record = read_json(run_dir.dataset)
    assert record is not None
    found = record["normalization"]
    assert found["origin"] == "computed from 1,000 of 1,000 training images, seed 0"
    input = read_encoder(run_dir.encoder).input
    assert (input["mean"], input["std"]) == (found["mean"], found["std"])
    assert found["mean"][0] == pytest.approx(0.305, abs=0.01)  # counts from 0 to 16, 4.88 on average
    for weights in (run_dir.path, run_dir.encoder, run_dir.weights):
        assert normalised_by(str(weights), (0, 0, 0), (1, 1, 1)) == (tuple(found["mean"]), tuple(found["std"]))
    assert dinodiet.load(run_dir.path).backbone.input.mean == tuple(found["mean"])
    next_one = run(composed(tmp_path, "schedule.epochs=1", f"model.weights={run_dir.path}"))
    assert next_one["initial"]["knn/accuracy"] == by_data["final"]["knn/accuracy"]
    other = read_json(RunDir(tmp_path / "default" / next_one["run_id"]).dataset)
    assert other is not None and other["normalization"] == {**found, "origin": "checkpoint"}


@pytest.mark.slow
def test_another_dataset_is_normalised_as_in_the_training(tmp_path: Path) -> None:
    words, choices = (OWN, "schedule.epochs=1"), {**CHOICES, "dataset@eval.dataset": "digits"}
    other = ("dataset@eval.dataset=digits", "eval.dataset.limit=40")
    at_once = run(composed(tmp_path / "at_once", *words, *other), choices)
    run(composed(tmp_path, *words))
    later = run(composed(tmp_path, *words, *other), choices)
    names = [name for name in later["final"] if name.startswith("knn@digits/")]
    assert len(names) == 4
    for phase in ("initial", "final"):
        assert {name: later[phase][name] for name in names} == {name: at_once[phase][name] for name in names}


def test_weights_from_elsewhere_are_normalised_as_their_publisher_says(tmp_path: Path) -> None:
    own = ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    torch.save({}, tmp_path / "teacher.pth")
    for weights in ("hub", "none", str(tmp_path / "teacher.pth"), str(tmp_path / "absent")):
        assert normalised_by(weights, *own) == own
