from __future__ import annotations

import math

import pytest
import torch
from sklearn.metrics import recall_score, roc_auc_score

from dinodiet.evals.intervals import wilson
from dinodiet.evals.metrics import bounded, macro_auroc, measured, score
from dinodiet.types import Score


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
    means = {"recall": (1 + 1 / 2) / 2, "f1": (1 + 2 / 3 + 0) / 3, "auroc": (1 + 3.5 / 4) / 2}
    assert found == pytest.approx({"accuracy": 3 / 4, **means})


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


def test_recall_is_the_mean_over_the_classes_that_occur() -> None:
    """Three of four of class 0, one of two of class 1, none of class 2: accuracy weighs images, recall classes."""
    scores = torch.nn.functional.one_hot(torch.tensor([0, 0, 0, 1, 1, 2]), 3).double()
    found = score(scores, torch.tensor([0, 0, 0, 0, 1, 1]))
    assert found["recall"] == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert found["accuracy"] == pytest.approx(4 / 6)
    labels, predicted = torch.tensor([0, 0, 0, 0, 1, 1]), scores.argmax(1)
    assert found["recall"] == pytest.approx(recall_score(labels, predicted, labels=[0, 1], average="macro"))


def test_what_rounding_put_outside_the_range_is_clipped_and_more_is_an_error() -> None:
    assert bounded(1.0000001192) == Score(1.0, note="clipped from 1.0000001192")
    assert bounded(-1e-7).value == 0.0 and bounded(-0.3, low=-1.0) == Score(-0.3)
    assert bounded(0.5, interval=(0.4, 0.6)) == Score(0.5, interval=(0.4, 0.6))
    with pytest.raises(ArithmeticError, match=r"1\.00001, which is outside \[0, 1\]"):
        bounded(1.00001)
    with pytest.raises(ArithmeticError, match=r"-0\.1"):
        bounded(-0.1)


def test_every_metric_has_its_interval_and_what_is_undefined_its_reason() -> None:
    scores, labels = draw(60, 4)
    found = measured(scores, labels)
    assert list(found) == ["accuracy", "recall", "f1", "auroc"]
    for name, value in score(scores, labels).items():
        ends = found[name].interval
        assert found[name].value == value and found[name].note is None
        assert ends is not None and ends[0] < value < ends[1]
    assert found["accuracy"].interval == wilson(round(60 * found["accuracy"].value), 60)
    one_class = measured(scores, torch.zeros(60, dtype=torch.int64))["auroc"]
    assert math.isnan(one_class.value) and one_class.interval is None
    assert one_class.note == "no label has positives and negatives"
    some = measured(scores, labels.clamp(max=2))["auroc"]
    assert some.note == "of 3 of 4 labels: the others lack positives or negatives" and some.interval is not None
    assert measured(scores[:0], labels[:0])["recall"].note == "there are no images"
    assert measured(scores.fill_(math.nan), labels)["accuracy"].note == "the scores are not finite"


def test_classes_are_those_of_the_scores_and_not_those_seen() -> None:
    scores, labels = draw(60, 5)
    few = labels < 2
    found = measured(scores[few], labels[few])
    assert all(math.isfinite(one.value) for one in found.values())
