"""Distillation: LowDINO's loss, who is trained, what is seen, and what is refused."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from dinodiet.data.views.views import SingleView
from dinodiet.errors import UserError
from dinodiet.methods.distill import Distill
from dinodiet.methods.parts.classifier import Classifier
from dinodiet.methods.parts.frozen_teacher import FrozenTeacher
from dinodiet.methods.parts.matching import Matching
from dinodiet.methods.parts.mix import Mix
from dinodiet.types import Batch, Clock, DataSpec
from tests.backbones.toy import Toy
from tests.methods.parts.test_feature_loss import CASES, array
from tests.small import Encoder, Plain

SPEC = DataSpec("test", num_images=100, num_labels=3)
CLOCK = Clock(50, 100, 10)
IMAGES = torch.randint(256, (6, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])
BATCH = Batch(IMAGES, LABELS, torch.arange(6))


class Given(Toy):
    """A backbone whose embeddings are given: one row of `features` an image."""

    def __init__(self, features: Tensor) -> None:
        super().__init__(features.shape[1], side=16)
        self.features = torch.nn.Parameter(features.clone())

    def forward(self, images: Tensor) -> Tensor:
        return self.features[: len(images)]


def taught_by(backbone: Any) -> Any:
    return functools.partial(FrozenTeacher, model=lambda spec: backbone)


def distill(spec: DataSpec = SPEC, **settings: Any) -> Distill:
    torch.manual_seed(0)
    chosen = {"views": functools.partial(SingleView, strength=1), "teacher": taught_by(Encoder()), **settings}
    return Distill(Encoder(), spec, **chosen)


@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradients_are_the_published_ones(case: str) -> None:
    teacher, student = Given(array(f"{case}.teacher")), Given(array(f"{case}.student"))
    scale = 1 / 3 if case == "teacher_pooled" else 1.0
    method = Distill(
        student,
        replace(SPEC, num_labels=7),
        views=Plain,
        teacher=taught_by(teacher),
        head=functools.partial(Classifier, input_scale=scale),
        label_weight=1.0,
    )
    assert method.head is not None
    state = {"weight": array(f"{case}.classifier.weight"), "bias": array(f"{case}.classifier.bias")}
    method.head.last.load_state_dict(state)
    logs = method(Batch(IMAGES, array(f"{case}.labels"), torch.arange(6)), CLOCK)
    torch.autograd.backward(logs["loss"])
    found = {"kl": logs["feature_loss"], "ce": logs["label_loss"], "loss": logs["loss"].detach()}
    found |= {"grad_student": student.features.grad, "classifier.grad_weight": method.head.last.weight.grad}
    for name, value in {**found, "classifier.grad_bias": method.head.last.bias.grad}.items():
        torch.testing.assert_close(value, array(f"{case}.{name}"), atol=1e-6, rtol=1e-6, msg=name)
    assert teacher.features.grad is None


def test_steps_leave_the_teacher_as_it_was_to_the_last_bit() -> None:
    teacher = Encoder()
    method = distill(teacher=taught_by(teacher), label_weight=1.0).train()
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    optimizer = torch.optim.SGD([p for group in method.param_groups() for p in group.params], lr=0.5)
    student = [parameter.clone() for parameter in method.backbone.parameters()]
    for step in range(3):
        optimizer.zero_grad()
        torch.autograd.backward(method(BATCH, CLOCK.at(step))["loss"])
        optimizer.step()
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())
    assert not any(map(torch.equal, student, method.backbone.parameters()))
    assert not any(name.startswith("teacher") for name in method.state_dict())


def test_without_labels_it_sees_the_pretext_split_and_needs_none() -> None:
    method = distill(replace(SPEC, num_labels=0))
    logs = method(Batch(IMAGES, None, torch.arange(6)), CLOCK)
    assert logs.keys() == {"loss", "feature_loss"}
    assert method.split == "pretext" and method.head is None
    assert method.logits(IMAGES.float() / 255) is None and method.guessing() == {}


def test_with_labels_it_sees_train_and_its_classifier_is_scored() -> None:
    method = distill(label_weight=0.5)
    logs = method(BATCH, CLOCK)
    assert logs["loss"].item() == pytest.approx(logs["feature_loss"].item() + 0.5 * logs["label_loss"].item())
    assert method.split == "train" and "train_accuracy" in logs
    logits = method.logits(IMAGES.float() / 255)
    assert logits is not None and logits.shape == (6, 3)
    with pytest.raises(UserError, match="label_weight: 1, but test has no labels; set it to 0"):
        distill(replace(SPEC, num_labels=0), label_weight=1.0)


def test_teacher_and_student_see_the_same_mixed_view() -> None:
    seen: list[Tensor] = []
    method = distill(mix=Mix(mixup_alpha=1.0))
    for tower in method.towers():
        tower.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    method(BATCH, CLOCK)
    teachers, students = seen
    assert torch.equal(teachers, students)
    assert not torch.equal(students, method.views(IMAGES, CLOCK.generator("views"))[0])


def test_known_features_are_used_where_views_are_fixed_alone() -> None:
    fixed = functools.partial(SingleView, strength=0)
    assert distill(views=fixed).known is not None
    assert distill().known is None
    assert distill(views=fixed, mix=Mix(cutmix_alpha=1.0)).known is None


def test_a_classifier_and_a_map_have_their_own_rate() -> None:
    head, match = functools.partial(Classifier, lr_scale=2.0), functools.partial(Matching, kind="linear")
    method = distill(head=head, match=match, label_weight=1.0)
    scales = {group.name: (group.lr_scale, len(group.params)) for group in method.param_groups()}
    assert scales["head_decay"] == (2.0, 2) and scales["head_no_decay"] == (2.0, 1)
    assert {scale for name, (scale, _) in scales.items() if name.startswith("backbone")} == {1.0}
