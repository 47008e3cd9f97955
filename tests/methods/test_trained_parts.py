"""Every method with layers of its backbone trained, or adapters of them, built as a run builds it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dinodiet.backbones.adapters import adapted
from dinodiet.errors import UserError
from dinodiet.run.parts import Parts, build_parts
from dinodiet.training.loop import forward_backward
from dinodiet.training.strategy import Alone
from tests.contracts.choices import settings
from tests.contracts.test_methods import differences, middle, trained
from tests.kinds import rest_nightly

METHODS = ("diet", "dino", "simclr", "byol", "lejepa", "mae", "supervised")
SMALL = {"dino": ("method.head.hidden_dims=[32,32]", "method.head.out_dim=64", "method.student.drop_path=0.2")}
PARTS = ("attn_proj", "norms", "bias", "lora_2", "lora_2+last_1_block")


def parts_of(folder: Path, method: str, trainable: str, *words: str) -> Parts:
    return build_parts(
        settings(folder, f"method={method}", f"method.trainable={trainable}", *SMALL.get(method, ()), *words)
    )


@pytest.mark.parametrize("method", rest_nightly(METHODS, ("diet", "dino")))
@pytest.mark.parametrize("trainable", PARTS)
def test_exactly_what_is_trained_has_a_gradient_and_is_optimised(method: str, trainable: str, tmp_path: Path) -> None:
    parts = parts_of(tmp_path, method, trainable)
    batch, clock = middle(parts)
    parts.method.train()
    forward_backward(Alone(parts.method), batch, parts.state.scaler, parts.optimisation, clock, parts.runtime.world)
    named = dict(parts.method.named_parameters())
    expected = {name for name, parameter in named.items() if parameter.requires_grad}
    assert any(name.startswith("backbone.") for name in expected)
    assert {name for name, parameter in named.items() if parameter.grad is not None} == expected
    groups = parts.state.optimizer.param_groups
    optimised = {id(parameter) for group in groups for parameter in group["params"]}
    assert optimised == {id(named[name]) for name in expected}
    decaying = {id(p) for group in groups if group["weight_decay_scale"] for p in group["params"]}
    assert not [name for name in expected if ".lora_" in name and id(named[name]) in decaying]


@pytest.mark.parametrize("method", ["diet", "dino"])
def test_k_steps_and_k_more_are_2k_steps_and_the_base_stands_still(method: str, tmp_path: Path) -> None:
    whole, first, second = (parts_of(tmp_path, method, "lora_2", "model.drop_path=0.2") for _ in range(3))
    start = {name: value.clone() for name, value in whole.method.state_dict().items()}
    trained(whole, 4)
    moved = [key.removeprefix("/") for key in differences(start, whole.method.state_dict())]
    frozen = [key for key in start if "backbone." in key and ".lora_" not in key]
    assert any(".lora_" in key for key in moved)
    assert not set(frozen) & set(moved), "also the teacher's: equal numbers stay equal in its average"
    trained(first, 2)
    second.state.restore(first.state.content())
    trained(second, 4)
    assert differences(second.state.content(), whole.state.content()) == []


@pytest.mark.parametrize("method", ["dino", "byol"])
def test_a_teacher_follows_the_adapters(method: str, tmp_path: Path) -> None:
    words = ("method.head.warmup_fraction=0", "method.teacher.momentum=0.5", "schedule.lr=1e-3")
    parts = parts_of(tmp_path, method, "lora_2", *words)
    teacher = parts.method.towers()[1]
    assert [name for name, _ in adapted(teacher)] == [name for name, _ in adapted(parts.method.backbone)]
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    key = next(name for name in teacher.state_dict() if name.endswith(".query"))
    trained(parts, 1)
    found = teacher.state_dict()[key]
    assert torch.equal(found, 0.5 * parts.method.backbone.state_dict()[key])
    assert found.any()


@pytest.mark.parametrize("trainable", ["attn_proj", "lora_2"])
def test_the_backbone_waits_while_the_head_is_trained_alone(trainable: str, tmp_path: Path) -> None:
    parts = parts_of(tmp_path, "diet", trainable, "method.head.warmup_fraction=0.5")
    start = {name: value.clone() for name, value in parts.method.state_dict().items()}
    trained(parts, 2)
    moved = {key.removeprefix("/") for key in differences(start, parts.method.state_dict())}
    assert moved and not [key for key in moved if key.startswith("backbone.")]


def test_a_trunk_cache_is_refused_where_no_block_is_frozen_whole(tmp_path: Path) -> None:
    for trainable in PARTS:
        with pytest.raises(
            UserError, match=r"^method\.trunk\.views: 2, but with trainable .* nothing is frozen before"
        ):
            parts_of(tmp_path, "diet", trainable, "method.trunk.views=2")
