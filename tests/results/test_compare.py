"""Paired comparisons against scipy called by hand and Holm's rule written out."""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from dinodiet.errors import UserError
from dinodiet.results.compare import ALL_CELLS, Comparison, compare, statistics
from dinodiet.results.compare_table import notes, report
from dinodiet.results.runs import Run, read
from tests.results import studies

CELLS = [(model, dataset) for model in ("dinov2-base", "mae", "resnet50") for dataset in ("dermamnist", "pathmnist")]


def runs_of(study: Path, seeds: int = 8) -> list[Run]:
    studies.grid(study, seeds=range(seeds))
    return read([study]).runs


def scores(runs: list[Run], model: str, dataset: str, method: str) -> np.ndarray:
    chosen = (one.record for one in runs)
    found = [r for r in chosen if (r["model"], r["dataset"], r["method"]) == (model, dataset, method)]
    return np.array([r["final/knn/accuracy"] for r in sorted(found, key=lambda r: int(str(r["seed"])))], dtype=float)


def holm(values: list[float]) -> list[float]:
    """Return p times the number of tests not yet done, from the smallest on, never decreasing, at most 1."""
    corrected, largest = [0.0] * len(values), 0.0
    for done, place in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        largest = max(largest, min(1.0, values[place] * (len(values) - done)))
        corrected[place] = largest
    return corrected


def compared(runs: list[Run], **options: str) -> Comparison:
    return compare(runs, "method", ["diet", "dino"], metric="knn/accuracy", **options)


@pytest.mark.slow
def test_every_cell_is_tested_as_by_hand(tmp_path: Path) -> None:
    runs = runs_of(tmp_path)
    pairs = compared(runs).pairs.set_index(["model", "dataset"])
    t_values, wilcoxon_values = [], []
    for model, dataset in CELLS:
        diet, dino = (scores(runs, model, dataset, method) for method in ("diet", "dino"))
        difference, row = dino - diet, pairs.loc[(model, dataset)]
        assert (row["n"], row["difference"]) == (8, pytest.approx(difference.mean()))
        half = stats.t.ppf(0.975, 7) * difference.std(ddof=1) / math.sqrt(8)
        assert (row["low"], row["high"]) == pytest.approx((difference.mean() - half, difference.mean() + half))
        t = difference.mean() / (difference.std(ddof=1) / math.sqrt(8))
        t_values.append(2 * stats.t.sf(abs(t), 7))
        assert row["p_t"] == pytest.approx(t_values[-1])
        wilcoxon_values.append(stats.wilcoxon(difference.round(12)).pvalue)
        assert row["p_wilcoxon"] == pytest.approx(wilcoxon_values[-1])
        assert (row["wins"], row["losses"]) == ((difference > 0).sum(), (difference < 0).sum())
    cells = pairs.loc[CELLS]
    assert cells["p_t_holm"].tolist() == pytest.approx(holm(t_values))
    assert cells["p_wilcoxon_holm"].tolist() == pytest.approx(holm(wilcoxon_values))


@pytest.mark.slow
def test_over_the_grid_the_cells_are_the_pairs(tmp_path: Path) -> None:
    runs = runs_of(tmp_path)
    found = compared(runs)
    means = np.array([[scores(runs, *cell, method).mean() for method in ("diet", "dino")] for cell in CELLS])
    row = found.pairs[found.pairs["model"] == ALL_CELLS].iloc[0]
    assert row["n"] == 6
    assert row["p_t"] == row["p_t_holm"] == pytest.approx(stats.ttest_rel(means[:, 1], means[:, 0]).pvalue)
    ranks = (1 + (means[:, 0] < means[:, 1]).mean(), 1 + (means[:, 1] < means[:, 0]).mean())
    assert found.ranks["value"].tolist() == ["diet", "dino"]
    assert found.ranks["mean_rank"].tolist() == pytest.approx(ranks)


@pytest.mark.slow
def test_more_than_two_values_are_compared_pair_by_pair_and_ranked(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, seeds=3)
    found = compare(runs, "model", metric="knn/accuracy")
    assert found.pairs["pair"].unique().tolist() == ["mae - dinov2-base", "resnet50 - dinov2-base", "resnet50 - mae"]
    cells = [(dataset, method) for dataset in ("dermamnist", "pathmnist") for method in ("diet", "dino")]
    means = np.array(
        [[scores(runs, model, *cell).mean() for model in ("dinov2-base", "mae", "resnet50")] for cell in cells]
    )
    by_hand = (means[:, :, None] < means[:, None, :]).sum(axis=2).mean(axis=0) + 1
    assert found.ranks["mean_rank"].tolist() == pytest.approx(by_hand)
    assert found.friedman == pytest.approx(stats.friedmanchisquare(*means.T).pvalue)
    tests = found.pairs[found.pairs["dataset"] != ALL_CELLS]
    assert len(tests) == 12
    assert tests["p_t_holm"].tolist() == pytest.approx(holm(tests["p_t"].tolist()))


@pytest.mark.slow
def test_order_and_sign(tmp_path: Path) -> None:
    for seed in range(3):
        studies.write(tmp_path, studies.results(method="diet", seed=seed, final=0.9 + 0.01 * seed))
        studies.write(tmp_path, studies.results(method="dino", seed=seed, final=0.8))
    runs = read([tmp_path]).runs
    row = compared(runs).pairs.iloc[0]
    assert row["difference"] == pytest.approx(-0.11)
    assert (row["wins"], row["ties"], row["losses"]) == (0, 0, 3)
    turned = compare(runs, "method", ["dino", "diet"], metric="knn/accuracy").pairs.iloc[0]
    assert (turned["difference"], turned["wins"]) == (pytest.approx(0.11), 3)


def test_less_is_better_for_costs() -> None:
    found = statistics(np.array([10.0, 20.0]), np.array([9.0, 25.0]), sign=-1)
    assert (found["wins"], found["losses"]) == (1, 1)
    found = statistics(np.array([10.0, 20.0]), np.array([9.0, 19.5]), sign=-1)
    assert (found["wins"], found["losses"]) == (2, 0)


def test_where_there_is_no_test_it_is_said(tmp_path: Path) -> None:
    for dataset, seeds in (("alone", 1), ("equal", 3), ("shifted", 3)):
        for seed in range(seeds):
            studies.write(tmp_path, studies.results(dataset=dataset, seed=seed, final=0.8 + 0.01 * seed))
            better = 0.1 if dataset == "shifted" else 0.0
            content = studies.results(dataset=dataset, method="dino", seed=seed, final=0.8 + 0.01 * seed + better)
            studies.write(tmp_path, content)
    found = compared(read([tmp_path]).runs)
    pairs = found.pairs.set_index("dataset")
    assert pairs.loc[["alone", "equal", "shifted"], ["low", "p_t", "p_t_holm"]].isna().all(axis=None)
    assert pairs["p_wilcoxon"].notna().to_dict() == {"alone": False, "equal": False, "shifted": True, ALL_CELLS: True}
    assert (pairs.loc["equal", "ties"], pairs.loc["shifted", "wins"]) == (3, 3)
    text = report(found)
    assert text.count("no test: 1 pair") == 2
    assert text.count("no test: all equal") == 3
    assert "Wilcoxon's p of 3 pairs is at least 0.25" in notes(found)[0]


def test_runs_without_partner_are_named(tmp_path: Path) -> None:
    for seed in range(3):
        studies.write(tmp_path, studies.results(seed=seed))
    for seed in (0, 1):
        studies.write(tmp_path, studies.results(method="dino", seed=seed))
    found = compared(read([tmp_path]).runs)
    assert found.pairs["n"].tolist() == [2]
    assert len(found.unpaired) == 1 and "diet_seed2" in found.unpaired[0]


def test_settings_of_a_method_are_compared(tmp_path: Path) -> None:
    for smoothing, final in ((0.0, 0.8), (0.2, 0.9)):
        for seed in (0, 1):
            content = studies.results(seed=seed, final=final + seed * smoothing / 10)
            content["config"]["method"]["loss"]["label_smoothing"] = smoothing
            content["run_id"] += f"{smoothing}"
            studies.write(tmp_path, content)
    found = compare(read([tmp_path]).runs, "label_smoothing", [0, 0.2], metric="knn/accuracy")
    assert found.key == "method.loss.label_smoothing"
    assert found.pairs["difference"].tolist() == pytest.approx([0.11])


@pytest.mark.parametrize(
    ("key", "values", "message"),
    [
        ("method", ["diet", "byol"], "^method: compare needs two"),
        ("method", ["diet"], "^method: compare needs two"),
        ("dataset", [], "^dataset: compare needs two"),
        ("colour", [], "^colour: no such column"),
        ("method", [], "^method: no two runs differ"),
    ],
)
def test_what_cannot_be_compared_is_told(key: str, values: list[str], message: str, tmp_path: Path) -> None:
    studies.write(tmp_path, studies.results(seed=0))
    studies.write(tmp_path, studies.results(seed=1, method="dino"))
    with pytest.raises(UserError, match=message):
        compare(read([tmp_path]).runs, key, values, metric="knn/accuracy")


def test_where_lower_is_better_wins_and_ranks_turn_round(tmp_path: Path) -> None:
    for method, final in (("diet", 0.3), ("dino", 0.5)):
        for seed in (0, 1):
            content = studies.results(method=method, seed=seed, final=final + 0.01 * seed * (final < 0.4))
            studies.write(tmp_path, content | {"better": {"knn/accuracy": "lower"}})
    found = compared(read([tmp_path]).runs)
    assert found.pairs["difference"].tolist() == pytest.approx([0.195])
    assert (found.pairs["wins"].tolist(), found.pairs["losses"].tolist()) == ([0], [2])
    assert found.ranks.set_index("value")["mean_rank"].to_dict() == {"diet": 1.0, "dino": 2.0}
    assert "lower is better" in report(found)


def test_where_neither_direction_is_better_nobody_wins(tmp_path: Path) -> None:
    for method, final in (("diet", 0.3), ("dino", 0.5)):
        for seed in (0, 1):
            content = studies.results(method=method, seed=seed, final=final + 0.01 * seed * (final < 0.4))
            studies.write(tmp_path, content | {"better": {"knn/accuracy": "none"}})
    found = compared(read([tmp_path]).runs)
    assert found.pairs["difference"].tolist() == pytest.approx([0.195]) and not found.ranked
    told = report(found)
    assert "neither direction is better" in told and "0.195" in told
    assert "wins" not in told and "rank" not in told


def test_the_cheapest_has_the_first_rank(tmp_path: Path) -> None:
    for method, seconds in (("diet", 10.0), ("dino", 20.0)):
        studies.write(tmp_path, studies.results(method=method) | {"train_seconds": seconds})
    found = compare(read([tmp_path]).runs, "method", metric="train_seconds")
    assert found.ranks.set_index("value")["mean_rank"].to_dict() == {"diet": 1.0, "dino": 2.0}
    assert found.pairs["losses"].tolist() == [1]


def test_what_is_averaged_over_cannot_be_compared(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, seeds=2)
    for key, over in (("seed", ["seed"]), ("model", ["seed", "model"])):
        with pytest.raises(UserError, match=f"^{key}: cannot be compared and averaged over"):
            compare(runs, key, metric="knn/accuracy", over=over)


def test_what_the_training_changed_is_paired_run_by_run(tmp_path: Path) -> None:
    for seed, final in enumerate((0.82, 0.85, 0.87)):
        studies.write(tmp_path, studies.results(seed=seed, initial=0.8 + 0.01 * seed, final=final))
    found = compare(read([tmp_path]).runs, "phase", metric="knn/accuracy")
    (row,) = found.pairs.to_dict("records")
    changes = np.array([0.02, 0.04, 0.05])
    half = stats.t.ppf(0.975, 2) * changes.std(ddof=1) / math.sqrt(3)
    assert (row["pair"], row["n"], row["wins"]) == ("final - initial", 3, 3)
    assert (row["difference"], row["high"] - row["low"]) == pytest.approx((changes.mean(), 2 * half))
    assert f"{changes.mean():+.3f}" in report(found)


@pytest.mark.slow
def test_two_protocols_are_two_cells_of_a_change(tmp_path: Path) -> None:
    for k, final in ((5, 0.82), (20, 0.90)):
        for seed in range(3):
            content = studies.results(seed=seed, final=final + 0.001 * seed, overrides={"eval.knn.k": k})
            studies.write(tmp_path, content)
    found = compare(read([tmp_path]).runs, "phase", metric="knn/accuracy")
    pairs = found.pairs.set_index("eval.knn.k")["difference"]
    assert pairs["5"] == pytest.approx(0.021) and pairs["20"] == pytest.approx(0.101)


def test_sides_that_were_measured_unlike_are_not_paired(tmp_path: Path) -> None:
    refused, good = (studies.results(seed=seed) for seed in (0, 1))
    refused["refused"] = {"knn": "other steps before than after"}
    for content in (refused, good):
        studies.write(tmp_path, content)
    found = compare(read([tmp_path]).runs, "phase", metric="knn/accuracy")
    assert found.pairs["n"].tolist() == [1] and found.unpaired == [refused["run_id"]]
    with pytest.raises(UserError, match="phase: no run has knn/accuracy before and after its training"):
        compare(read([tmp_path / refused["run_id"]]).runs, "phase", metric="knn/accuracy")


def test_runs_of_one_name_in_two_studies_are_told_apart(tmp_path: Path) -> None:
    refused, good = studies.results(seed=0), studies.results(seed=0)
    refused["refused"] = {"knn": "other steps before than after"}
    for folder, content in (("a", refused), ("b", good)):
        studies.write(tmp_path / folder, content)
    found = compare(read([tmp_path / "a", tmp_path / "b"]).runs, "phase", metric="knn/accuracy")
    assert found.pairs["n"].tolist() == [1] and found.unpaired == [refused["run_id"]]


def test_a_phase_has_two_values(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"phase: final, change; it has initial, final and no other values"):
        compare(runs_of(tmp_path, 2), "phase", ["final", "change"], metric="knn/accuracy")
