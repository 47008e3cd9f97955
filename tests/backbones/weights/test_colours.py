"""MobileViT of transformers takes blue first: its weights are turned round where its processor says so."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import MobileViTConfig, MobileViTImageProcessor, MobileViTModel

from dinodiet.backbones import TimmBackbone, timm_backbone
from dinodiet.backbones.hf import hf_backbone
from dinodiet.errors import UserError
from dinodiet.io.files import read_json, write_json
from tests.backbones.small import DATA

SIZES = {"hidden_sizes": [64, 80, 96], "neck_hidden_sizes": [16, 16, 24, 48, 64, 80, 320], "expand_ratio": 2.0}


def saved(folder: Path, **changes: Any) -> Any:
    """Return a model of transformers with random weights, which lies in a folder with its processor."""
    torch.manual_seed(0)
    model = MobileViTModel(MobileViTConfig(**SIZES, image_size=64)).eval()
    with torch.no_grad():
        for value in model.state_dict().values():
            value.add_(torch.rand(value.shape).mul(0.1).to(value.dtype))
    model.save_pretrained(folder)
    MobileViTImageProcessor().save_pretrained(folder)
    place = folder / "preprocessor_config.json"
    told = {**(read_json(place) or {}), **changes}
    write_json(place, {key: value for key, value in told.items() if value is not None})
    return model


def loaded(folder: Path) -> TimmBackbone:
    names: dict[str, str | None] = {"a": "mobilevit_xxs"}
    return timm_backbone(DATA, size="a", names=names, feature="pooled", weights=str(folder), image_size=64).eval()


@pytest.mark.parametrize(
    ("change", "flipped"),
    [
        ({}, True),
        ({"do_flip_channel_order": False}, False),
        ({"do_flip_channel_order": None}, True),  # the library's own default
        ({"do_flip_channel_order": None, "image_processor_type": "CLIPImageProcessor"}, False),
    ],
)
def test_the_processor_says_the_order(change: dict[str, Any], flipped: bool, tmp_path: Path) -> None:
    model = saved(tmp_path, **change)
    backbone, images = loaded(tmp_path), torch.rand(2, 3, 64, 64)
    stem, pixels = model.conv_stem.convolution.weight, backbone.normalize(images)
    assert torch.equal(backbone.model.stem.conv.weight, stem.flip(1) if flipped else stem)
    with torch.no_grad():
        expected = model(pixel_values=pixels.flip(1) if flipped else pixels).pooler_output
        torch.testing.assert_close(backbone(images), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def test_weights_without_a_processor_are_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(UserError, match=r"no preprocessor_config.json beside it says the order of its colours"):
        loaded(tmp_path)


@pytest.mark.slow
def test_weights_of_timm_are_not_those_of_a_model_that_takes_blue_first(tmp_path: Path) -> None:
    saved(tmp_path)
    names: dict[str, str | None] = {"a": "mobilevit_xxs"}
    red = timm_backbone(DATA, size="a", names=names, feature="pooled", weights="none", image_size=64)
    save_file(red.model.state_dict(), tmp_path / "timm.safetensors")
    with pytest.raises(UserError, match=r"timm.safetensors does not fit mobilevit"):
        hf_backbone(DATA, name=str(tmp_path), weights=str(tmp_path / "timm.safetensors"))
