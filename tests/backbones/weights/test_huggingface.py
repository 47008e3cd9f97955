"""timm's weights written under Hugging Face's names are the library's own: it loads them, and embeds the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dinodiet.backbones import TimmBackbone, timm_backbone
from dinodiet.backbones.weights.huggingface import MODEL_TYPES, to_huggingface
from dinodiet.io.files import write_json
from tests.backbones.small import DATA
from tests.kinds import after_nightly

WIDE = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
VIT = {**WIDE, "image_size": 32, "patch_size": 8}
TRANSFORMER = {"embed_dim": 24, "depth": 2, "num_heads": 2, "mlp_ratio": 2.0}
TIMM = {"image_size": 32, "patch_size": 8, "model_args": TRANSFORMER}
SWIN = {"image_size": 32, "patch_size": 2, "embed_dim": 12, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4}
STAGES = {"embed_dim": 12, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4, "mlp_ratio": 2.0}
CONVNEXT = {"depths": [1, 1, 2, 1], "hidden_sizes": [8, 12, 16, 24]}
NARROW = {"image_size": 64, "model_args": {"depths": [1, 1, 2, 1], "dims": [8, 12, 16, 24]}}
BASIC = {"layer_type": "basic", "depths": [1, 1, 1, 1], "hidden_sizes": [64, 128, 256, 512]}
MOBILEVIT = {"hidden_sizes": [64, 80, 96], "neck_hidden_sizes": [16, 16, 24, 48, 64, 80, 320], "expand_ratio": 2.0}
DINO = {**WIDE, "patch_size": 8, "image_size": 32, "mlp_ratio": 2}
# The library's configuration; timm's name, feature and settings.
CASES: dict[str, tuple[dict[str, Any], str, str, dict[str, Any]]] = {
    "vit": (VIT, "vit_base_patch16_224", "cls", TIMM),
    "vit_mae": ({**VIT, "mask_ratio": 0.0}, "vit_base_patch16_224.mae", "cls", TIMM),
    "ijepa": (VIT, "vit_huge_patch14_gap_224.in1k_ijepa", "mean_patch", TIMM),
    "dinov2": (DINO, "vit_small_patch14_dinov2", "cls", TIMM),
    "dinov2_with_registers": (DINO, "vit_small_patch14_reg4_dinov2", "cls", TIMM),
    "dinov3_vit": ({**DINO, "num_register_tokens": 4}, "vit_small_patch16_dinov3_qkvb", "cls", TIMM),
    "dinov3_convnext": (CONVNEXT, "convnext_tiny.dinov3_lvd1689m", "pooled", NARROW),
    "beit": (
        {**VIT, "use_relative_position_bias": True, "use_mean_pooling": True, "layer_scale_init_value": 0.1},
        "beit_base_patch16_224",
        "pooled",
        TIMM,
    ),
    "swin": ({**SWIN, "mlp_ratio": 2.0}, "swin_tiny_patch4_window7_224", "pooled", {**TIMM, "model_args": STAGES}),
    "swinv2": ({**SWIN, "mlp_ratio": 2.0}, "swinv2_tiny_window8_256", "pooled", {**TIMM, "model_args": STAGES}),
    "convnext": (CONVNEXT, "convnext_tiny.fb_in1k", "pooled", NARROW),
    "convnextv2": (CONVNEXT, "convnextv2_tiny", "pooled", NARROW),
    "siglip_vision_model": (
        VIT,
        "vit_base_patch16_siglip_224",
        "map",
        {**TIMM, "model_args": {**TRANSFORMER, "act_layer": "gelu_tanh"}},
    ),
    "clip_vision_model": (VIT, "vit_base_patch16_clip_quickgelu_224", "cls", TIMM),
    "mobilevit": (MOBILEVIT, "mobilevit_xxs", "pooled", {"image_size": 64}),
    "resnet": (BASIC, "resnet18", "pooled", {"image_size": 64, "model_args": {"layers": [1, 1, 1, 1]}}),
}
for _kind in ("swin", "swinv2"):
    CASES[_kind][3]["patch_size"] = 2


def made(kind: str, **changes: Any) -> TimmBackbone:
    _, name, feature, settings = CASES[kind]
    settings = {"feature": feature, "weights": "none", **settings, **changes}
    return timm_backbone(DATA, size="a", names={"a": name}, **settings).eval()


def test_every_type_is_tried() -> None:
    assert set(CASES) == set(MODEL_TYPES)


def own_numbers(backbone: TimmBackbone) -> TimmBackbone:
    """Return it with numbers that are not those of a fresh model anywhere."""
    with torch.no_grad():
        for value in backbone.state_dict().values():
            if value.is_floating_point():
                value.add_(torch.rand(value.shape) * 0.2 + 0.01)
    return backbone


@pytest.mark.parametrize("kind", CASES)
def test_what_is_written_is_read_again(kind: str, tmp_path: Path) -> None:
    original = own_numbers(made(kind))
    written = to_huggingface(kind, original.model.state_dict())
    save_file({key: value.contiguous() for key, value in written.items()}, tmp_path / "model.safetensors")
    write_json(tmp_path / "preprocessor_config.json", {})  # which says that red comes first
    again = made(kind, weights=str(tmp_path)).model.state_dict()
    for key, value in original.model.state_dict().items():
        assert torch.equal(value, again[key]), key


@pytest.mark.slow
@pytest.mark.parametrize("kind", after_nightly(2, CASES))
def test_the_library_embeds_the_same(kind: str, tmp_path: Path) -> None:
    transformers: Any = pytest.importorskip("transformers")
    torch.manual_seed(0)
    original = own_numbers(made(kind))
    written = to_huggingface(kind, original.model.state_dict())
    save_file({key: value.contiguous() for key, value in written.items()}, tmp_path / "model.safetensors")
    config = transformers.AutoConfig.for_model(kind, **CASES[kind][0])
    if hasattr(config, "layer_norm_eps"):  # 1e-12 of the library's ViT is not 1e-6 of its publishers
        config.layer_norm_eps = next(part.eps for part in original.modules() if isinstance(part, nn.LayerNorm))
    config.save_pretrained(tmp_path)
    library, told = transformers.AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not told["unexpected_keys"] and not told["mismatched_keys"]
    assert all("pooler.dense" in key for key in told["missing_keys"])
    images = torch.rand(2, 3, *[original.input.size] * 2)
    with torch.no_grad():
        found = library.eval()(pixel_values=original.normalize(images), **ORDERED.get(kind, {}))
        expected = original(images)
    torch.testing.assert_close(embedding(kind, found), expected, rtol=1e-5, atol=1e-5)


ORDERED = {"vit_mae": {"noise": torch.arange(16.0).expand(2, -1)}}  # patches are shuffled by it


def embedding(kind: str, found: Any) -> torch.Tensor:
    tokens: torch.Tensor = found.last_hidden_state
    if kind in ("vit", "vit_mae"):
        return tokens[:, 0]
    return tokens.mean(dim=1) if kind == "ijepa" else found.pooler_output.flatten(1)
