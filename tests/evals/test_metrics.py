from __future__ import annotations

import math

import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from dinodiet.evals.metrics import macro_auroc, score


def draw(count: int, num_labels: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(num_labels, (count,), generator=generator)
    scores = torch.rand(count, num_labels, generator=generator).double()
    scores[range(count), labels] += 0.3
    return (scores / scores.sum(1, keepdim=True)), labels


@pytest.mark.parametrize("num_labels", [3, 7])
def test_all_metrics_are_scikit_learns(num_labels: int) -> None:
    scores, labels = draw(60, num_labels)
    predicted = scores.argmax(1)
    assert score(scores, labels) == pytest.approx(
        {
            "accuracy": accuracy_score(labels, predicted),
            "f1": f1_score(labels, predicted, average="macro"),
            "auroc": roc_auc_score(labels, scores, multi_class="ovr", average="macro"),
        },
        abs=1e-12,
    )


def test_binary_auroc_is_that_of_the_second_class() -> None:
    scores, labels = draw(50, 2)
    assert macro_auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores[:, 1]))
    unrelated_first_column = torch.stack([torch.zeros(50), scores[:, 1]], dim=1)
    assert macro_auroc(unrelated_first_column, labels) == pytest.approx(roc_auc_score(labels, scores[:, 1]))


def test_tied_scores_count_half() -> None:
    scores = torch.tensor([[0.5, 0.5]] * 3 + [[0.2, 0.8]])
    labels = torch.tensor([1, 0, 0, 1])
    assert macro_auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores[:, 1])) == pytest.approx(0.75)


@pytest.mark.parametrize("count", [5, 400])
def test_ties_and_rare_classes_are_scikit_learns(count: int) -> None:
    scores, labels = draw(count, 9, seed=count)
    scores = (4 * scores).round()
    expected = f1_score(labels, scores.argmax(1), average="macro", zero_division=0.0)
    assert score(scores, labels)["f1"] == pytest.approx(expected, abs=1e-12)
    areas = [roc_auc_score(labels == c, scores[:, c]) for c in labels.unique().tolist()]
    assert macro_auroc(scores, labels) == pytest.approx(sum(areas) / len(areas), abs=1e-12)


def test_a_class_missing_in_test_is_left_out_of_auroc() -> None:
    scores, labels = draw(60, 4)
    rows = labels != 2
    scores, labels = scores[rows], labels[rows]
    areas = [roc_auc_score(labels == c, scores[:, c]) for c in (0, 1, 3)]
    assert macro_auroc(scores, labels) == pytest.approx(sum(areas) / 3)


def test_f1_counts_a_class_that_is_predicted_but_absent() -> None:
    scores = torch.eye(3)[[0, 1, 2]]
    assert score(scores, torch.tensor([0, 1, 1]))["f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_multilabel_gives_macro_auroc_alone_over_labels_with_both_values() -> None:
    scores, _ = draw(40, 3)
    labels = torch.stack([torch.arange(40) % 2, torch.ones(40), (torch.arange(40) > 9)], dim=1).long()
    expected = (roc_auc_score(labels[:, 0], scores[:, 0]) + roc_auc_score(labels[:, 2], scores[:, 2])) / 2
    assert score(scores, labels) == pytest.approx({"auroc": expected})


def test_undefined_is_nan() -> None:
    one_class = score(torch.tensor([[0.9, 0.1], [0.8, 0.2]]), torch.tensor([0, 0]))
    assert one_class["accuracy"] == 1.0 and math.isnan(one_class["auroc"])
    assert math.isnan(macro_auroc(torch.rand(5, 2), torch.ones(5, 2).long()))
    empty = score(torch.empty(0, 3), torch.empty(0, dtype=torch.int64))
    broken = score(torch.tensor([[math.nan, 1.0], [0.0, 1.0]]), torch.tensor([0, 1]))
    assert all(math.isnan(value) for metrics in (empty, broken) for value in metrics.values())


def test_scores_that_are_not_numbers_have_no_auroc() -> None:
    scores, labels = draw(20, 3)
    scores[4, 1] = math.nan
    assert math.isnan(macro_auroc(scores, labels))
    assert math.isnan(score(scores, torch.nn.functional.one_hot(labels, 3))["auroc"])
