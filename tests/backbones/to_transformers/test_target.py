"""What timm built is loaded by transformers and gives the same embeddings, where the library has the network."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoImageProcessor, AutoModel

from dinodiet.backbones import TimmBackbone, timm_backbone
from dinodiet.errors import UserError
from dinodiet.types import ExportTarget, Unexportable
from tests.backbones.small import DATA
from tests.kinds import after_nightly, rest_nightly

Case = tuple[str, str, dict[str, Any]]  # timm's name, feature, settings

SMALL = {"embed_dim": 24, "depth": 2, "num_heads": 2, "mlp_ratio": 2.0}
VIT = {"image_size": 32, "patch_size": 8, "model_args": SMALL}
FOURTEEN = {"image_size": 42, "patch_size": 14, "model_args": SMALL}
SIXTEEN = {"image_size": 48, "patch_size": 16, "model_args": SMALL}
TANH = {**SIXTEEN, "model_args": {**SMALL, "act_layer": "gelu_tanh"}}
WIDE = {"image_size": 28, "model_args": {"embed_dim": 48, "depth": 2, "num_heads": 3}}
STAGES = {"embed_dim": 12, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4, "mlp_ratio": 2.0}
THREE = {**STAGES, "depths": [2, 2, 2], "num_heads": [1, 2, 4], "strict_img_size": False}
SWIN = {"image_size": 32, "patch_size": 2, "model_args": STAGES}
CONVNEXT = {"image_size": 64, "model_args": {"depths": [1, 1, 2, 1], "dims": [8, 12, 16, 24]}}
ONE_EACH = {"image_size": 64, "model_args": {"layers": [1, 1, 1, 1]}}

CASES: dict[str, Case] = {
    "ViTModel": ("vit_base_patch16_224.mae", "cls", VIT),
    "ViTModel, mean": ("vit_base_patch16_224", "mean_patch", SIXTEEN),
    "ViTModel, pooled": ("vit_base_patch16_224", "pooled", FOURTEEN),
    "IJepaModel": ("vit_huge_patch14_gap_224.in1k_ijepa", "mean_patch", FOURTEEN),
    "Dinov2Model": ("vit_giant_patch14_dinov2.lvd142m", "cls", WIDE),  # with two matrices in one
    "Dinov2Model, DeiT III": ("deit3_small_patch16_224", "cls", VIT),
    "Dinov2WithRegistersModel": ("vit_small_patch14_reg4_dinov2.lvd142m", "mean_patch", VIT),
    "DINOv3ViTModel": ("vit_small_patch16_dinov3_qkvb", "cls", VIT),
    "DINOv3ViTModel, without biases": ("vit_small_patch16_dinov3", "mean_patch", SIXTEEN),
    "DINOv3ViTModel, gated": ("vit_small_plus_patch16_dinov3_qkvb", "cls", VIT),
    "CLIPVisionModel": ("vit_base_patch16_clip_quickgelu_224", "cls", FOURTEEN),
    "CLIPVisionModel, GELU": ("vit_base_patch16_clip_224", "pooled", VIT),
    "SiglipVisionModel": ("vit_base_patch16_siglip_224", "map", TANH),
    "SiglipVisionModel, GELU": ("vit_base_patch16_siglip_224", "pooled", FOURTEEN),
    "SiglipVisionModel, mean": ("vit_base_patch16_siglip_224", "mean_patch", TANH),
    "BeitModel": ("beit_base_patch16_224", "pooled", VIT),
    "BeitModel, class token": ("beitv2_base_patch16_224", "cls", SIXTEEN),
    "SwinModel": ("swin_tiny_patch4_window7_224", "pooled", SWIN),
    "SwinModel, larger": ("swin_tiny_patch4_window7_224", "pooled", {"image_size": 64, "model_args": THREE}),
    "Swinv2Model": ("swinv2_tiny_window8_256", "pooled", SWIN),
    "Swinv2Model, windows shrink": ("swinv2_tiny_window8_256", "pooled", {"image_size": 32, "model_args": THREE}),
    "ConvNextModel": ("convnext_tiny.fb_in1k", "pooled", CONVNEXT),
    "ConvNextV2Model": ("convnextv2_tiny", "pooled", CONVNEXT),
    "DINOv3ConvNextModel": ("convnext_tiny.dinov3_lvd1689m", "pooled", CONVNEXT),
    "ResNetModel": ("resnet18.tv_in1k", "pooled", ONE_EACH),
    "ResNetModel, bottlenecks": ("resnet50.tv_in1k", "pooled", ONE_EACH),
    "MobileViTModel": ("mobilevit_xxs", "pooled", {"image_size": 64}),
    "MobileViTModel, wider": ("mobilevit_xs", "pooled", {"image_size": 72}),  # a grid that patches of two do not fill
}
# Networks that both libraries run on images of other sides: what has no learned positions, and MAE, DINOv2 with
# registers and I-JEPA, whose positions are resized alike.
ANY_SIDES = ["ViTModel", "IJepaModel", "Dinov2WithRegistersModel", "DINOv3ViTModel", "DINOv3ViTModel, gated"]
ANY_SIDES += ["ConvNextModel", "ConvNextV2Model", "DINOv3ConvNextModel", "ResNetModel", "MobileViTModel"]
ANY_SIDES += ["SwinModel, larger"]
# Weights of another size than the model's: positions, tables of biases and windows are fitted as they are read.
RESIZED: dict[str, tuple[str, int]] = {
    "ViTModel, mean": ("vit_base_patch16_224", 80),
    "Dinov2WithRegistersModel": ("vit_small_patch14_reg4_dinov2.lvd142m", 56),
    "SiglipVisionModel": ("vit_base_patch16_siglip_224", 80),
    "BeitModel": ("beit_base_patch16_224", 48),
    "Swinv2Model": ("swinv2_tiny_window8_256", 64),
    "DINOv3ViTModel": ("vit_small_patch16_dinov3_qkvb", 56),
}
HARD = {**SMALL, "act_layer": "hard_swish"}
COARSE = {**CONVNEXT, "model_args": {"depths": [1, 1, 2, 1], "dims": [8, 12, 16, 24], "norm_eps": 1e-5}}
NARROW_WINDOWS = {"image_size": 32, "model_args": {**THREE, "window_size": 8}}
OTHERS: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "normalised after pooling": ("vit_medium_patch16_reg1_gap_256", "mean_patch", VIT, "normalises after the tokens"),
    "mean of CLIP": ("vit_base_patch16_clip_224", "mean_patch", VIT, "CLIPVisionModel normalises the class token"),
    "registers alone": ("vit_small_patch16_224", "cls", {**VIT, "model_args": {**SMALL, "reg_tokens": 2}}, "registers"),
    "scaled, without class token": ("test_vit3", "map", {"image_size": 160}, "layer scale"),
    "activation": ("vit_base_patch16_224", "cls", {**VIT, "model_args": HARD}, "has the activation Hardswish"),
    "rotary positions": ("eva02_tiny_patch14_224", "pooled", FOURTEEN, "not those of DINOv3"),
    "norms of queries": ("vit_base_patch16_224", "cls", {**VIT, "model_args": {**SMALL, "qk_norm": True}}, "q_norm"),
    "a deep stem": ("resnet26d", "pooled", {"image_size": 64}, "stem is deeper"),
    "attention of channels": ("seresnet50", "pooled", ONE_EACH, "not those of ResNet"),
    "other building blocks": ("mobilevitv2_050", "pooled", {"image_size": 64}, "not MobileViT's"),
    "another class": ("test_efficientnet", "pooled", {"image_size": 32}, "EfficientNet is not among what is converted"),
    "windows that are filled up": (
        "swin_tiny_patch4_window7_224",
        *("pooled", {"image_size": 40, "model_args": STAGES}),
        "grid of 10 x 10 patches does not fill shifted windows of 4",
    ),
    "windows that shrink": ("swin_tiny_patch4_window7_224", "pooled", NARROW_WINDOWS, "2 and 4 and 8 patches wide"),
    "another stem": ("convnext_atto_ols", "pooled", {"image_size": 64}, "its stem or its head"),
    "another epsilon": ("convnext_tiny", "pooled", COARSE, "epsilon 1e-05, and transformers' 1e-06"),
}


def made(name: str, feature: Any, settings: dict[str, Any], **changes: Any) -> TimmBackbone:
    """Return a model whose numbers are nowhere those of a fresh one."""
    torch.manual_seed(0)
    names: dict[str, str | None] = {"a": name}
    settings = {"weights": "none", **settings, **changes}
    backbone = timm_backbone(DATA, size="a", names=names, feature=feature, **settings).eval()
    return own_numbers(backbone) if settings["weights"] == "none" else backbone


def own_numbers(backbone: TimmBackbone) -> TimmBackbone:
    with torch.no_grad():
        for value in backbone.state_dict().values():
            if value.is_floating_point():
                value.add_(torch.rand(value.shape) * 0.1)
    return backbone


def target(backbone: TimmBackbone) -> ExportTarget:
    found = backbone.export_targets()["transformers"]
    assert isinstance(found, ExportTarget), found
    return found


def check(backbone: TimmBackbone, folder: Path, *shapes: tuple[int, int]) -> Any:
    """See that transformers embeds as the backbone does; return its model."""
    found = target(backbone)
    found.write(folder)
    embed = found.read(folder)
    for shape in shapes:
        images = torch.rand(2, 3, *shape)
        with torch.no_grad():
            expected, theirs = backbone(images), embed(images)
        assert expected.std(dim=0).max() > 1e-4, "it gives all images the same"
        torch.testing.assert_close(theirs / expected.abs().max(), expected / expected.abs().max(), rtol=0, atol=1e-5)
    return AutoModel.from_pretrained(folder)


def sides(backbone: TimmBackbone) -> tuple[int, int]:
    return backbone.input.size, backbone.input.size


@pytest.mark.parametrize("case", rest_nightly(CASES, list(CASES)[::4]))
def test_transformers_gives_the_same_embeddings(case: str, tmp_path: Path) -> None:
    backbone = made(*CASES[case])
    model = check(backbone, tmp_path, sides(backbone))
    assert type(model).__name__ == case.partition(",")[0]
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == [type(model).__name__]
    assert AutoImageProcessor.from_pretrained(tmp_path).crop_size["height"] == backbone.input.size


def test_it_says_which_output_is_the_embedding() -> None:
    told = {
        case: target(made(*CASES[case])).gives for case in ("ViTModel", "DINOv3ViTModel, without biases", "SwinModel")
    }
    first, mean, pooled = told.values()
    assert first == "`last_hidden_state[:, 0]`, the class token"
    assert (mean, pooled) == ("the mean of the patches, `last_hidden_state[:, 5:]`", "`pooler_output`")


@pytest.mark.parametrize("case", after_nightly(3, ANY_SIDES))
def test_images_of_other_sides(case: str, tmp_path: Path) -> None:
    backbone = made(*CASES[case])
    side = backbone.input.size
    check(backbone, tmp_path, (side, 2 * side), (2 * side, side))


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")  # timm's resizing of BEiT's tables
@pytest.mark.parametrize("case", RESIZED)
def test_weights_of_another_size(case: str, tmp_path: Path) -> None:
    name, feature, settings = CASES[case]
    weights = made(name, feature, settings).model.state_dict()
    save_file({key: value.contiguous() for key, value in weights.items()}, tmp_path / "own.safetensors")
    backbone = made(name, feature, settings, image_size=RESIZED[case][1], weights=str(tmp_path / "own.safetensors"))
    folder = tmp_path / "new"
    folder.mkdir()
    check(backbone, folder, sides(backbone))


@pytest.mark.parametrize("what", after_nightly(4, OTHERS))
def test_other_networks_are_refused_with_the_reason(what: str) -> None:
    name, feature, settings, why = OTHERS[what]
    found = made(name, feature, settings).export_targets()["transformers"]
    assert isinstance(found, Unexportable)
    assert why in found.why


def test_weights_that_the_library_has_no_place_for_are_refused(tmp_path: Path) -> None:
    backbone = made(*CASES["ViTModel"])
    target(backbone).write(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    faults = {"has no place for .*1": {"num_hidden_layers": 1}, "needs .*2": {"num_hidden_layers": 3}}
    for told, change in {**faults, "has another shape of": {"image_size": 64}}.items():
        (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(UserError, match=f"this network is not transformers' ViTModel, which {told}"):
            target(backbone).read(tmp_path)
