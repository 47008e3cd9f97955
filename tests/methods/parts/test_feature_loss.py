"""The loss of features: LowDINO's numbers, and what each kind means."""

import math

import numpy as np
import pytest
import torch

from dinodiet.methods.parts.feature_loss import FeatureLoss
from dinodiet.methods.parts.matching import Matching
from dinodiet.types import Clock
from tests.places import REFERENCES

REFERENCE = np.load(REFERENCES / "distill.npz")
CASES = ("student_pooled", "teacher_pooled", "odd")
CLOCK = Clock(0, 10, 5)


def array(name: str) -> torch.Tensor:
    return torch.from_numpy(REFERENCE[name])


@pytest.mark.parametrize("case", CASES)
def test_kl_of_pooled_features_and_its_gradient_are_the_published_ones(case: str) -> None:
    teacher, student = array(f"{case}.teacher"), array(f"{case}.student").requires_grad_()
    match = Matching(student.shape[1], teacher.shape[1])
    ours, theirs = match(student, teacher)
    loss = FeatureLoss(kind="kl", temperature=3.0)(ours, theirs, CLOCK)
    torch.autograd.backward(loss)
    torch.testing.assert_close(loss, array(f"{case}.kl"), atol=1e-6, rtol=0)
    assert student.grad is not None
    torch.testing.assert_close(student.grad, array(f"{case}.grad_student_of_kl"), atol=1e-6, rtol=0)


def test_hand_values_of_kl() -> None:
    teacher, student = torch.tensor([[0.0, 3 * math.log(3)]]), torch.zeros(1, 2)
    kl = FeatureLoss(kind="kl", temperature=3.0)
    assert kl(student, teacher, CLOCK).item() == pytest.approx(0.130812, abs=1e-6)
    assert kl(teacher, teacher, CLOCK).item() == pytest.approx(0, abs=1e-7)
    squared = FeatureLoss(kind="kl", temperature=3.0, t_squared=True)
    assert squared(student, teacher, CLOCK).item() == pytest.approx(9 * 0.130812, abs=1e-5)


def test_cosine_and_mse() -> None:
    student, teacher = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[0.0, 3.0], [0.0, 1.0]])
    assert FeatureLoss(kind="cosine")(student, teacher, CLOCK).item() == pytest.approx(0.5)
    assert FeatureLoss(kind="mse")(student, teacher, CLOCK).item() == pytest.approx((1 + 9 + 0 + 1) / 4)


def test_a_temperature_may_be_a_schedule() -> None:
    teacher, student = torch.tensor([[0.0, 1.0]]), torch.zeros(1, 2)
    falling = FeatureLoss(temperature=lambda clock: 1.0 + clock.step)
    first, later = (falling(student, teacher, CLOCK.at(step)).item() for step in (0, 2))
    assert first == FeatureLoss(temperature=1.0)(student, teacher, CLOCK).item()
    assert later == FeatureLoss(temperature=3.0)(student, teacher, CLOCK).item()
