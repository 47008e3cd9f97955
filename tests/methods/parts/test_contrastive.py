"""NT-Xent against values by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dinodiet.methods.parts.contrastive import NTXent
from dinodiet.types import Clock

CLOCK = Clock(0, 10, 10)


def loss(one: Tensor, other: Tensor, index: Tensor | None = None, temperature: float = 0.5) -> float:
    images = torch.arange(len(one)) if index is None else index
    return NTXent(temperature=temperature)(torch.stack([one, other]), images, CLOCK)["loss"].item()


@pytest.mark.parametrize(("number", "expected"), [(2, 0.239545), (4, 0.594438)])
def test_orthonormal_images_with_equal_views(number: int, expected: float) -> None:
    rows = torch.eye(number)
    assert loss(rows, rows) == pytest.approx(expected, abs=1e-6)
    assert loss(3 * rows, rows / 7) == pytest.approx(expected, abs=1e-6)


def test_exchanged_pairs() -> None:
    assert loss(torch.eye(2), torch.eye(2).flip(0)) == pytest.approx(2.239545, abs=1e-6)


@pytest.mark.parametrize("number", [4, 256])
def test_all_rows_equal_is_guessing(number: int) -> None:
    rows = torch.ones(number, 3)
    assert loss(rows, rows) == pytest.approx(math.log(2 * number - 1), rel=1e-6)
    assert NTXent().guessing(number) == pytest.approx(math.log(2 * number - 1))


def test_it_is_the_cross_entropy_of_the_definition() -> None:
    one, other = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0)).double().unbind()
    rows = F.normalize(torch.cat([one, other]), dim=1)
    logits = (rows @ rows.T / 0.2).fill_diagonal_(-math.inf)
    expected = F.cross_entropy(logits, (torch.arange(10) + 5) % 10).item()
    assert loss(one, other, temperature=0.2) == pytest.approx(expected, rel=1e-5)


def test_views_of_one_image_are_not_each_others_negatives() -> None:
    one, other = torch.randn(2, 4, 7, generator=torch.Generator().manual_seed(0)).unbind()
    twice = loss(one, other, torch.tensor([0, 1, 2, 0]))
    assert twice < loss(one, other)
    rows = F.normalize(torch.cat([one, other]), dim=1)
    logits = (rows @ rows.T / 0.5).fill_diagonal_(-math.inf)
    for row, column in [(0, 3), (0, 7), (3, 0), (3, 4), (4, 3), (4, 7), (7, 0), (7, 4)]:
        logits[row, column] = -math.inf
    assert twice == pytest.approx(F.cross_entropy(logits, (torch.arange(8) + 4) % 8).item(), rel=1e-5)


def test_one_image_alone_has_no_negatives() -> None:
    rows = torch.randn(1, 3).requires_grad_()
    found = NTXent()(torch.stack([rows, -rows]), torch.zeros(1, dtype=torch.int64), CLOCK)["loss"]
    torch.autograd.backward(found)
    assert found.item() == 0
    assert rows.grad is not None
    assert rows.grad.isfinite().all()


def test_half_precision_changes_nothing() -> None:
    one, other = torch.randn(2, 6, 7, generator=torch.Generator().manual_seed(0)).unbind()
    expected = loss(one, other)
    with torch.autocast("cpu", torch.bfloat16):
        assert loss(one, other) == expected
