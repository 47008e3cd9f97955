"""Distillation of logits: Hinton's loss, whose classifier teaches, and what is refused."""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from dinodiet.backbones import timm_backbone
from dinodiet.backbones.weights.packaged import packaged_file, to_timm
from dinodiet.data.views.views import SingleView
from dinodiet.errors import UserError
from dinodiet.methods.distill_logits import DistillLogits
from dinodiet.methods.parts.classifier import Classifier
from dinodiet.methods.parts.feature_loss import FeatureLoss
from dinodiet.methods.parts.frozen_teacher import ClassifyingTeacher
from dinodiet.types import Batch, Clock, DataSpec
from tests.methods.test_distill import Given
from tests.small import Encoder, Plain

SPEC = DataSpec("test", num_images=100, num_labels=2)
CLOCK = Clock(50, 100, 10)
IMAGES = torch.zeros(2, 3, 16, 16, dtype=torch.uint8)
BATCH = Batch(IMAGES, torch.tensor([1, 0]), torch.arange(2))


class Knowing(Given):
    """A backbone whose embeddings are given, and are its logits."""

    def classifier(self) -> nn.Module:
        layer = nn.Linear(self.embed_dim, self.embed_dim, bias=False)
        layer.weight.data = torch.eye(self.embed_dim)
        return layer


def taught_by(backbone: Any) -> Any:
    return functools.partial(ClassifyingTeacher, model=lambda spec: backbone)


def distill(student: Tensor, teacher: Tensor, spec: DataSpec = SPEC, **settings: Any) -> DistillLogits:
    """Return a method whose student's logits are its embeddings."""
    known = taught_by(Knowing(teacher))
    method = DistillLogits(Given(student), spec, views=Plain, teacher=known, **settings)
    method.head.last.load_state_dict({"weight": torch.eye(student.shape[1]), "bias": torch.zeros(student.shape[1])})
    return method


def test_hand_values_of_the_loss_and_its_gradient() -> None:
    """Teacher (1/4, 3/4) at T = 3: KL 0.130812 times 9; gradient T (softmax(s / T) - softmax(t / T)) / images."""
    teacher = torch.tensor([[0.0, 3 * math.log(3)]] * 2)
    method = distill(torch.zeros(2, 2), teacher, loss=FeatureLoss(temperature=3.0, t_squared=True))
    logs = method(BATCH, CLOCK)
    assert logs["loss"].item() == pytest.approx(9 * 0.130812, abs=1e-5)
    torch.autograd.backward(logs["loss"])
    expected = torch.tensor([[3 * (0.5 - 0.25) / 2, 3 * (0.5 - 0.75) / 2]] * 2)
    torch.testing.assert_close(method.backbone.features.grad, expected, atol=1e-6, rtol=0)
    assert not any(name.startswith("teacher") for name in method.state_dict())


def test_labels_are_learned_by_the_same_classifier() -> None:
    student, teacher = torch.tensor([[2.0, 0.0], [1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    method = distill(student, teacher, label_weight=0.5)
    logs = method(BATCH, CLOCK)
    labelled = (math.log(1 + math.exp(2)) + math.log(1 + math.exp(-1))) / 2
    assert logs["label_loss"].item() == pytest.approx(labelled, abs=1e-6)
    assert logs["loss"].item() == pytest.approx(logs["logit_loss"].item() + 0.5 * labelled, abs=1e-6)
    assert (logs["agreement"].item(), logs["train_accuracy"].item()) == (0.5, 0.5)
    assert method.split == "train" and method.guessing() == {"label_loss": pytest.approx(math.log(2))}


def test_without_labels_it_needs_none_and_is_scored_where_classes_are_the_labels() -> None:
    rows = torch.eye(2)
    assert distill(rows, rows).logits(IMAGES.float()) is not None
    for spec in (replace(SPEC, num_labels=0), replace(SPEC, num_labels=3), replace(SPEC, multilabel=True)):
        method = distill(rows, rows, spec)
        assert method(Batch(IMAGES, None, torch.arange(2)), CLOCK)["loss"].item() == pytest.approx(0, abs=1e-6)
        assert method.split == "pretext" and method.logits(IMAGES.float()) is None


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        (replace(SPEC, num_labels=3), "3 classes"),
        (replace(SPEC, num_labels=0), "no labels"),
        (replace(SPEC, multilabel=True), "2 labels, several an image"),
    ],
)
def test_labels_of_other_classes_are_refused(spec: DataSpec, found: str) -> None:
    told = f"label_weight: 1, but the teacher tells 2 classes apart, and test has {found}; set it to 0"
    with pytest.raises(UserError, match=told):
        distill(torch.eye(2), torch.eye(2), spec, label_weight=1.0)


def test_a_teacher_without_a_classifier_is_refused() -> None:
    with pytest.raises(UserError, match=r"^teacher.model: Encoder has no classifier; choose a model of timm"):
        DistillLogits(Encoder(), SPEC, views=Plain, teacher=taught_by(Encoder()))


def test_published_weights_teach_what_timm_says_of_an_image() -> None:
    model = functools.partial(
        timm_backbone, size="a", names={"a": "tf_efficientnet_lite0.in1k"}, feature="pooled", weights="package"
    )
    teacher = ClassifyingTeacher(replace(SPEC, image_size=64), model=model)
    whole = timm.create_model("tf_efficientnet_lite0").eval()
    whole.load_state_dict(to_timm(torch.load(packaged_file("tf_efficientnet_lite0"), weights_only=True)), strict=False)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    found = teacher.logits(teacher.backbone(images))
    assert teacher.classes == 1000
    torch.testing.assert_close(found, whole(teacher.backbone.normalize(images)), atol=1e-4, rtol=1e-4)  # type: ignore


def test_a_file_of_timm_teaches_by_the_feature_that_its_classifier_takes(tmp_path: Path) -> None:
    args: dict[str, Any] = {"depth": 2, "embed_dim": 24, "num_heads": 2}
    torch.manual_seed(0)
    whole = timm.create_model("vit_tiny_patch16_224", img_size=32, **args).eval()
    save_file(whole.state_dict(), tmp_path / "whole.safetensors")
    headless = {name: tensor for name, tensor in whole.state_dict().items() if not name.startswith("head.")}
    save_file(headless, tmp_path / "headless.safetensors")

    def teacher(feature: Any, file: str) -> ClassifyingTeacher:
        return ClassifyingTeacher(
            SPEC,
            model=lambda spec: timm_backbone(
                spec,
                size="a",
                names={"a": "vit_tiny_patch16_224"},
                feature=feature,
                weights=str(tmp_path / file),
                image_size=32,
                model_args=args,
            ),
        )

    known = teacher("cls", "whole.safetensors")
    images = torch.rand(2, 3, 32, 32)
    normalised = known.backbone.normalize(images)  # type: ignore[operator]
    torch.testing.assert_close(known.logits(known.backbone(images)), whole(normalised), atol=1e-5, rtol=1e-5)
    with pytest.raises(UserError, match=r"^teacher.model.feature: mean_patch, but the classifier of vit_tiny"):
        teacher("mean_patch", "whole.safetensors")
    with pytest.raises(UserError, match=r"^teacher.model.weights: .*headless.safetensors has no classifier of vit"):
        teacher("cls", "headless.safetensors")


def test_known_features_give_the_logits_of_fixed_views() -> None:
    fixed = functools.partial(SingleView, strength=0)
    method = DistillLogits(Encoder(), SPEC, views=fixed, teacher=taught_by(Knowing(torch.eye(2))), head=Classifier)
    assert method.known is not None
    assert method.assume_cached() == [method.teacher.backbone]
    assert method.taught(BATCH, IMAGES.float(), CLOCK).shape == (2, 2)
