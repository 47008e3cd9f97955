"""A small study with evaluators of all kinds: what the training changed, paired by seed, with an interval for each."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from dinodiet.results.__main__ import main
from tests.running import CHOICES, composed, run

EVALUATORS = "eval=[knn,linear,kmeans,finetune,attentive,geometry]"
SHORT = (
    *("eval.finetune.lr=1e-2", "eval.finetune.seeds=1", "eval.finetune.steps=30", "eval.finetune.validations=1"),
    *("eval.attentive.training.min_steps=30", "eval.attentive.training.epochs=1", "eval.attentive.pooling.queries=2"),
    *("eval.linear.C=1", "eval.knn.k=3", "schedule.epochs=1", "dataset.limit=40"),
)
METRICS = (  # AUROC moves with every weight; accuracy may stay
    *("knn/auroc", "linear/auroc", "kmeans/ari", "finetune/auroc", "finetune/auroc_best"),
    *("attentive/auroc", "geometry/rankme", "geometry/uniformity"),
)


@pytest.mark.slow
def test_every_evaluator_has_paired_differences_with_intervals(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes: dict[str, list[float]] = {metric: [] for metric in METRICS}
    for seed in range(3):
        words = (EVALUATORS, *SHORT, f"seed={seed}", "dataset.split_seed=${seed}")
        results = run(composed(tmp_path, *words), CHOICES)
        for metric, found in changes.items():
            found.append(results["final"][metric] - results["initial"][metric])
    capsys.readouterr()
    for metric, found in changes.items():
        assert main([str(tmp_path / "default"), "--compare", "phase", "--metric", metric]) == 0
        (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("final - initial")]
        low, high = stats.t.interval(0.95, 2, np.mean(found), stats.sem(found))
        assert row.split()[3:5] == ["digits", "3"], row
        assert f" {np.mean(found):+.3f} " in row and f" {low:+.3f} to {high:+.3f} " in row, row


@pytest.mark.slow
def test_two_protocols_of_fine_tuning_are_two_differences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ("eval=finetune", *SHORT[:4], *SHORT[-2:])
    for steps, seed in itertools.product((2, 3), (0, 1)):
        run(composed(tmp_path, *base, f"eval.finetune.steps={steps}", f"seed={seed}"), CHOICES)
    capsys.readouterr()
    names = ("finetune/accuracy", "finetune(steps=3)/accuracy")
    assert main([str(tmp_path / "default"), "--compare", "phase", "--metric", ",".join(names)]) == 0
    printed = capsys.readouterr().out
    assert all(f"{name}, change: phase" in printed for name in names)
    assert printed.count("final - initial") == 2
