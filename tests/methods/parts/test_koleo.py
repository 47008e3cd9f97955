"""KoLeo against the published code."""

import math

import numpy as np
import pytest
import torch

from dinodiet.methods.parts.koleo import koleo
from tests.places import REFERENCES

REFERENCE = np.load(REFERENCES / "dinov2_losses.npz")


@pytest.mark.parametrize("key", ["koleo.features", "koleo.features_with_near_pair"])
def test_losses_and_gradients_are_the_published_ones(key: str) -> None:
    features = torch.from_numpy(REFERENCE[key]).requires_grad_()
    loss = koleo(features, torch.arange(len(features)))
    torch.autograd.backward(loss)
    assert loss.item() == pytest.approx(float(REFERENCE[f"{key}.loss"]), rel=1e-6)
    assert features.grad is not None
    np.testing.assert_allclose(features.grad, REFERENCE[f"{key}.grad"], rtol=1e-4, atol=1e-6)


def test_an_image_that_is_there_twice_is_not_its_own_neighbour() -> None:
    rows = torch.eye(3)[[0, 0, 1]]
    assert koleo(rows, torch.tensor([5, 5, 7])).item() == pytest.approx(-math.log(math.sqrt(2)), rel=1e-6)
    assert koleo(rows, torch.arange(3)).item() > 10


def test_one_image_alone_has_no_neighbour() -> None:
    rows = torch.randn(2, 3).requires_grad_()
    loss = koleo(rows, torch.zeros(2, dtype=torch.int64))
    torch.autograd.backward(loss)
    assert loss.item() == 0
    assert rows.grad is not None
    assert rows.grad.isfinite().all()
