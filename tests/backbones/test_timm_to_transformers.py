"""What timm built is loaded by transformers and gives the same embeddings, where the library has the network."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel

from dinodiet.backbones import TimmBackbone, timm_backbone
from tests.backbones.small import DATA

SMALL = {"embed_dim": 24, "depth": 2, "num_heads": 2, "mlp_ratio": 2.0}
VIT = {"image_size": 32, "patch_size": 8, "model_args": SMALL}
WIDE = {"image_size": 28, "model_args": {"embed_dim": 48, "depth": 2, "num_heads": 3}}
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "ViTModel": ("vit_base_patch16_224.mae", "cls", VIT),
    "IJepaModel": ("vit_huge_patch14_gap_224.in1k_ijepa", "mean_patch", VIT),
    "Dinov2Model": ("vit_giant_patch14_dinov2.lvd142m", "cls", WIDE),  # with two matrices in one
    "Dinov2WithRegistersModel": ("vit_small_patch14_reg4_dinov2.lvd142m", "mean_patch", VIT),
    "ResNetModel": ("resnet18.tv_in1k", "pooled", {"image_size": 64}),
}
OTHERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "a norm before the blocks": ("vit_base_patch16_clip_quickgelu_224", "cls", VIT),
    "pooled otherwise": ("vit_base_patch16_224", "pooled", VIT),
    "rotary positions": ("vit_small_patch16_dinov3_qkvb", "cls", VIT),
    "a deep stem": ("resnet26d", "pooled", {"image_size": 64}),
    "no transformer": ("mobilevit_xxs", "pooled", {"image_size": 64}),
}


def made(name: str, feature: Any, settings: dict[str, Any]) -> TimmBackbone:
    torch.manual_seed(0)
    names: dict[str, str | None] = {"a": name}
    return timm_backbone(DATA, size="a", names=names, feature=feature, weights="none", **settings).eval()


@pytest.mark.parametrize("kind", CASES)
def test_transformers_gives_the_same_embeddings(kind: str, tmp_path: Path) -> None:
    backbone = made(*CASES[kind])
    target = backbone.export_targets()["transformers"]
    target.write(tmp_path)
    assert type(AutoModel.from_pretrained(tmp_path)).__name__ == kind
    images = torch.rand(2, 3, backbone.input.size, backbone.input.size)
    with torch.no_grad():
        torch.testing.assert_close(target.read(tmp_path)(images), backbone(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("what", OTHERS)
def test_other_networks_have_no_such_target(what: str) -> None:
    assert set(made(*OTHERS[what]).export_targets()) == {"timm"}
