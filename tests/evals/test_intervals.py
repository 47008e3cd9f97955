"""Intervals of scores against hand values, and against scores of images that are drawn again one by one."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from dinodiet.evals import intervals
from dinodiet.evals.intervals import bootstrap, placements, wilson
from dinodiet.evals.metrics import score


def draw(count: int, num_labels: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(num_labels, (count,), generator=generator)
    scores = torch.rand(count, num_labels, generator=generator).double()
    scores[range(count), labels] += 0.3
    return scores, labels


def test_published_intervals_of_shares() -> None:
    """Newcombe 1998 (Statistics in Medicine 17, 857), table I, method 3."""
    published = {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }
    for (successes, trials), ends in published.items():
        assert wilson(successes, trials) == pytest.approx(ends, abs=5e-5)
    assert wilson(20, 20) == pytest.approx((1 - 0.1611, 1.0), abs=5e-5)
    assert wilson(math.nan, 5) is None and wilson(0, 0) is None


def again(scores: Tensor, labels: Tensor, draws: int) -> list[dict[str, float]]:
    """Return the metrics of images that are drawn as the bootstrap draws them."""
    weights = torch.cat(list(intervals._weights(len(labels), draws, seed=0))).long()
    positions = [torch.arange(len(labels)).repeat_interleave(row) for row in weights]
    return [score(scores[rows], labels[rows]) for rows in positions]


@pytest.mark.parametrize("num_labels", [2, 4])
def test_weights_stand_for_images_that_are_drawn_again(num_labels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "RESAMPLES", 60)
    monkeypatch.setattr(intervals, "AT_ONCE", 700)  # draws come in parts
    scores, labels = draw(80, num_labels)
    labels[labels == 3] = torch.where(torch.arange(int((labels == 3).sum())) < 2, 3, 0)  # a rare class
    found, drawn = bootstrap(scores, labels), again(scores, labels, 60)
    for name, tolerance in (("f1", 1e-9), ("recall", 1e-9), ("auroc", 0.015)):
        values = torch.tensor([metrics[name] for metrics in drawn], dtype=torch.float64)
        expected = values.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
        assert found[name] == pytest.approx(expected, abs=tolerance), name
        assert expected[1] - expected[0] > 0.05


def test_several_labels_to_an_image_are_drawn_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "RESAMPLES", 60)
    scores, labels = draw(80, 3)
    several = torch.nn.functional.one_hot(labels, 3)
    found = bootstrap(scores, several)
    assert found.keys() == {"auroc"} and found["auroc"] == pytest.approx(bootstrap(scores, labels)["auroc"])
    several[:, 1] = 1  # undefined, and left out
    values = [metrics["auroc"] for metrics in again(scores, several, 60)]
    expected = torch.tensor(values, dtype=torch.float64).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64))
    assert bootstrap(scores, several)["auroc"] == pytest.approx(expected.tolist(), abs=0.015)


def test_placements_of_either_side_have_the_auroc_as_mean() -> None:
    scores, labels = draw(60, 3)
    scores = scores.round(decimals=1)  # many ties
    for column, placed in enumerate(placements(scores, labels).T):
        area = roc_auc_score(labels == column, scores[:, column])
        assert placed[labels == column].mean() == pytest.approx(area)
        assert placed[labels != column].mean() == pytest.approx(area)


def test_a_perfect_score_stays_in_its_range_and_an_undefined_one_has_no_interval() -> None:
    labels = torch.arange(30) % 3
    perfect = torch.nn.functional.one_hot(labels).double()
    assert bootstrap(perfect, labels) == {"auroc": (1.0, 1.0), "f1": (1.0, 1.0), "recall": (1.0, 1.0)}
    assert bootstrap(perfect, torch.zeros(30, dtype=torch.int64)).keys() == {"f1", "recall"}
    assert bootstrap(perfect.fill_(math.nan), labels) == bootstrap(perfect[:0], labels[:0]) == {}


def test_of_many_images_and_labels_fewer_draws_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    weights = intervals._weights

    def counted(num_images: int, draws: int, seed: int) -> Iterator[Tensor]:
        made.append(draws)
        return weights(num_images, draws, seed)

    monkeypatch.setattr(intervals, "_weights", counted)
    for most in (2**34, 50 * 3 * 300, 1):
        monkeypatch.setattr(intervals, "MOST_PRODUCTS", most)
        bootstrap(*draw(50, 3))
    assert made == [1000, 300, 100]


def test_the_same_number_of_images_is_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    weights = intervals._weights

    def counted(num_images: int, draws: int, seed: int) -> Iterator[Tensor]:
        calls.append(num_images)
        return weights(num_images, draws, seed)

    monkeypatch.setattr(intervals, "_weights", counted)
    first, again = (bootstrap(*draw(53, 3)) for _ in range(2))
    assert first == again and calls == [53]
    monkeypatch.setattr(intervals, "AT_ONCE", 700)  # too many to keep
    assert bootstrap(*draw(53, 3)) == first and calls == [53, 53]
