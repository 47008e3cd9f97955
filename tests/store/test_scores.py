import math
from pathlib import Path
from typing import Any

import pytest

from dinodiet.errors import UserError
from dinodiet.io.files import write_json
from dinodiet.store.rundir import RunDir
from dinodiet.store.scores import ScoreFile, lacks, read_results, read_scores, summary, write_results, write_scores


def entry(value: float, kind: str = "metric", better: str = "higher") -> dict[str, Any]:
    return {"value": value, "better": better, "kind": kind}


def scores(key: str, *, k: int = 20, at: float = 0.0, **more: Any) -> ScoreFile:
    test = {"accuracy": entry(0.5 + k / 1000), "k": entry(k, "setting")}
    given = {"evaluator": "knn", "phase": "final", "settings": {"k": k}, "written": at, **more}
    return ScoreFile(key=key, test=test, **given)


def test_the_summary_keeps_metrics_settings_and_directions_apart() -> None:
    loss = ScoreFile("l", "fit", "final", {}, test={"loss": entry(2.0, better="lower")}, val={"loss": entry(3.0)})
    found = summary([scores("a"), loss, ScoreFile("s", "kmeans", "final", {}, skipped="several labels")])
    assert found["final"] == {"knn/accuracy": 0.52, "fit/loss": 2.0}
    assert found["validation"]["final"] == {"fit/loss": 3.0}
    assert found["settings"]["final"] == {"knn/k": 20}
    assert found["better"] == {"knn/accuracy": "higher", "fit/loss": "lower"}
    assert found["skipped"] == {"kmeans": "several labels"}
    assert found["evaluations"] == {"a": False, "l": True, "s": True}


def test_the_first_of_two_evaluations_keeps_the_plain_name() -> None:
    found = summary([scores("a", k=20), scores("b", k=10), scores("c", dataset="cifar10"), scores("d", phase="step5")])
    assert set(found["final"]) == {"knn/accuracy", "knn(k=10)/accuracy", "knn@cifar10/accuracy"}


def test_files_are_read_back_oldest_first_and_what_is_broken_is_left_out(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    for key, at in (("a", 2.0), ("b", 1.0)):
        write_scores(run_dir, scores(key, at=at))
    (run_dir.scores / "broken.json").write_text("{")
    write_json(run_dir.scores / "other.json", {"format": 99})
    assert [file.key for file in read_scores(run_dir)] == ["b", "a"]
    assert read_scores(run_dir)[1] == scores("a", at=2.0)


def test_a_number_that_is_undefined_stays_undefined(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    write_scores(run_dir, ScoreFile("a", "knn", "final", {}, test={"auroc": entry(math.nan)}))
    assert math.isnan(summary(read_scores(run_dir))["final"]["knn/auroc"])


def test_results_of_another_format_are_refused(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    assert read_results(run_dir) is None
    assert write_results(run_dir, {"seed": 3})["seed"] == 3
    assert read_results(run_dir) is not None
    write_json(run_dir.results, {"format": 1})
    with pytest.raises(UserError, match="written by another version"):
        read_results(run_dir)


def test_results_lack_what_was_never_scored_or_not_on_validation() -> None:
    results = {"evaluations": {"a": True, "b": False}}
    assert not lacks(results, ["a", "b"], validation=False)
    assert lacks(results, ["b"], validation=True)
    assert lacks(results, ["c"], validation=False)


def test_intervals_notes_and_diagnostics_stand_beside_the_metrics() -> None:
    test = {
        "accuracy": {**entry(0.5), "interval": [0.4, 0.6]},
        "auroc": {**entry(math.nan), "note": "one class"},
        "train_accuracy": entry(1.0, "diagnostic"),
    }
    found = summary([ScoreFile("a", "knn", "final", {}, test=test)])
    assert set(found["final"]) == {"knn/accuracy", "knn/auroc"}
    assert found["intervals"] == {"initial": {}, "final": {"knn/accuracy": [0.4, 0.6]}}
    assert found["notes"]["final"] == {"knn/auroc": "one class"}
    assert found["diagnostics"]["final"] == {"knn/train_accuracy": 1.0}


def test_scores_on_a_budget_that_were_measured_otherwise_are_refused_by_budget() -> None:
    def on(seed: int, phase: str, batch_size: int, digest: str = "a") -> ScoreFile:
        labels = {"per_class": 5, "rule": "balanced", "seed": seed, "images": 15, "of": 90, "digest": digest}
        key = f"{phase}{seed}"
        return scores(key, phase=phase, labels=labels, protocol={"version": 1, "batch_size": batch_size})

    before = [on(seed, "initial", 32) for seed in (0, 1, 2)]
    found = summary([*before, on(0, "final", 32), on(1, "final", 64), on(2, "final", 32, digest="b")])
    told = {(row["seed"], row["phase"]): row["refused"] for row in found["budgets"]}
    assert told[0, "initial"] is told[0, "final"] is None and found["refused"] == {}
    assert told[1, "initial"] == told[1, "final"] == "measured differently: batch_size (32 before, 64 after)"
    assert told[2, "final"] == "the labels before are of other images than those after"


def test_evaluators_that_measure_train_alone_are_listed() -> None:
    assert summary([scores("a"), scores("b", evaluator="geometry", of_train=True)])["of_train"] == ["geometry"]


@pytest.mark.parametrize("broken", [{"interval": [0.6, 0.4]}, {"interval": 0.5}, {"note": 3}])
def test_a_file_with_a_broken_interval_or_note_is_left_out(tmp_path: Path, broken: dict[str, Any]) -> None:
    write_scores(RunDir(tmp_path), scores("a"))  # has neither, as files from before they were known
    write_scores(RunDir(tmp_path), ScoreFile("b", "knn", "final", {}, test={"accuracy": {**entry(0.5), **broken}}))
    assert [file.key for file in read_scores(RunDir(tmp_path))] == ["a"]
