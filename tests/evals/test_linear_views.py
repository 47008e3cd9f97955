"""The probe that is fitted on views too: against the plain probe on what it should have been given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dinodiet.data.images import TensorImages
from dinodiet.data.views import SingleView
from dinodiet.data.views.viewed import ViewedImages
from dinodiet.evals.linear import Linear
from dinodiet.evals.linear_views import LinearOnViews
from dinodiet.evals.splits import Embedder, GivenSplits, LazyEncoderSplits
from dinodiet.types import Data, DataSpec, Embeddings, InputSpec, Runtime

SPEC = InputSpec(size=8, mean=(0.5,) * 3, std=(0.5,) * 3, crop_fraction=0.9)


class Encoder(nn.Module):
    """Mean, deviation and corner of the pixels of each channel; counts the images."""

    seen = 0

    def forward(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        return torch.cat([images.mean((2, 3)), images.std((2, 3)), images[..., 0, 0]], dim=1)


def split(count: int, seed: int) -> TensorImages:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    pixels = torch.randint(200, (count, 3, 12, 12), generator=generator) + 25 * labels[:, None, None, None]
    return TensorImages(pixels.to(torch.uint8), labels)


def splits(reported: str = "test", cache: Path | None = None) -> LazyEncoderSplits:
    train = split(45, 0)
    data = Data(DataSpec("images", 45, 3), train, train, split(30, 1), split(30, 2))
    key = None if cache is None else "frozen"
    return LazyEncoderSplits(Embedder(Encoder(), data, SPEC, Runtime(cache=cache), key), reported)


@pytest.mark.slow
def test_it_is_fitted_on_each_image_and_its_views() -> None:
    given = splits()
    view = SingleView(SPEC, strength=1)
    views = [given.embed(ViewedImages(given.train_images, view, seed=3, number=number)) for number in range(2)]
    assert given.val is not None
    features = torch.cat([part.features for part in (given.train, *views)])
    joined = Embeddings(features, given.train.labels.repeat(3), 3)
    expected = Linear()(GivenSplits(joined, given.test, given.val))
    found = LinearOnViews(train_views=2, seed=3)(splits())
    assert {**found, "train_accuracy": None} == {**expected, "train_accuracy": None}
    assert found != LinearOnViews(train_views=2, seed=4)(splits())
    assert LinearOnViews(train_views=0)(splits()) == Linear()(given)


def test_no_view_of_an_image_that_chooses_is_fitted_on(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[tuple[int, int]] = []
    choose = Linear.choose

    def noted(self: Linear, train: Embeddings, held_out: Embeddings, device: torch.device) -> object:
        sizes.append((len(train), len(held_out)))
        assert not (train.features[:, None] == held_out.features[None]).all(-1).any()
        return choose(self, train, held_out, device)

    monkeypatch.setattr(Linear, "choose", noted)
    LinearOnViews(train_views=2)(splits("val"))
    assert sizes == [(3 * 36, 9)]


def test_views_of_a_frozen_encoder_are_embedded_once(tmp_path: Path) -> None:
    first, again = splits(cache=tmp_path), splits(cache=tmp_path)
    assert LinearOnViews()(first) == LinearOnViews()(again)
    assert isinstance(first.encoder, Encoder) and isinstance(again.encoder, Encoder)
    assert first.encoder.seen == 45 + 45 + 30 + 30 and again.encoder.seen == 0


def test_of_a_budget_of_labels_no_image_beyond_it_is_unseen() -> None:
    whole, part = splits(), torch.arange(9)
    train, others = whole.embedder.data.train, split(20, 5)
    for unseen, count, budgeted in ((None, None, None), (train, 45, 9), (others, 20, None)):
        embedder = replace(whole.embedder, data=replace(whole.embedder.data, unseen=unseen))
        for positions, expected in ((None, count), (part, budgeted)):
            found = LazyEncoderSplits(embedder, "test", positions=positions).unseen
            assert (None if found is None else len(found)) == expected


def test_a_view_is_of_the_draw_its_number_and_its_place_alone() -> None:
    images, view = split(6, 0), SingleView(SPEC, strength=1)
    viewed = ViewedImages(images, view, seed=0, number=0)
    assert viewed[4].shape == (3, 8, 8) and viewed[4].dtype == torch.uint8 and torch.equal(viewed[4], viewed[4])
    same = TensorImages(images.images[:1].expand(2, -1, -1, -1))
    assert not torch.equal(*(ViewedImages(same, view, seed=0, number=0)[i] for i in range(2)))
    others = [ViewedImages(images, view, seed=1, number=0), ViewedImages(images, view, seed=0, number=1)]
    others += [ViewedImages(images, SingleView(replace(SPEC, size=7), strength=1), seed=0, number=0)]
    assert len({one.fingerprint() for one in [viewed, *others]}) == 4
    assert not any(torch.equal(viewed[4], one[4]) for one in others)
