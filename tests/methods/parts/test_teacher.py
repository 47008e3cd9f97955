import numpy as np
import torch
from timm.layers.drop import DropPath
from torch import Tensor, nn

from dinodiet.methods.parts.teacher import Teacher, teacher_of, update_ema_
from dinodiet.schedules import Linear
from dinodiet.types import Clock
from tests.places import REFERENCES
from tests.small import SPEC

REFERENCE = np.load(REFERENCES / "ema.npz")


def reference(prefix: str) -> list[Tensor]:
    return [torch.from_numpy(REFERENCE[key]).clone() for key in sorted(REFERENCE.files) if key.startswith(prefix)]


def test_the_teacher_follows_the_student_as_published() -> None:
    teacher = reference("teacher_before.")
    update_ema_(teacher, reference("student_after_step."), float(REFERENCE["momentum"]))
    torch.testing.assert_close(teacher, reference("teacher_after."), rtol=1e-5, atol=1e-7)


def test_what_is_equal_stays_exactly_equal() -> None:
    student = [torch.randn(1000)]
    teacher = [student[0].clone()]
    for momentum in (0.996, 0.3, 1.0):
        update_ema_(teacher, student, momentum)
        assert torch.equal(teacher[0], student[0])


def test_a_teacher_trains_nothing_and_drops_nothing() -> None:
    student = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.9), DropPath(0.9)).train()
    teacher = teacher_of(student)
    images = torch.randn(50, 4)
    assert teacher.training
    torch.testing.assert_close(teacher(images), student[0](images))
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert all(parameter.requires_grad for parameter in student.parameters())
    assert not torch.allclose(student(images), student[0](images))


def test_the_teacher_follows_by_the_momentum_of_the_step() -> None:
    backbone, head = nn.Linear(2, 2), nn.Linear(2, 3)
    teacher = Teacher(backbone, head, SPEC, momentum=Linear(0.0, 1.0, steps=2))
    for module in (backbone, head):
        nn.init.ones_(module.weight)
    teacher.follow(backbone, head, Clock(5, 10, 1))  # 1: it stays
    assert not torch.equal(teacher.head.get_parameter("weight"), head.weight)
    teacher.follow(backbone, head, Clock(0, 10, 1))  # 0: it is the student
    assert torch.equal(teacher.head.get_parameter("weight"), head.weight)
    assert torch.equal(teacher.backbone.get_parameter("weight"), backbone.weight)
