"""iBOT's loss against the published code, and what is trained for it."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dinodiet.errors import UserError
from dinodiet.methods.parts.covering import Covering
from dinodiet.methods.parts.heads import DINOHead
from dinodiet.methods.parts.ibot import IBOT, PatchDistillation
from dinodiet.methods.parts.losses import Distillation
from dinodiet.methods.parts.teacher import Teacher
from dinodiet.types import Clock, TokenLayout
from tests.methods.test_mae import backbone
from tests.places import REFERENCES
from tests.small import SPEC

REFERENCE = np.load(REFERENCES / "dinov2_losses.npz")
CLOCK = Clock(0, 100, 10)


def array(key: str) -> Tensor:
    return torch.from_numpy(REFERENCE[f"ibot.{key}"])


def covering(mask: Tensor) -> Covering:
    counts = mask.sum(1, keepdim=True).clamp(min=1).expand_as(mask)
    return Covering(mask, mask.flatten().nonzero().flatten(), 1 / counts[mask].float())


def distillation(centring: Any = "mean") -> PatchDistillation:
    return PatchDistillation(Distillation(16, SPEC, teacher_temp=0.07, centring=centring), 16)


@pytest.mark.parametrize(("centring", "key"), [("mean", "masked"), ("sinkhorn", "sinkhorn")])
def test_losses_and_gradients_are_the_published_ones(centring: str, key: str) -> None:
    found = covering(array("mask"))
    np.testing.assert_array_equal(found.index, REFERENCE["ibot.masked_indices"])
    np.testing.assert_allclose(found.share, REFERENCE["ibot.masks_weight"])
    student = array("student").requires_grad_()
    rows, targets = (part.flatten(0, 1)[found.index] for part in (student, array("teacher")))
    logs = distillation(centring)(rows, targets, found.share, 3, CLOCK)
    torch.autograd.backward(logs["ibot"])
    assert logs["ibot"].item() == pytest.approx(float(REFERENCE[f"ibot.loss_{key}"]), rel=1e-6)
    assert student.grad is not None
    np.testing.assert_allclose(student.grad, REFERENCE[f"ibot.grad_{key}"], rtol=1e-5, atol=1e-6)


def test_the_centre_is_the_published_one_and_acts_from_the_next_step_on() -> None:
    loss, rows = distillation(), array("teacher").flatten(0, 1)
    loss(rows, rows, torch.ones(27), 3, CLOCK)
    loss.update_center(Clock(0, 1, 1))
    np.testing.assert_allclose(loss.center, REFERENCE["ibot.center_after"][0], rtol=1e-5, atol=1e-7)
    found = loss.targets(rows, CLOCK)
    np.testing.assert_allclose(found.view(3, 9, 16), REFERENCE["ibot.centered_probabilities"], rtol=1e-5, atol=1e-7)


def ibot(trainable: bool = True, width: int = 24, **settings: Any) -> IBOT:
    torch.manual_seed(0)
    network, layout = backbone().requires_grad_(trainable), TokenLayout(width, True, 2, 1, 8)
    head = partial(DINOHead, spec=SPEC, out_dim=16, hidden_dims=[8], bottleneck_dim=4, freeze_steps=1)
    return IBOT(network, head, Distillation(16, SPEC, teacher_temp=0.04), layout, **settings)


def test_the_token_is_trained_where_the_whole_backbone_is() -> None:
    assert ibot().token.requires_grad
    assert not ibot(trainable=False).token.requires_grad
    assert not ibot().token.any()


def test_uniform_predictions_are_worth_the_guess() -> None:
    term, found = ibot(covered_views=0.7), None
    assert term.guessing() == {}
    found = term.draw(4, (4, 4), CLOCK)
    heads = torch.nn.Linear(24, 16), torch.nn.Linear(24, 16)
    torch.nn.init.zeros_(heads[0].weight), torch.nn.init.zeros_(heads[0].bias)
    logs = term(torch.randn(4, 16, 24), torch.randn(4, 16, 24), found, heads, CLOCK)
    assert term.guessing() == {"ibot": pytest.approx(logs["ibot"].item(), rel=1e-5)}
    assert term.guessing()["ibot"] == pytest.approx(0.5 * math.log(16))  # 2 of 4 views: 0.7 of them, rounded down


def test_a_head_of_its_own_waits_at_first_and_has_a_teacher() -> None:
    term = ibot(own_head=True)
    own, slow = term.head, term.teacher_head
    assert isinstance(own, DINOHead) and isinstance(slow, DINOHead)
    tokens = torch.randn(2, 16, 24)
    logs = term(tokens, tokens, term.draw(2, (4, 4), CLOCK), (torch.nn.Identity(), torch.nn.Identity()), CLOCK)
    torch.autograd.backward(logs["ibot"])
    term.before_step(CLOCK)
    assert own.last_layer.weight_v.grad is None
    assert all(parameter.grad is None for parameter in slow.parameters())
    before = first(slow).weight.clone()
    with torch.no_grad():
        first(own).weight.add_(1)
    teacher = Teacher(torch.nn.Identity(), torch.nn.Identity(), SPEC, momentum=0.75)
    term.after_step(teacher, CLOCK)
    torch.testing.assert_close(first(slow).weight, before + 0.25)
    assert term.loss.center.any()


def first(head: DINOHead) -> torch.nn.Linear:
    layer = head.mlp[0]
    assert isinstance(layer, torch.nn.Linear)
    return layer


def test_one_head_cannot_take_two_widths() -> None:
    with pytest.raises(UserError, match=r"^own_head: false, .*24 numbers, patches 32"):
        ibot(width=32)
    assert ibot(width=32, own_head=True).token.shape == (32,)
