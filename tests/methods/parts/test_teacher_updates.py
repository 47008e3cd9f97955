import itertools
from typing import Any

import pytest
import torch
from torch import nn

from dinodiet.errors import UserError
from dinodiet.methods.parts.teacher import Teacher
from dinodiet.types import Clock
from tests.small import SPEC


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def trained(steps: int, steps_per_epoch: int, **settings: Any) -> list[tuple[list[torch.Tensor], list[torch.Tensor]]]:
    """Return teacher's and student's parameters after each step of a student that changes in every one."""
    backbone, head = network(), nn.Linear(4, 2)
    teacher, found = Teacher(backbone, head, SPEC, **settings), []
    for step in range(steps):
        with torch.no_grad():
            for parameter in itertools.chain(backbone.parameters(), head.parameters()):
                parameter.add_(1.0)
        teacher.follow(backbone, head, Clock(step, steps, steps_per_epoch))
        student = [*backbone.parameters(), *head.parameters()]
        found.append(([p.clone() for p in teacher.parameters()], [p.clone() for p in student]))
    return found


def equal(pair: tuple[list[torch.Tensor], list[torch.Tensor]]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(*pair, strict=True))


@pytest.mark.parametrize("settings", [{"update": "none"}, {"momentum": 1.0}])
def test_a_teacher_that_does_not_follow_stays_as_it_is_bit_for_bit(settings: dict[str, Any]) -> None:
    states = trained(4, 2, **settings)
    assert all(equal((state[0], states[0][0])) for state in states)
    assert not equal(states[0])


def test_with_momentum_0_it_is_the_student_after_every_step() -> None:
    assert all(equal(state) for state in trained(3, 2, momentum=0.0))


@pytest.mark.parametrize(("every", "copied"), [(1, {1, 3, 5, 7, 9, 11}), (2, {3, 7, 11}), (3, {5, 11})])
def test_by_epoch_it_is_a_copy_of_the_student_after_every_nth_and_stays_so(every: int, copied: set[int]) -> None:
    states = trained(12, 2, update="epoch", every_epochs=every)
    assert {step for step, state in enumerate(states) if equal(state)} == copied


def test_the_student_s_running_statistics_are_followed_by_the_momentum() -> None:
    backbone, head = network(), nn.Linear(4, 2)
    teacher = Teacher(backbone, head, SPEC, momentum=0.75, mode="eval", batchnorm="student")
    norm, own = backbone[1], teacher.backbone.get_submodule("1")
    assert isinstance(norm, nn.BatchNorm1d)
    assert isinstance(own, nn.BatchNorm1d)
    assert norm.running_var is not None
    norm.running_var.fill_(5.0)
    teacher.follow(backbone, head, Clock(0, 10, 5))
    torch.testing.assert_close(own.running_var, torch.full((4,), 0.75 * 1 + 0.25 * 5))


def test_a_teacher_in_evaluation_mode_stays_in_it_and_keeps_its_statistics() -> None:
    backbone, head = network(), nn.Linear(4, 2)
    still, moving = (Teacher(backbone, head, SPEC, mode=mode) for mode in ("eval", "train"))  # type: ignore[arg-type]
    for teacher in (still, moving):
        teacher.train()
        teacher.backbone(torch.randn(8, 3))
    assert not any(module.training for module in still.modules())
    assert not still.backbone.get_buffer("1.running_mean").any()
    assert moving.backbone.get_buffer("1.running_mean").any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"update": "none", "momentum": 0.9}, "teacher.momentum: is of teacher.update=ema, which is none"),
        ({"every_epochs": 2}, "teacher.every_epochs: 2 is of teacher.update=epoch, which is ema"),
        ({"batchnorm": "student"}, "teacher.batchnorm: student needs teacher.mode=eval"),
        ({"batchnorm": "student", "mode": "eval", "update": "none"}, "student follows the student, and .* is none"),
    ],
)
def test_settings_that_exclude_each_other_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Teacher(network(), nn.Linear(4, 2), SPEC, **settings)
