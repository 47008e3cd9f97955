"""Random erasing: how often, how much, and with what."""

import pytest
import torch

from dinodiet.data.views import Colour, SingleView
from dinodiet.data.views.erasing import draw_erased, erase
from dinodiet.types import InputSpec

SPEC = InputSpec(size=32, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2))
IMAGES = torch.randint(256, (16, 3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_quarter_of_the_views_lose_a_third_at_most() -> None:
    boxes = draw_erased(20_000, 224, 0.25, generator())
    top, left, height, width = boxes.double().T
    erased = height > 0
    assert erased.double().mean().item() == pytest.approx(0.25, abs=0.01)
    area, ratio = (height * width)[erased] / 224**2, (height / width)[erased]
    assert 0.019 < area.min() < 0.021 and 0.32 < area.max() <= 0.333
    assert 0.29 < ratio.min() < 0.31 and 3.2 < ratio.max() < 3.4
    assert ((top >= 0) & (left >= 0) & (top + height <= 224) & (left + width <= 224)).all()
    assert (top + height == 224).any() and (left == 0).any()


def test_what_is_erased_is_0_once_normalised_and_the_rest_is_as_it_was() -> None:
    views = torch.rand(64, 3, 32, 32) + 2
    found = erase(views, 0.5, SPEC.mean, generator())
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (SPEC.mean, SPEC.std))
    gone = ((found - mean) / std == 0).all(1)
    assert torch.equal((found != views).any(1), gone)
    boxes = draw_erased(64, 32, 0.5, generator())
    assert torch.equal(gone.sum((1, 2)), boxes[:, 2] * boxes[:, 3])
    assert gone.any((1, 2)).float().mean().item() == pytest.approx(0.5, abs=0.2)


def test_a_view_without_it_is_the_same_and_told_the_same() -> None:
    """Kept views are found by the text: it has not changed."""
    plain, erasing = SingleView(SPEC, 2), SingleView(SPEC, 2, colour=Colour(erasing=0.5))
    (there,), (here,) = plain(IMAGES, generator()), erasing(IMAGES, generator())
    same = (there == here).all(1).all(1).all(1)
    assert 0 < same.sum() < 16
    assert "erasing" not in repr(plain) and "kernel" not in repr(plain)
    assert repr(erasing) == repr(plain).replace("), draft_side", ", erasing=0.5), draft_side")
    assert SingleView(SPEC, 0).fixed and not SingleView(SPEC, 0, colour=Colour(erasing=0.5)).fixed


@pytest.mark.parametrize("side", [1, 2])
def test_tiny_views_are_left_as_they_are_where_no_box_fits(side: int) -> None:
    assert draw_erased(100, side, 1.0, generator())[:, 2:].max() < max(side, 1)
