"""A run on several budgets of labels: what it writes, what it prints, and that only what is missing is computed."""

from pathlib import Path
from typing import Any

import pytest

from dinodiet.config.identity import score_id, wanted_scores
from dinodiet.config.settings import settings_of
from dinodiet.errors import UserError
from dinodiet.evals.knn import KNN
from dinodiet.io.files import read_json, write_json
from dinodiet.run import console
from dinodiet.run.finished import finished
from dinodiet.store.scores import read_scores
from dinodiet.types import Score, Splits
from tests.run.test_evaluate import only_run
from tests.running import CHOICES, composed, run

WORDS = ("schedule.epochs=1", "eval=[knn,kmeans]", "eval.knn.k=3")
BUDGETS = ("eval.labels_per_class=[1,2,all]", "eval.label_seeds=2")


@pytest.mark.slow
def test_a_run_without_budgets_is_named_and_answered_as_before(tmp_path: Path) -> None:
    settings = settings_of(composed(tmp_path, *WORDS), CHOICES)
    with_all = settings_of(composed(tmp_path, *WORDS, "eval.labels_per_class=[all]"), CHOICES)
    assert (
        wanted_scores(settings)
        == wanted_scores(with_all)
        == [score_id(settings, name, phase) for phase in ("initial", "final") for name in ("knn", "kmeans")]
    )
    results = run(composed(tmp_path, *WORDS))
    assert results["budgets"] == []
    assert "labels of train" not in console.results_table(results)


@pytest.mark.slow
def test_a_budget_more_computes_its_own_scores_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run(composed(tmp_path, *WORDS))
    run_dir = only_run(tmp_path)
    for path in run_dir.scores.glob("*_kmeans_*"):  # as before files said who fits labels
        content = read_json(path)
        assert content is not None and content.pop("fits_labels") is False and content.pop("labels") is None
        write_json(path, content)
    before = {path.name: path.stat().st_mtime_ns for path in run_dir.scores.iterdir() if "knn" in path.name}
    calls: list[int] = []
    score = KNN.__call__

    def counted(self: KNN, splits: Splits) -> dict[str, Score]:
        calls.append(len(splits.train))
        return score(self, splits)

    monkeypatch.setattr(KNN, "__call__", counted)
    later = run(composed(tmp_path, *WORDS, *BUDGETS))
    assert sorted(calls) == [10] * 8 + [20] * 8  # two phases, two splits, two draws
    assert {name: (run_dir.scores / name).stat().st_mtime_ns for name in before} == before
    assert (later["initial"], later["final"]) == (first["initial"], first["final"])
    assert sorted((row["per_class"], row["seed"], row["phase"]) for row in later["budgets"]) == [
        (amount, seed, phase) for amount in (1, 2) for seed in (0, 1) for phase in ("final", "initial")
    ]
    row = later["budgets"][0]
    assert (row["evaluator"], row["images"], row["of"]) == ("knn", 10 * row["per_class"], 64)
    assert set(row["test"]) == set(row["val"]) == {name for name in first["final"] if name.startswith("knn/")}
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if "a class" in line]
    assert [(line[0], line[1], line[-1]) for line in lines] == [
        ("knn/accuracy,", "1", "2"),
        ("knn/accuracy,", "2", "2"),
    ]
    settings = settings_of(composed(tmp_path, *WORDS, *BUDGETS), CHOICES)
    assert finished(settings) == read_json(run_dir.results)
    one_more = settings_of(composed(tmp_path, *WORDS, *BUDGETS, "eval.label_seeds=3"), CHOICES)
    assert finished(one_more) is None


@pytest.mark.slow
def test_every_phase_and_evaluator_has_the_same_images(tmp_path: Path) -> None:
    words = ("schedule.epochs=1", "eval=[knn,linear]", "eval.knn.k=1", "eval.linear.C=1", *BUDGETS)
    results = run(composed(tmp_path, *words))
    digests: dict[Any, set[str]] = {}
    for scores in read_scores(only_run(tmp_path)):
        if scores.labels is not None:
            digests.setdefault((scores.labels["per_class"], scores.labels["seed"]), set()).add(scores.labels["digest"])
    assert len(digests) == 4 and all(len(found) == 1 for found in digests.values())
    assert len(set.union(*digests.values())) == 4
    assert len(results["budgets"]) == 2 * 2 * 4


@pytest.mark.slow
def test_without_all_labels_there_is_no_headline(tmp_path: Path) -> None:
    results = run(composed(tmp_path, "schedule.epochs=1", "eval.knn.k=1", "eval.label_fraction=[0.2]"))
    assert results["final"] == {}
    table = console.results_table(results)
    assert "test score" not in table
    assert "knn/accuracy, 0.2 of train" in table and table.rstrip().endswith("5")


@pytest.mark.slow
def test_a_checkpoint_is_scored_on_budgets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(composed(tmp_path, *WORDS))
    words = (
        "mode=evaluate",
        f"checkpoint={only_run(tmp_path).path}",
        "eval.labels_per_class=[1]",
        "eval.label_seeds=2",
    )
    found = run(composed(tmp_path, *words), overrides=words)
    assert set(found["scores"]) == {"kmeans"}
    assert [(row["seed"], row["phase"]) for row in found["budgets"]] == [(0, "final"), (1, "final")]
    assert "knn/accuracy, 1 a class" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["eval.labels_per_class=[]"], r"^eval\.labels_per_class: \[\]"),
        (["eval.labels_per_class=[0]"], r"^eval\.labels_per_class: \[0\]"),
        (["eval.labels_per_class=[some]"], r"^eval\.labels_per_class: \['some'\]"),
        (["eval.label_fraction=[1.5]"], r"^eval\.label_fraction: \[1\.5\]"),
        (["eval.label_fraction=[0.5]", "eval.labels_per_class=[1]"], r"^eval\.label_fraction: .*one of the two"),
        (["eval.label_fraction=[0.5]", "eval.label_rule=balanced"], r"^eval\.label_rule: balanced"),
        (["eval.label_seeds=0"], r"^eval\.label_seeds: 0"),
        (["eval.labels_per_class=[500]"], r"^eval\.labels_per_class: 500, but .* class"),
    ],
)
def test_wrong_budgets_are_refused_by_key(tmp_path: Path, words: list[str], key: str) -> None:
    with pytest.raises(UserError, match=key):
        run(composed(tmp_path, *words))
    assert not list(tmp_path.glob("*/*/scores/*"))
