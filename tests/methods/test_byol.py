"""BYOL: its loss, who sees what, and what shows that it collapses."""

import functools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dinodiet.data.views import MultiCrop
from dinodiet.errors import UserError
from dinodiet.methods.byol import BYOL
from dinodiet.methods.parts.projector import Projector
from dinodiet.methods.parts.teacher import Teacher
from dinodiet.types import Clock
from tests.places import REFERENCES
from tests.small import SPEC, Encoder, FixedViews, batch

CLOCK = Clock(50, 100, 10)
PAIR = functools.partial(FixedViews, local=0)


def byol(views: Any = PAIR, **settings: Any) -> BYOL:
    torch.manual_seed(0)
    small = functools.partial(Projector, hidden_dims=[8], out_dim=6)
    teacher = functools.partial(Teacher, momentum=0.5)
    return BYOL(
        Encoder(),
        SPEC,
        views=views,
        head=small,
        predictor=functools.partial(Projector, hidden_dims=[8]),
        teacher=teacher,
        **settings,
    )


class Given(nn.Module):
    """Stands for a network that makes these rows of everything."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.rows = rows

    def forward(self, _: Tensor) -> Tensor:
        return self.rows


@pytest.mark.parametrize(("factor", "loss"), [(2.0, 0.0), (-3.0, 8.0)])
def test_the_loss_is_0_for_equal_directions_and_8_for_opposite_ones(factor: float, loss: float) -> None:
    method, rows = byol(joint=True), torch.randn(4, 6).repeat(2, 1)
    method.predictor, method.teacher.head = Given(rows), Given(factor * rows)  # type: ignore[assignment]
    assert method(batch(), CLOCK)["loss"].item() == pytest.approx(loss, abs=1e-6)


def test_the_loss_of_an_image_is_the_published_one() -> None:
    reference = np.load(REFERENCES / "byol.npz")
    online, target = (torch.from_numpy(reference[name]).repeat(2, 1) for name in ("online", "target"))
    method = byol(joint=True)
    method.predictor, method.teacher.head = Given(online), Given(target)  # type: ignore[assignment]
    logs = method(batch(5), CLOCK)
    assert logs["loss"].item() == pytest.approx(2 * float(reference["loss"]), rel=1e-6)
    assert logs["cosine"].item() == pytest.approx(-float(reference["lightly_negative_cosine"]), rel=1e-6)


def test_a_prediction_is_compared_with_the_other_view() -> None:
    one, other = torch.eye(6)[:4], torch.eye(6)[[1, 2, 3, 0]]
    method = byol(joint=True)
    method.predictor, method.teacher.head = Given(torch.cat([one, other])), Given(torch.cat([other, one]))  # type: ignore[assignment]
    assert method(batch(), CLOCK)["loss"].item() == pytest.approx(0)


def test_the_student_is_evaluated_and_the_teacher_follows_without_gradient() -> None:
    method = byol()
    assert method.encoder is method.backbone
    before = method.teacher.backbone.linear.weight.clone()  # type: ignore[operator,union-attr]
    torch.autograd.backward(method(batch(), CLOCK)["loss"])
    assert all(parameter.grad is None for parameter in method.teacher.parameters())
    with torch.no_grad():
        method.backbone.linear.weight.add_(1.0)  # type: ignore[operator,union-attr]
    method.after_step(CLOCK)
    assert torch.allclose(method.teacher.backbone.linear.weight, before + 0.5)  # type: ignore[arg-type,union-attr]


def test_one_projection_for_all_images_is_shown() -> None:
    method = byol(joint=True)
    assert method.diagnostics() == {}
    method(batch(), CLOCK)
    assert method.diagnostics()["projection_spread"] > 0.2
    for parameter in method.head.parameters():
        parameter.data.zero_()
    method.head[-1].bias.data.fill_(1.0)  # type: ignore[operator]
    method(batch(), CLOCK)
    assert method.diagnostics()["projection_spread"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("crops", ["3", "1", "2+1", "1+1x8"])
def test_other_views_than_two_of_a_size_are_refused(crops: str) -> None:
    with pytest.raises(UserError, match=r"^views: the method compares two views of one size, not \[.+method\.views"):
        byol(functools.partial(MultiCrop, crops=crops))
