"""Weights that a run left start another: of its directory, or of any of its files, for every kind of backbone."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from dinodiet.backbones.architectures.aim import aim
from dinodiet.backbones.architectures.mambavision import mambavision
from dinodiet.backbones.weights.files import run_file
from dinodiet.errors import UserError
from tests.backbones.small import DATA, build_small, read

AIM = {"model_args": {"embed_dim": 16, "depth": 3, "num_heads": 2}, "probe_layers": [0, 1], "image_size": 28}
MAMBA = {"depths": [1, 1, 3, 2], "num_heads": [1, 2, 4, 8], "window_size": [8, 8, 4, 2], "dim": 8, "in_dim": 4}

BUILD: dict[str, Callable[[str], Any]] = {
    "timm": lambda weights: build_small("vit_tiny", weights=weights),
    "aim": lambda weights: aim(DATA, **{**read("aim"), **AIM, "weights": weights}),  # its last block is not used
    "mambavision": lambda weights: mambavision(
        DATA, **{**read("mambavision"), "model_args": MAMBA, "image_size": 64, "weights": weights}
    ),
}


def trained(kind: str) -> nn.Module:
    torch.manual_seed(7)
    backbone: nn.Module = BUILD[kind]("none")
    return backbone


def state(backbone: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in backbone.state_dict().items()}


def leave(folder: Path, backbone: nn.Module, *, checkpoint: bool) -> None:
    """Leave what a run leaves: an unfinished one a checkpoint, whose encoder is the teacher's; else the weights."""
    teacher = {f"teacher.backbone.{key}": value for key, value in state(backbone).items()}
    student = {f"backbone.{key}": torch.zeros_like(value) for key, value in state(backbone).items()}
    if checkpoint:
        content = {"identity": {"seed": 0}, "step": 3, "encoder": "teacher.backbone", "method": teacher | student}
        torch.save(content, folder / "checkpoint.pt")
        return
    save_file(teacher | student, folder / "weights.safetensors")
    model = {"_target_": "x", "family": "vit", "size": "huge"}
    save_file(state(backbone), folder / "encoder.safetensors", {"format": "1", "model": json.dumps(model)})


@pytest.mark.parametrize("place", [".", "checkpoint.pt", "encoder.safetensors", "weights.safetensors"])
@pytest.mark.parametrize("kind", BUILD)
def test_the_evaluated_encoder_of_a_run_is_read(kind: str, place: str, tmp_path: Path) -> None:
    leave(tmp_path, trained(kind), checkpoint=place == "checkpoint.pt")
    found, expected = state(BUILD[kind](str(tmp_path / place))), state(trained(kind))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize("kind", BUILD)
def test_an_unfinished_run_is_refused_and_its_checkpoint_named(kind: str, tmp_path: Path) -> None:
    leave(tmp_path, trained(kind), checkpoint=True)
    with pytest.raises(UserError, match=r"^weights: .* is a run that is not finished.* or give .*checkpoint\.pt"):
        BUILD[kind](str(tmp_path))


@pytest.mark.parametrize(("kind", "other"), [("timm", "aim"), ("aim", "mambavision"), ("mambavision", "timm")])
def test_another_model_is_refused_and_named(kind: str, other: str, tmp_path: Path) -> None:
    leave(tmp_path, trained(other), checkpoint=False)
    with pytest.raises(UserError, match=r"^weights: .*trained: vit, huge.* does not fit .*missing"):
        BUILD[kind](str(tmp_path))


def test_a_whole_method_without_its_encoder_is_refused(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "weights.safetensors")
    with pytest.raises(UserError, match=r"^weights: .*whole method; .*encoder.safetensors"):
        run_file(str(tmp_path / "weights.safetensors"))
