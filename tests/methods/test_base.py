import pytest
import torch
from torch import nn

from dinodiet.errors import UserError
from dinodiet.methods.base import MethodBase
from dinodiet.types import Clock
from tests.small import Encoder

IMAGES = torch.randn(4, 3, 16, 16)


def test_the_backbone_waits_for_its_part_of_the_training_and_then_trains() -> None:
    method = MethodBase(Encoder(), warmup_fraction=0.25).train()
    clock = Clock(0, 8, 4)
    mean = method.state_dict()["backbone.norm.running_mean"]
    for step, waits in enumerate([True, True, False, False]):
        before = mean.clone()
        embeddings = method.embed(IMAGES, clock.at(step))
        assert method.backbone_waits(clock.at(step)) is waits
        assert embeddings.requires_grad is not waits
        assert torch.equal(mean, before) is waits


def test_the_waiting_backbone_is_in_evaluation_mode_after_an_evaluation_too() -> None:
    method = MethodBase(Encoder(), warmup_fraction=0.5)
    method.embed(IMAGES, Clock(0, 8, 4))
    method.eval()
    method.train()
    assert method.training
    assert not method.backbone.training


def test_a_resumed_method_is_in_the_phase_of_its_clock() -> None:
    method = MethodBase(Encoder(), warmup_fraction=0.5).train()
    method.embed(IMAGES, Clock(3, 8, 4))
    assert not method.backbone.training
    method = MethodBase(Encoder(), warmup_fraction=0.5).train()
    method.embed(IMAGES, Clock(4, 8, 4))
    assert method.backbone.training


def test_only_the_last_blocks_are_trained_and_the_rest_stays_as_it_is() -> None:
    method = MethodBase(Encoder(), trainable="last_1_blocks").train()
    torch.autograd.backward(method.embed(IMAGES, Clock(0, 8, 4)).sum())
    trained = {name for name, parameter in method.named_parameters() if parameter.grad is not None}
    assert trained == {"backbone.linear.weight", "backbone.linear.bias"}
    assert sum(len(group.params) for group in method.param_groups()) == 2
    norm = method.backbone.get_submodule("norm")
    assert isinstance(norm, nn.BatchNorm2d)
    assert not norm.training
    assert norm.num_batches_tracked == 0


def test_what_cannot_be_trained_is_named() -> None:
    with pytest.raises(UserError, match="trainable: 'everything'"):
        MethodBase(Encoder(), trainable="everything")
