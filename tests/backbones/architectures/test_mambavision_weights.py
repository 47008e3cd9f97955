import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dinodiet.backbones.weights import released
from dinodiet.errors import UserError
from tests.backbones.architectures.mambavision_small import (
    TINY_ARGS,
    build,
    tiny,
)
from tests.backbones.small import pixels
from tests.places import REFERENCES


def published() -> dict[str, Tensor]:
    return load_file(REFERENCES / "mambavision_tiny.safetensors")


def save(state: dict[str, Any], path: Path) -> str:
    torch.save(state, path)
    return str(path)


def wrapped(state: dict[str, Tensor]) -> dict[str, Any]:
    """Return a training checkpoint; its averaged weights are not what the publisher evaluates."""
    averaged = {key: torch.zeros_like(value) for key, value in state.items()}
    arguments = argparse.Namespace(model="mamba_vision_T")
    return {"epoch": 300, "arch": "T", "args": arguments, "state_dict": state, "state_dict_ema": averaged}


@pytest.mark.parametrize(
    "layout",
    [
        lambda state: state,
        wrapped,
        lambda state: {"model": state},
        lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}},
        lambda state: {f"model.{key}": value for key, value in state.items()},
    ],
    ids=["plain", "training", "model", "module", "hugging face"],
)
def test_official_files_give_the_published_features(layout: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    path = save(layout(published()), tmp_path / "mambavision_tiny_1k.pth.tar")
    backbone = build(model_args=TINY_ARGS, weights=path).eval()
    reference = tiny("mambavision_tiny")[1]
    expected = torch.from_numpy(reference["features_b"])
    found = backbone(pixels(torch.from_numpy(reference["image_b"]), backbone.input))
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


def test_safetensors_of_hugging_face_are_read(tmp_path: Path) -> None:
    save_file({f"model.{key}": value for key, value in published().items()}, tmp_path / "model.safetensors")
    for weights in (tmp_path / "model.safetensors", tmp_path):
        backbone = build(model_args=TINY_ARGS, weights=str(weights))
        assert torch.equal(backbone.model.norm.weight, published()["norm.weight"])
        assert all(p.requires_grad for p in backbone.parameters())


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("levels.2.blocks.0.mixer.A_log", None, r"1 missing \(levels.2.blocks.0.mixer.A_log\)$"),
        ("levels.2.blocks.0.mixer.A_log", torch.zeros(32, 16), r"1 of another shape \(levels.2.blocks.0.mixer.A_log"),
        ("levels.2.blocks.0.gamma_1", torch.zeros(64), r"1 unexpected \(levels.2.blocks.0.gamma_1\)$"),
    ],
)
def test_a_file_that_does_not_fit_names_the_key(key: str, value: Tensor | None, message: str, tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in published().items() if name != key}
    path = save(state if value is None else {**state, key: value}, tmp_path / "x.pth.tar")
    with pytest.raises(UserError, match=rf"^weights: {path} does not fit .*: {message}") as caught:
        build(model_args=TINY_ARGS, weights=path)
    assert "\n" not in str(caught.value)


def test_the_hub_is_asked_for_the_official_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def cached(repo: str, file: str, **_: Any) -> str:
        asked.append((repo, file))
        return save(wrapped(published()), tmp_path / file)

    monkeypatch.setattr(released, "try_to_load_from_cache", cached)
    backbone = build(model_args=TINY_ARGS, weights="hub")
    assert asked == [("nvidia/MambaVision-T-1K", "mambavision_tiny_1k.pth.tar")]
    assert torch.equal(backbone.model.norm.weight, published()["norm.weight"])


def test_without_a_network_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(released, "try_to_load_from_cache", lambda *_, **__: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(released, "hf_hub_download", lambda *_, **__: pytest.fail("asked the network"))
    with pytest.raises(UserError) as caught:
        build(weights="hub")
    message = str(caught.value)
    assert message.startswith("weights: hub, but mambavision_tiny_1k.pth.tar of nvidia/MambaVision-T-1K")
    assert "HF_HUB_OFFLINE is set" in message
    assert message.endswith("weights=/path/to/file")
    assert "\n" not in message


# --- training ---------------------------------------------------------------------------------------------------------
