"""Resizing as matrix products is F.interpolate, with its gradient; what cannot come out the same is refused by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dinodiet.errors import UserError
from dinodiet.training import deterministic as module
from dinodiet.training.deterministic import deterministic, resized


def resized_by(how: Any, image: Tensor, **arguments: Any) -> tuple[Tensor, Tensor]:
    """Return a resized image and the gradient of a sum over it in which every pixel counts otherwise."""
    image = image.clone().requires_grad_()
    found = how(image, **arguments)
    weights = torch.linspace(1, 2, found.numel(), dtype=found.dtype).view_as(found)
    (gradient,) = torch.autograd.grad((found * weights).sum(), image)
    return found.detach(), gradient


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize(("source", "target"), [((14, 14), (6, 6)), ((7, 5), (9, 3)), ((4, 4), 4), ((1, 3), (2, 2))])
def test_products_resize_as_interpolate_does(mode: str, antialias: bool, source: Any, target: Any) -> None:
    image = torch.rand(2, 3, *source, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    arguments: Any = {"size": target, "mode": mode, "antialias": antialias, "align_corners": False}
    found, expected = (resized_by(how, image, **arguments) for how in (resized, F.interpolate))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_what_has_no_gradient_or_another_form_is_left_to_torch() -> None:
    image = torch.rand(1, 2, 4, 4)
    assert resized(image, 6, mode="bicubic").equal(F.interpolate(image, 6, mode="bicubic"))
    grown = image.requires_grad_()
    assert resized(grown, scale_factor=2).equal(F.interpolate(grown, scale_factor=2))


def test_torch_is_told_inside_and_left_as_it_was() -> None:
    with deterministic(True):
        assert torch.are_deterministic_algorithms_enabled()
        assert F.interpolate is resized
    assert not torch.are_deterministic_algorithms_enabled()
    assert F.interpolate is module._interpolate


def test_nothing_changes_where_it_is_not_wanted() -> None:
    with deterministic(False):
        assert not torch.are_deterministic_algorithms_enabled()
        assert F.interpolate is module._interpolate


def test_an_operation_without_such_a_form_is_named() -> None:
    told = r"^deterministic: true, but put_ does not have a deterministic implementation; set deterministic=false$"
    with pytest.raises(UserError, match=told), deterministic(True):
        torch.zeros(5).put_(torch.tensor([0, 0]), torch.ones(2))  # has none on a CPU either
    assert not torch.are_deterministic_algorithms_enabled()
    with pytest.raises(RuntimeError, match=r"^another$"), deterministic(True):
        raise RuntimeError("another")
