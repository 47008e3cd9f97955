from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dinodiet.methods.diet import DIET
from dinodiet.methods.parts import class_chunks, cross_entropy
from dinodiet.schedules import Staged
from dinodiet.types import Batch, Clock, DataSpec
from tests.methods import assemble
from tests.small import Encoder, Plain

SPEC = DataSpec(name="toy", num_images=12, num_labels=3)
CLOCK = Clock(50, 100, 10)  # past the head-only part


def diet(spec: DataSpec = SPEC, **settings: Any) -> DIET:
    torch.manual_seed(0)
    return assemble.diet(Encoder(), spec, **{"views": Plain, "trainable": "all", **settings})


def batch(multilabel: bool = False) -> Batch:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(256, (6, 3, 4, 4), generator=generator, dtype=torch.uint8)
    index = torch.tensor([3, 0, 7, 11, 5, 2])
    label = torch.randint(2, (6, 3), generator=generator) if multilabel else index % 3
    return Batch(images, label, index)


def test_the_loss_is_smoothed_cross_entropy_of_the_normalised_embedding() -> None:
    method = diet(loss__label_smoothing=0.2, head__logit_scale=10.0)
    found = method(batch(), CLOCK)
    images = batch().images
    assert isinstance(images, Tensor)
    z = method.backbone(images.float() / 255)
    logits = 10 * (z / z.norm(dim=1, keepdim=True)) @ method.head.linear.weight.T
    target = F.one_hot(batch().index, 12) * 0.8 + 0.2 / 12
    expected = -(target * logits.log_softmax(1)).sum(1).mean()
    assert found["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert "head.linear.bias" not in dict(method.named_parameters())
    assert method.head.linear.out_features == SPEC.num_images


def test_the_dual_head_weighs_by_stage() -> None:
    method = diet(probe__weight=Staged([0.4, 0.6, 0.8]))
    for step, weight in ((10, 0.4), (50, 0.6), (90, 0.8)):
        found = method(batch(), replace(CLOCK, step=step))
        mixed = (1 - weight) * found["diet_loss"] + weight * found["probe_loss"]
        assert found["loss"].item() == pytest.approx(mixed.item(), rel=1e-5)


def test_the_probe_of_a_multilabel_set_is_binary_cross_entropy() -> None:
    method = diet(replace(SPEC, multilabel=True), probe__weight=0.5)
    data = batch(multilabel=True)
    images, label = data.images, data.label
    assert isinstance(images, Tensor)
    assert label is not None
    assert method.probe is not None
    expected = F.binary_cross_entropy_with_logits(method.probe(method.backbone(images.float() / 255)), label.float())
    assert method(data, CLOCK)["probe_loss"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_probe_is_a_classifier_to_score() -> None:
    images = torch.rand(2, 3, 4, 4)
    assert diet().logits(images) is None
    method = diet(probe__weight=0.5).eval()
    assert method.probe is not None
    found = method.logits(images)
    assert found is not None
    assert torch.equal(found, method.probe(method.encoder(images)))
    assert found.shape == (2, SPEC.num_labels)


def gradients(method: DIET, clock: Clock) -> set[str]:
    method.train()
    method(batch(), clock)["loss"].backward()
    return {name for name, parameter in method.named_parameters() if parameter.grad is not None}


def test_the_backbone_waits_while_the_head_warms_up() -> None:
    method = diet(head__warmup_fraction=0.1)
    assert gradients(method, replace(CLOCK, step=9)) == {"head.linear.weight"}
    assert not method.backbone.training
    assert "backbone.conv.weight" in gradients(method, replace(CLOCK, step=10))
    assert method.backbone.training


def test_the_projector_lies_between_embedding_and_head() -> None:
    method = diet(head__projection_dim=7)
    assert method.head.linear.in_features == 7
    assert {"head.projector.0.weight", "head.projector.2.weight"} <= gradients(method, CLOCK)


def test_heads_have_their_own_learning_rate_and_every_parameter_is_in_one_group() -> None:
    method = diet(head__lr_scale=10.0, probe__weight=0.5)
    groups = {group.name: group for group in method.param_groups()}
    assert {name: group.lr_scale for name, group in groups.items()} == {
        "backbone_decay": 1.0,
        "backbone_no_decay": 1.0,
        "head_decay": 10.0,
        "head_no_decay": 10.0,
    }
    assert [group.weight_decay_scale for group in groups.values()] == [1.0, 0.0, 1.0, 0.0]
    listed = [id(parameter) for group in groups.values() for parameter in group.params]
    assert sorted(listed) == sorted(id(parameter) for parameter in method.parameters())


def test_mixup_keeps_the_smoothing() -> None:
    settings = [(5.0, 0.5), (0.0, 0.5), (5.0, 0.0)]
    mixed, plain, unsmoothed = (
        diet(mix__mixup_alpha=alpha, loss__label_smoothing=smoothing)(batch(), CLOCK)["loss"]
        for alpha, smoothing in settings
    )
    assert mixed not in (plain, unsmoothed)


@pytest.mark.parametrize("mixup_alpha", [0.0, 5.0])
def test_a_large_head_trains_as_a_small_one(mixup_alpha: float, monkeypatch: pytest.MonkeyPatch) -> None:
    def step() -> tuple[dict[str, Tensor], list[Tensor]]:
        method = diet(mix__mixup_alpha=mixup_alpha, loss__label_smoothing=0.2, head__logit_scale=5.0)
        logs = method(batch(), CLOCK)
        return logs, list(torch.autograd.grad(logs["loss"], list(method.parameters())))

    small = step()
    monkeypatch.setattr(cross_entropy, "LARGE", 0)
    monkeypatch.setattr(class_chunks, "CHUNK", 30)  # five of twelve classes at a time
    torch.testing.assert_close(step(), small, rtol=1e-5, atol=1e-6)


def test_diagnostics_report_the_effective_rank() -> None:
    method = diet()
    assert method.diagnostics() == {}
    method(batch(), CLOCK)
    assert 1 <= method.diagnostics()["effective_rank"] <= 6
