"""Supervised training: its head, its loss, and which parts it trains."""

import functools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from dinodiet.data.views.views import SingleView
from dinodiet.errors import UserError
from dinodiet.methods.parts.classifier import Classifier, label_loss
from dinodiet.methods.parts.losses import CrossEntropy
from dinodiet.methods.parts.mix import Mix, Mixed
from dinodiet.methods.supervised import Supervised
from dinodiet.types import Batch, Clock, DataSpec
from tests.small import Encoder

SPEC = DataSpec("test", num_images=100, num_labels=3)
CLOCK = Clock(50, 100, 10)
IMAGES = torch.randint(256, (6, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
PLAIN = Mixed(torch.empty(0), torch.arange(6), 1.0)


def supervised(spec: DataSpec = SPEC, **settings: Any) -> Supervised:
    torch.manual_seed(0)
    return Supervised(Encoder(), spec, views=functools.partial(SingleView, strength=0), **settings)


def batch(label: torch.Tensor) -> Batch:
    return Batch(IMAGES, label, torch.arange(6))


def test_the_loss_is_the_cross_entropy_of_the_logits() -> None:
    method, label = supervised(loss=CrossEntropy(label_smoothing=0.1)).eval(), torch.tensor([0, 1, 2, 0, 1, 2])
    logs = method(batch(label), CLOCK)
    logits = method.logits(IMAGES.float() / 255)
    assert logs["loss"].item() == pytest.approx(F.cross_entropy(logits, label, label_smoothing=0.1).item(), rel=1e-5)
    assert logs["train_accuracy"].item() == pytest.approx((logits.argmax(1) == label).float().mean().item())


def test_several_labels_have_the_binary_cross_entropy() -> None:
    spec = replace(SPEC, multilabel=True)
    method, label = supervised(spec).eval(), torch.tensor([[0, 1, 1], [1, 0, 0]] * 3)
    logs = method(batch(label), CLOCK)
    expected = F.binary_cross_entropy_with_logits(method.logits(IMAGES.float() / 255), label.float())
    assert logs.keys() == {"loss"}
    assert logs["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert method.guessing() == {"loss": math.log(2)}


def test_mixed_images_have_mixed_labels() -> None:
    logits, label = torch.randn(6, 3, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 2, 0, 1, 2])
    mixed = Mixed(torch.empty(0), torch.tensor([1, 2, 3, 4, 5, 0]), 0.75)
    targets = 0.75 * F.one_hot(label, 3) + 0.25 * F.one_hot(label[mixed.partner], 3)
    found = label_loss(logits, label, mixed, CrossEntropy(label_smoothing=0.0))
    assert found.item() == pytest.approx(F.cross_entropy(logits, targets).item())
    assert supervised(mix=Mix(mixup_alpha=1.0))(batch(label), CLOCK)["loss"].isfinite()


def test_a_head_of_two_layers() -> None:
    head = Classifier(12, SPEC, hidden_dim=5)
    shapes = [tuple(parameter.shape) for parameter in head.parameters()]
    assert shapes == [(5, 12), (5,), (3, 5), (3,)]
    embeddings = torch.randn(4, 12, generator=torch.Generator().manual_seed(2))
    first, _, last = head.layers
    assert head(embeddings).equal(last(F.relu(first(embeddings))))


def test_a_frozen_backbone_gets_no_gradients() -> None:
    for trainable, moved in (("head_only", False), ("all", True)):
        method = supervised(trainable=trainable).train()
        torch.autograd.backward(method(batch(torch.zeros(6, dtype=torch.int64)), CLOCK)["loss"])
        assert {p.grad is not None for p in method.backbone.parameters()} == {moved}
        assert all(p.grad is not None for name, p in method.named_parameters() if name.startswith("head."))
        assert [group.name.split("_")[0] for group in method.param_groups()][-1] == "head"


def test_images_without_labels_are_refused() -> None:
    with pytest.raises(UserError, match="needs labels, and test has none"):
        supervised(replace(SPEC, num_labels=0))


def test_it_trains_on_the_labelled_split() -> None:
    assert supervised().split == "train"
