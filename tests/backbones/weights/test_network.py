"""Where a network lies in a checkpoint: checkpoints as training code of others leaves them."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dinodiet.errors import UserError
from tests.backbones import layouts
from tests.backbones.layouts import State
from tests.backbones.small import build_small, own_state, randomised
from tests.backbones.weights.test_timm import save

Make = Callable[[State, State], dict[str, Any]]  # of the network that is wanted, and of one that is not


def under(prefix: str, state: State) -> State:
    return {f"{prefix}.{key}": value for key, value in state.items()}


def chunked(state: State) -> State:
    """DINOv2's training: blocks in chunks of two."""
    return {
        re.sub(r"^blocks\.(\d+)", lambda m: f"blocks.{int(m[1]) // 2}.{m[1]}", key): value
        for key, value in layouts.dinov2(state).items()
    }


HEAD = {"head.weight": torch.ones(2, 2)}
CHECKPOINTS: dict[str, tuple[Make, str]] = {
    "dinov2": (
        lambda a, b: {"model": under("student.backbone", chunked(b)) | under("teacher.backbone", chunked(a))},
        "model.teacher.backbone",
    ),
    "dinov2_teacher": (
        lambda a, _: {"teacher": under("backbone", chunked(a)) | {"dino_head.x": torch.ones(3)}},
        "teacher.backbone",
    ),
    "dino": (
        lambda a, b: {"student": under("module.backbone", b), "teacher": under("backbone", a)},
        "teacher.backbone",
    ),
    "lightly": (lambda a, b: under("student_backbone", b) | under("teacher_backbone", a), "teacher_backbone"),
    "solo": (
        lambda a, b: {"state_dict": under("momentum_backbone", b) | under("backbone", a)},
        "state_dict.backbone",
    ),
    "momentum_alone": (lambda a, _: under("momentum_backbone", a), "momentum_backbone"),
    "moco": (
        lambda a, b: {"state_dict": under("module.encoder_q", a) | under("module.encoder_k", b)},
        "state_dict.module.encoder_q",
    ),
    "moco_v3": (
        lambda a, b: {"state_dict": under("module.base_encoder", a) | under("module.momentum_encoder", b)},
        "state_dict.module.base_encoder",
    ),
    "ijepa": (
        lambda a, b: {"encoder": under("module", b), "target_encoder": under("module", a), "epoch": 3},
        "target_encoder.module",
    ),
    "byol": (lambda a, b: under("target_encoder.net", b) | under("online_encoder.net", a), "online_encoder.net"),
    "ema": (lambda a, b: {"state_dict": b, "state_dict_ema": a}, "state_dict_ema"),
    "finetuned": (
        lambda a, _: {"model_state_dict": under("model.backbone", a) | HEAD},
        "model_state_dict.model.backbone",
    ),
    "nested": (lambda a, _: {"ckpt": {"net": {"trunk": under("vit.encoder", a)}}}, "ckpt.net.trunk.vit.encoder"),
    "compiled": (lambda a, _: under("_orig_mod.module", under("_orig_mod", a)), "module"),
    "sharded": (lambda a, _: {k.replace("blocks.0.", "blocks.0._fsdp_wrapped_module."): v for k, v in a.items()}, ""),
}


@pytest.fixture(scope="module")
def states() -> tuple[State, State]:
    wanted = own_state(randomised("dinov2", size="small"))
    return wanted, {key: torch.zeros_like(value) for key, value in wanted.items()}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_the_network_is_found_and_named(name: str, states: tuple[State, State], tmp_path: Path) -> None:
    make, prefix = CHECKPOINTS[name]
    path = save(make(*states), tmp_path / "a.pth")
    backbone = build_small("dinov2", size="small", weights=path)
    assert all(torch.equal(value, states[0][key]) for key, value in backbone.model.state_dict().items())
    told = backbone.description.details["weights"]
    assert told == path if not prefix else told.startswith(f"{path} ({prefix}")


def test_the_other_network_is_told_and_can_be_chosen(states: tuple[State, State], tmp_path: Path) -> None:
    path = save(CHECKPOINTS["dinov2"][0](*states), tmp_path / "a.pth")
    told = build_small("dinov2", size="small", weights=path).description.details["weights"]
    assert "model.student.backbone would fit too" in told
    for prefix in ("model.student.backbone", "model.student.", "student"):
        chosen = build_small("dinov2", size="small", weights=path, weights_prefix=prefix)
        assert not chosen.model.norm.weight.any()


def test_two_networks_that_no_rule_tells_apart_are_refused(states: tuple[State, State], tmp_path: Path) -> None:
    path = save(under("left", states[0]) | under("right", states[1]), tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"^weights: .* several networks .*left, right; .*weights_prefix$"):
        build_small("dinov2", size="small", weights=path)
    chosen = build_small("dinov2", size="small", weights=path, weights_prefix="left")
    assert torch.equal(chosen.model.norm.weight, states[0]["norm.weight"])
    save(under("left", states[0]) | under("right", states[0]), tmp_path / "a.pth")  # the same twice
    build_small("dinov2", size="small", weights=path)


def test_a_prefix_that_is_not_there_or_of_no_use_is_refused(states: tuple[State, State], tmp_path: Path) -> None:
    path = save(under("left", states[0]), tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"^weights_prefix: 'lift', .*it has: left"):
        build_small("dinov2", size="small", weights=path, weights_prefix="lift")
    with pytest.raises(UserError, match=r"^weights_prefix: .*weights is none"):
        build_small("dinov2", size="small", weights_prefix="left")
