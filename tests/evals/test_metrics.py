from __future__ import annotations

import math

import pytest
import torch
from sklearn.metrics import roc_auc_score

from dinodiet.evals.metrics import macro_auroc, score


def draw(count: int, num_labels: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(num_labels, (count,), generator=generator)
    scores = torch.rand(count, num_labels, generator=generator).double()
    scores[range(count), labels] += 0.3
    return scores / scores.sum(1, keepdim=True), labels


def test_metrics_of_classes_by_hand() -> None:
    """Class 2 is predicted and absent: its F1 is 0, and it has no AUROC. Equal scores count half."""
    scores = torch.tensor([[0.8, 0.1, 0.1], [0.4, 0.3, 0.3], [0.3, 0.6, 0.1], [0.2, 0.3, 0.5]])
    found = score(scores, torch.tensor([0, 0, 1, 1]))
    assert found == pytest.approx({"accuracy": 3 / 4, "f1": (1 + 2 / 3 + 0) / 3, "auroc": (1 + 3.5 / 4) / 2})


def test_auroc_of_classes_is_the_mean_of_one_against_the_rest() -> None:
    scores, labels = draw(60, 4)
    assert macro_auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores, multi_class="ovr"))
    known = labels != 2  # a class that is missing is left out
    areas = [roc_auc_score(labels[known] == c, scores[known, c]) for c in (0, 1, 3)]
    assert macro_auroc(scores[known], labels[known]) == pytest.approx(sum(areas) / 3)


def test_binary_auroc_is_that_of_the_second_class() -> None:
    scores, labels = draw(50, 2)
    unrelated_first_column = torch.stack([torch.zeros(50), scores[:, 1]], dim=1)
    assert macro_auroc(unrelated_first_column, labels) == pytest.approx(roc_auc_score(labels, scores[:, 1]))


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
    assert all(math.isnan(value) for value in empty.values())


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_scores_that_are_not_numbers_have_no_metrics(broken: float) -> None:
    scores, labels = draw(20, 3)
    scores[4, 1] = broken
    assert all(math.isnan(value) for value in score(scores, labels).values())
    assert math.isnan(score(scores, torch.nn.functional.one_hot(labels, 3))["auroc"])
