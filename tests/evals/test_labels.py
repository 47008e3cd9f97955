"""Budgets of labels: one embedding of each split serves them all, and every evaluator is given the same images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import pytest
import torch
from torch import Tensor

from dinodiet.config.budgets import Budget
from dinodiet.data.images import TensorImages
from dinodiet.errors import UserError
from dinodiet.evals.kmeans import KMeans
from dinodiet.evals.knn import KNN
from dinodiet.evals.labels import draw
from dinodiet.evals.linear import Linear
from dinodiet.evals.scorer import Scorer
from dinodiet.evals.splits import GivenSplits
from dinodiet.features.embed import embed
from dinodiet.types import Data, DataSpec, Embeddings, EncoderSplits, Evaluator, Images, Runtime, Score
from tests.evals.test_scorer import SPEC, Elsewhere, Encoder

SIZES = (40, 12, 8)


def per_class(amount: int, seed: int = 0, rule: Literal["balanced", "proportional"] = "balanced") -> Budget:
    return Budget("per_class", amount, rule, seed)


def part(amount: float, seed: int = 0) -> Budget:
    return Budget("fraction", amount, "proportional", seed)


def data(sizes: tuple[int, ...] = SIZES, *, multilabel: bool = False) -> Data:
    generator = torch.Generator().manual_seed(0)
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    labels = labels[torch.randperm(len(labels), generator=generator)]
    if multilabel:
        labels = torch.nn.functional.one_hot(labels, len(sizes))

    def split(labels: Tensor) -> TensorImages:
        return TensorImages(torch.randint(256, (len(labels), 3, 8, 8), generator=generator, dtype=torch.uint8), labels)

    spec = DataSpec("images", len(labels), len(sizes), multilabel=multilabel, classes=("ant", "bee", "cat"))
    train = split(labels)
    return Data(spec, train, train, split(labels[:20]), split(labels[:30]))


@dataclass(frozen=True)
class Counting:
    """An evaluator that says what it was given; it says nothing of labels, as those from elsewhere may."""

    needs: ClassVar[Literal["encoder"]] = "encoder"

    def applies(self, spec: DataSpec, num_train: int) -> None: ...

    def __call__(self, splits: EncoderSplits) -> dict[str, Score]:
        assert splits.train_images.labels is not None and torch.equal(splits.train.labels, splits.train_images.labels)
        assert splits.folder is None
        pixels = splits.train_images[0].float().mean().item()
        return {"images": Score(len(splits.train)), "first": Score(pixels), "test": Score(len(splits.test))}


def test_the_images_of_a_budget_are_exact_nested_and_of_its_seed_alone() -> None:
    images = data()
    assert images.train.labels is not None
    for seed in (0, 1):
        chosen = [draw(per_class(amount, seed), images) for amount in (1, 3, 8)]
        assert [images.train.labels[one.positions].bincount().tolist() for one in chosen] == [[1] * 3, [3] * 3, [8] * 3]
        assert set(chosen[0].positions.tolist()) < set(chosen[1].positions.tolist()) < set(chosen[2].positions.tolist())
    one, again, other = (draw(per_class(3, seed), images) for seed in (0, 0, 1))
    assert one.digest == again.digest != other.digest
    assert one.plain() == {
        "per_class": 3, "rule": "balanced", "seed": 0, "images": 9, "of": 60, "digest": one.digest
    }  # fmt: skip


def test_a_fraction_is_exact_in_proportion_and_has_every_class() -> None:
    images = data((900, 60, 30))
    assert images.train.labels is not None
    for share, counts in ((10 / 990, [8, 1, 1]), (0.1, [91, 6, 3 - 1])):
        chosen = draw(part(share), images).positions
        assert len(chosen) == round(share * 990)
        found = images.train.labels[chosen].bincount().tolist()
        assert found == counts or sum(found) == sum(counts)
        assert min(found) >= 1
    small, large = (set(draw(part(share), images).positions.tolist()) for share in (0.1, 0.5))
    assert small < large
    same_number = draw(per_class(5, rule="proportional"), images).positions
    assert images.train.labels[same_number].bincount().tolist() == [13, 1, 1]
    several = data((900, 60, 30), multilabel=True)
    assert len(draw(part(0.1), several).positions) == 99


@pytest.mark.parametrize(
    ("budget", "images", "words"),
    [
        (per_class(9), data(), r"^eval\.labels_per_class: 9, but .* class 'cat' has 8"),
        (per_class(3), data((10, 10, 0)), r"^eval\.labels_per_class: 3, but .* class 'cat' has 0"),
        (per_class(3), data(multilabel=True), r"^eval\.labels_per_class: 3, but the images are multi-label"),
        (part(0.01), data(), r"^eval\.label_fraction: 0\.01, which are 1 of 60 .* gives 3 "),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_any_work(budget: Budget, images: Data, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Scorer({}, images, SPEC, Runtime(), validation=True, budgets=[None, budget])


def test_more_neighbours_than_labels_are_refused_with_the_budget() -> None:
    with pytest.raises(UserError, match=r"^eval\.knn\.k: 5; .* 3 train images.*labels_per_class: 1"):
        Scorer({"knn": KNN(k=5)}, data(), SPEC, Runtime(), validation=True, budgets=[None, per_class(1)])


def test_one_embedding_of_each_split_serves_all_budgets_and_seeds() -> None:
    encoder, images = Encoder(), data()
    budgets: list[Budget | None] = [None, *(per_class(amount, seed) for amount in (1, 4) for seed in (0, 1))]
    evaluators: dict[str, Evaluator] = {
        "knn": KNN(k=3),
        "linear": Linear(C=1.0),
        "kmeans": KMeans(n_init=1),
        "own": Counting(),
    }
    scorer = Scorer(evaluators, images, SPEC, Runtime(batch_size=16), validation=True, budgets=budgets)
    assert list(scorer.asked) == [
        *(("knn", budget) for budget in budgets), *(("linear", budget) for budget in budgets),
        ("kmeans", None), *(("own", budget) for budget in budgets),
    ]  # fmt: skip
    found = dict(scorer.scores(encoder, scorer.asked))
    assert encoder.seen == 60 + 30 + 20
    assert all(scored.skipped is None or "same label" in scored.skipped for scored in found.values())
    plain = Scorer(evaluators, images, SPEC, Runtime(batch_size=16), validation=True)(Encoder())
    for name in evaluators:
        assert found[name, None] == plain[name]
    embedder = GivenSplits(_embedded(encoder, images.train), _embedded(encoder, images.test))
    for name, evaluator in (("knn", KNN(k=3)), ("linear", Linear(C=1.0))):
        for seed in (0, 1):
            chosen = draw(per_class(4, seed), images).positions
            train = replace(
                embedder.train,
                features=embedder.train.features[chosen],
                labels_or_none=embedder.train.labels[chosen],
            )
            given = GivenSplits(train, embedder.test, _embedded(encoder, images.val))
            assert evaluator(given) == found[name, per_class(4, seed)].test
    counted = [found["own", budget].test for budget in budgets]
    assert [(one["images"].value, one["test"].value) for one in counted] == [
        (60, 30),
        (3, 30),
        (3, 30),
        (12, 30),
        (12, 30),
    ]


def _embedded(encoder: Encoder, images: Images) -> Embeddings:
    return embed(encoder, images, SPEC, Runtime(batch_size=16), num_labels=3, multilabel=False)


def test_one_that_fits_no_labels_may_say_so_and_is_computed_once() -> None:
    free = type("Free", (Elsewhere,), {"fits_labels": False})()
    budgets = [per_class(1), per_class(2)]
    scorer = Scorer(
        {"free": free, "own": Elsewhere()}, data(), SPEC, Runtime(batch_size=16), validation=False, budgets=budgets
    )
    assert list(scorer.asked) == [("free", None), ("own", budgets[0]), ("own", budgets[1])]
    assert (scorer.asked.fits_labels("free"), scorer.asked.fits_labels("own")) == (False, True)
    assert len(dict(scorer.scores(Encoder(), scorer.asked))) == 3
    assert free.calls == [30]


def test_scores_that_runs_share_are_kept_apart_by_budget(tmp_path: Path) -> None:
    budgets = [None, per_class(4, 0), per_class(4, 1)]
    runtime = Runtime(batch_size=16, cache=tmp_path)
    scorer = Scorer({"knn": KNN(k=3)}, data(), SPEC, runtime, validation=False, budgets=budgets)
    first = dict(scorer.scores(Encoder(), scorer.asked, cached=True))
    again = Encoder()
    assert dict(scorer.scores(again, scorer.asked, cached=True)) == first
    assert again.seen == 0
    assert len({str(scored.test) for scored in first.values()}) == 3


def test_data_without_labels_is_left_out_at_every_budget() -> None:
    images = data()
    train = TensorImages(torch.zeros(60, 3, 8, 8, dtype=torch.uint8), None)
    bare = replace(images, train=train, spec=DataSpec("images", 60, 0))
    scorer = Scorer({"knn": KNN(k=3)}, bare, SPEC, Runtime(), validation=False, budgets=[per_class(1)])
    found = dict(scorer.scores(Encoder(), scorer.asked))
    assert "labels" in str(found["knn", per_class(1)].skipped)
