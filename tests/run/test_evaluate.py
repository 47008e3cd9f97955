"""A finished run that is asked for more scores, and checkpoints that are scored alone: nothing is trained."""

import json
from pathlib import Path
from typing import Any

import pytest

from dinodiet.errors import UserError
from dinodiet.io.files import read_json
from dinodiet.run.monitor import Monitor
from dinodiet.store.rundir import RunDir
from tests.kinds import after_nightly
from tests.running import CHOICES, TINY, composed, killed_after, launch, run, scores


def only_run(tmp_path: Path) -> RunDir:
    (folder,) = (tmp_path / "default").iterdir()
    return RunDir(folder)


def touched(run_dir: RunDir) -> dict[str, Any]:
    """Return what a training would have changed."""
    kept = (run_dir.weights, run_dir.encoder, run_dir.metrics, run_dir.config)
    return {path.name: path.stat().st_mtime_ns for path in kept}


@pytest.mark.slow
@pytest.mark.parametrize("method", after_nightly(1, ["diet", "dino"]))
def test_another_evaluator_and_another_k_train_nothing(
    tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, choices = (f"method={method}", "schedule.epochs=1"), {**CHOICES, "method": method}
    whole = run(composed(tmp_path / "whole", *words, "eval=[knn,kmeans,linear]"), choices)
    first = run(composed(tmp_path, *words), choices)
    run_dir = only_run(tmp_path)
    before, started = touched(run_dir), read_json(run_dir.status)
    monkeypatch.setattr(Monitor, "on_step", lambda *_: pytest.fail("it trains"))
    more = run(composed(tmp_path, *words, "eval=[knn,kmeans,linear]"), choices)
    assert scores(more) == scores(whole)
    assert more["run_id"] == first["run_id"]
    again = run(composed(tmp_path, *words, "eval.knn.k=3"), choices)
    assert again["final"].items() >= more["final"].items()
    assert {"knn(k=3)/accuracy", "knn/accuracy"} <= set(again["initial"])
    assert touched(run_dir) == before
    assert started is not None and read_json(run_dir.status) != started  # it says that it was taken up again
    assert not run_dir.checkpoint.exists()


@pytest.mark.slow
def test_the_same_command_with_more_evaluators_trains_nothing(tmp_path: Path) -> None:
    words = (*TINY, "schedule.epochs=1")
    assert launch(tmp_path, *words).returncode == 0
    run_dir = only_run(tmp_path)
    before, scored = touched(run_dir), set(run_dir.scores.iterdir())
    times = {path: path.stat().st_mtime_ns for path in scored}
    done = launch(tmp_path, *words, "eval=[knn,kmeans]")
    assert done.returncode == 0, done.stderr
    assert touched(only_run(tmp_path)) == before
    assert {path: path.stat().st_mtime_ns for path in scored} == times
    assert sorted(path.name.split("_")[1] for path in set(run_dir.scores.iterdir()) - scored) == ["kmeans", "kmeans"]
    assert not list(run_dir.path.glob("checkpoint*"))
    status = read_json(run_dir.status)
    assert status is not None and (status["starts"], status["phase"]) == (2, "scoring")


def test_scores_on_validation_can_be_asked_for_later(tmp_path: Path) -> None:
    words = ("schedule.epochs=1",)
    assert run(composed(tmp_path, *words, "eval.validation=false"))["validation"]["final"] == {}
    later = run(composed(tmp_path, *words))
    assert later["validation"] == run(composed(tmp_path / "whole", *words))["validation"]


def test_another_dataset_is_scored_beside_the_trained_one(tmp_path: Path) -> None:
    first = run(composed(tmp_path, "schedule.epochs=1"))
    other = ("dataset@eval.dataset=digits", "eval.dataset.limit=40")
    later = run(composed(tmp_path, "schedule.epochs=1", *other), {**CHOICES, "dataset@eval.dataset": "digits"})
    assert later["final"]["knn/accuracy"] == first["final"]["knn/accuracy"]
    assert "knn@digits/accuracy" in later["final"]


def test_a_run_directory_is_scored_under_its_own_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = run(composed(tmp_path, "dataset.limit=48", "eval.knn.k=5", "model.patch_size=4"))
    run_dir = only_run(tmp_path)
    files = set(run_dir.scores.iterdir())
    # The command says nothing of limit, k and patch size: the defaults are others.
    words = ("mode=evaluate", f"checkpoint={run_dir.path}")
    found = run(composed(tmp_path, *words), overrides=words)
    assert found["scores"]["knn"].test["accuracy"]["value"] == results["final"]["knn/accuracy"]
    assert set(run_dir.scores.iterdir()) == files
    assert "with its own configuration\n" in capsys.readouterr().out
    others = (*words, "eval=[knn]", "eval.knn.k=3", "dataset.limit=32")
    run(composed(tmp_path, *others), overrides=others)
    assert "overridden: eval=[knn] eval.knn.k=3 dataset.limit=32" in capsys.readouterr().out
    assert len(set(run_dir.scores.iterdir()) - files) == 1
    assert json.loads(run_dir.results.read_text())["final"].items() >= results["final"].items()
    told = (run_dir.artefacts / "initial_vs_final.csv").read_text()
    assert "knn@digits/accuracy" in told and not list(run_dir.artefacts.glob("*.png"))


def test_the_checkpoint_of_an_unfinished_run_is_scored_by_its_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = composed(tmp_path, "checkpoint_minutes=0")
    with killed_after(1, monkeypatch):
        run(cfg)
    run_dir = only_run(tmp_path)
    for place in (run_dir.path, run_dir.checkpoint):
        words = ("mode=evaluate", f"checkpoint={place}")
        assert run(composed(tmp_path, *words), overrides=words)["step"] == 1
    assert [path.name.startswith("step1_knn_") for path in run_dir.scores.glob("step*")] == [True]
    assert not run_dir.results.exists()


def test_another_model_is_refused_by_key(tmp_path: Path) -> None:
    run(composed(tmp_path, "schedule.epochs=1"))
    words = ("mode=evaluate", f"checkpoint={only_run(tmp_path).path}", "model.patch_size=16")
    with pytest.raises(UserError, match=r"model\.patch_size \(8 there, 16 here\)"):
        run(composed(tmp_path, *words), overrides=words)
    with pytest.raises(UserError, match=r"nowhere.pt does not exist"):
        run(composed(tmp_path, "mode=evaluate", "checkpoint=nowhere.pt"))


def test_a_done_run_keeps_weights_and_no_state_of_the_optimiser(tmp_path: Path) -> None:
    cfg = composed(tmp_path, "schedule.epochs=1", "checkpoint_minutes=0")
    results = run(cfg)
    run_dir = only_run(tmp_path)
    assert run_dir.path.name == results["run_id"]
    assert not list(run_dir.path.glob("checkpoint*"))
    assert run_dir.encoder.stat().st_size < 1.1 * 4 * results["parameters"] + 20_000
