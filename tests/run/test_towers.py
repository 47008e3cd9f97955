"""Student and teacher scored side by side: before, during and after the training, at once or later."""

from __future__ import annotations

import contextlib
import io
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from dinodiet.config.gate import gate
from dinodiet.config.identity import evaluation_identity, wanted_scores
from dinodiet.evals.knn import KNN
from dinodiet.evals.splits import GivenSplits
from dinodiet.features.embed import embed
from dinodiet.results import collect
from dinodiet.results.__main__ import main as results_main
from dinodiet.run.parts import open_data, runtime_of
from dinodiet.run.trained import load
from dinodiet.run.weights import below
from dinodiet.store.rundir import RunDir
from dinodiet.store.scores import read_scores
from tests.running import composed, killed_after, run, scores

DINO = (
    *("model=resnet_tiny", "model.size=20", "dataset=digits", "dataset.limit=64", "dataset.image_size=16"),
    *("tuned=none", "method=dino", "method.head.out_dim=16", "method.head.hidden_dims=[16]", "method.views.crops=2x16"),
    *("method.teacher.momentum=0.5", "schedule.epochs=3", "schedule.batch_size=32", "schedule.lr.value=1e-2"),
    *("eval=knn", "eval.knn.k=5", "eval.every_epochs=1", "log_every=2", "device=cpu"),
)
CHOICES = {"model": "resnet_tiny", "dataset": "digits", "method": "dino"}
BOTH = "eval.towers=both"


def do(folder: Path, *words: str, base: tuple[str, ...] = DINO, choices: dict[str, str] = CHOICES) -> dict[str, Any]:
    return run(composed(folder, *words, base=base), choices, words)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A run whose two towers are scored, and its results."""
    folder = tmp_path_factory.mktemp("both")
    return folder, do(folder, BOTH)


def place(folder: Path, results: dict[str, Any]) -> RunDir:
    return RunDir(folder / "default" / results["run_id"])


def accuracy(run_dir: RunDir, tower: Any) -> float:
    """Score the embeddings of a tower, loaded from the files of its run, without the run's own machinery."""
    settings = gate(composed(run_dir.path.parent.parent, base=DINO), CHOICES)
    data, found = open_data(settings.dataset), load(run_dir.path, tower=tower)
    train, test = (
        embed(
            found.backbone, images, found.input, runtime_of(settings), num_labels=data.spec.num_labels, multilabel=False
        )
        for images in (data.train, data.test)
    )
    return KNN(k=5)(GivenSplits(train, test))["accuracy"].value


def test_each_score_is_that_of_its_own_tower(both: tuple[Path, dict[str, Any]]) -> None:
    folder, results = both
    final = results["final"]
    run_dir = place(folder, results)
    assert final["knn/accuracy"] == accuracy(run_dir, "evaluated")
    assert final["student/knn/accuracy"] == accuracy(run_dir, "trained")
    assert final["knn/accuracy"] != final["student/knn/accuracy"]
    assert results["initial"]["knn/accuracy"] == results["initial"]["student/knn/accuracy"]  # one begins as the other
    assert results["validation"]["final"].keys() >= {"knn/accuracy", "student/knn/accuracy"}
    assert results["better"]["student/knn/accuracy"] == "higher"
    assert "student/knn/accuracy" in results["intervals"]["final"]
    for row in results["epochs"]:
        assert {"val/knn/accuracy", "val/student/knn/accuracy"} <= row.keys()
    assert len(results["epochs"]) == 2


@pytest.mark.slow
def test_the_teachers_scores_keep_their_names_and_values(both: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, results = both
    alone = do(tmp_path)
    assert alone["run_id"] == results["run_id"]
    keys = {file.key for file in read_scores(place(tmp_path, alone))}
    settings = gate(composed(tmp_path, BOTH, base=DINO), CHOICES)
    assert "tower" not in evaluation_identity(settings, "knn", "final")  # so old names stay
    assert keys < {file.key for file in read_scores(place(folder, results))}
    assert alone["final"] == {key: value for key, value in results["final"].items() if not key.startswith("student/")}
    assert {file.tower for file in read_scores(place(folder, results))} == {"evaluated", "trained"}


@pytest.mark.slow
def test_a_finished_run_is_scored_for_its_student_without_training(
    both: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, results = both
    do(tmp_path)
    monkeypatch.setattr("dinodiet.run.train.fit", None)  # it would be called
    later = do(tmp_path, BOTH)
    assert {key: later[key] for key in ("initial", "final", "validation")} == {
        key: results[key] for key in ("initial", "final", "validation")
    }
    with contextlib.redirect_stdout(io.StringIO()) as told:
        assert do(tmp_path, BOTH)["final"] == later["final"]
    assert "is done already" in told.getvalue() and "student/knn/accuracy" in told.getvalue()
    run_dir = place(tmp_path, later)
    found = do(tmp_path, "mode=evaluate", f"checkpoint={run_dir.path}", BOTH, "eval.knn.k=3")["scores"]
    assert {*found} == {"knn", "student/knn"}
    again = place(tmp_path, later)
    assert len(read_scores(again)) == 4 + 2


@pytest.mark.slow
def test_killed_and_resumed_it_is_the_run_that_was_not(
    both: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, results = both
    with killed_after(3, monkeypatch):
        do(tmp_path, BOTH, "checkpoint_minutes=0")
    unfinished = tmp_path / "default" / results["run_id"]
    found = do(tmp_path, "mode=evaluate", f"checkpoint={unfinished}", BOTH)["scores"]
    assert found["knn"].phase == found["student/knn"].phase == "step3"
    assert scores(do(tmp_path, BOTH)) == scores(results)


@pytest.mark.slow
def test_of_one_tower_nothing_more_is_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("method=diet", "schedule.epochs=0", BOTH)
    kept = tuple(word for word in DINO if not word.startswith(("method", "schedule.lr")))
    results = do(tmp_path, *words, base=kept, choices={**CHOICES, "method": "diet"})
    assert {key.split("/")[0] for key in results["final"]} == {"knn"}
    assert "knn; eval.towers=both: one backbone is trained and evaluated" in capsys.readouterr().out
    settings = gate(composed(tmp_path, *words, base=kept), {**CHOICES, "method": "diet"})
    assert len(wanted_scores(settings)) == 2


@pytest.mark.slow
def test_budgets_of_labels_have_both(both: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, results = both
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    found = do(tmp_path, BOTH, "eval.labels_per_class=[2,all]", "eval.label_seeds=1")
    rows = {(row["evaluator"], row["phase"]): row["test"] for row in found["budgets"]}
    assert {*rows} == {(name, phase) for name in ("knn", "student/knn") for phase in ("initial", "final")}
    assert next(iter(rows["student/knn", "final"])) == "student/knn/accuracy"
    assert found["final"] == results["final"]


@pytest.mark.slow
def test_tables_show_student_beside_teacher(
    both: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder, results = both
    frame = collect(folder).set_index(["metric", "phase"])["value"]
    for metric in ("knn/accuracy", "student/knn/accuracy", "val/student/knn/accuracy"):
        assert frame[metric, "change"] == pytest.approx(frame[metric, "final"] - frame[metric, "initial"])
    results_main([str(folder), "--metric", "knn/accuracy,student/knn/accuracy", "--phase", "final"])
    table = capsys.readouterr().out
    assert "student/knn/accuracy" in table
    for key in ("knn/accuracy", "student/knn/accuracy"):
        assert f"{results['final'][key]:.3f}"[1:] in table or f"{100 * results['final'][key]:.1f}" in table
    # The key changes no training: runs with and without it are one column of a table.
    do(folder, "seed=1")
    assert "eval.towers" not in collect(folder).columns


def test_the_student_is_the_student(both: tuple[Path, dict[str, Any]]) -> None:
    run_dir = place(*both)
    whole = load_file(run_dir.weights)
    student, teacher = below("backbone", whole), below("teacher.backbone", whole)
    found = load(run_dir.path, tower="trained").backbone.state_dict(), load(run_dir.path).backbone.state_dict()
    for expected, state in zip((student, teacher), found, strict=True):
        assert all(torch.equal(expected[key], value) for key, value in state.items())
