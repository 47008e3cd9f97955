import re
from typing import Any

import pytest
import timm
import torch
from timm.models import get_pretrained_cfg
from torch import Tensor

from dinodiet.backbones import TimmBackbone, timm_backbone
from dinodiet.data.views.views import MultiCrop
from dinodiet.errors import UserError
from dinodiet.types import DataSpec

from .small import MODELS, SMALL, build, build_small, read, target

FILES = sorted(path.stem for path in MODELS.glob("*.yaml") if target(path.stem) == "timm_backbone")
FAMILIES = [file for file in FILES if "defaults" not in (MODELS / f"{file}.yaml").read_text()]

UNRELEASED = ("035", "075", "resnet5m", "simclr_1x", "simclr_2x", "simclr_4x")  # the last three in another format only
FROM_SCRATCH = ("convnet", "mlp", "pixels", "resnet_tiny", "vgg")  # files of networks that nobody has released


def slow(*values: Any) -> Any:
    return pytest.param(*values, marks=pytest.mark.slow)


def images(side: int, count: int = 2) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def spec(**changes: Any) -> DataSpec:
    return DataSpec("photos", num_images=10, num_labels=2, **changes)


# --- the model files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", FILES)
def test_every_size_names_a_model_of_timm_with_weights(file: str) -> None:
    assert read(file)["names"][read(file)["size"]] is not None
    for size, name in read(file)["names"].items():
        if name is None:
            assert (file, size) in {("ijepa", "b16_1k"), ("ijepa", "l14_22k")}
            continue
        cfg = get_pretrained_cfg(name)
        assert cfg is not None
        released = file not in FROM_SCRATCH and size not in UNRELEASED
        assert bool(cfg.hf_hub_id or cfg.url) == released, f"{file} {size}"


@pytest.mark.parametrize("file", FILES)
def test_every_model_file_says_what_it_is_and_where_weights_come_from(file: str) -> None:
    text = (MODELS / f"{file}.yaml").read_text()
    header = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    if file in FAMILIES:
        assert file in ("mlp", "pixels") or re.search(r"arXiv:\d{4}\.\d{4,5}|github\.com/\w+", header)
    else:
        assert f"see {yaml_parent(text)}.yaml" in header


def yaml_parent(text: str) -> str:
    match = re.search(r"defaults: \[(\w+), _self_\]", text)
    assert match is not None
    return match[1]


# --- features ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["dino", "dinov2", "dinov3", "mae"])
def test_cls_and_mean_patch_are_timms_own_pooling(model: str) -> None:
    for feature, pool in (("cls", "token"), ("mean_patch", "avg")):
        backbone = build_small(model, feature=feature).eval()
        x = images(backbone.input.size)
        expected = backbone.model.pool(backbone.model.forward_features(backbone.normalize(x)), pool_type=pool)
        torch.testing.assert_close(backbone(x), expected)


def test_mean_patch_leaves_out_the_class_token_and_the_registers() -> None:
    backbone = build_small("dinov2", feature="mean_patch").eval()
    x = images(42)
    tokens = backbone.model.forward_features(backbone.normalize(x))
    assert tokens.shape[1] == 1 + 4 + 9
    torch.testing.assert_close(backbone(x), tokens[:, 5:].mean(dim=1))


@pytest.mark.parametrize("model", ["siglip2", "pe"])
def test_map_is_learned_pooling_and_is_left_out_where_it_is_not_used(model: str) -> None:
    backbone = build_small(model, feature="map").eval()
    x = images(backbone.input.size)
    tokens = backbone.model.forward_features(backbone.normalize(x))
    torch.testing.assert_close(backbone(x), backbone.model.attn_pool(tokens))
    assert torch.equal(backbone(x), build_like(backbone, model, "pooled")(x))
    mean = build_like(backbone, model, "mean_patch")
    assert mean.model.attn_pool is None
    torch.testing.assert_close(mean(x), tokens[:, mean.model.num_prefix_tokens :].mean(dim=1))


def build_like(original: TimmBackbone, model: str, feature: str) -> TimmBackbone:
    """Return a backbone with another feature and the same weights."""
    backbone = build_small(model, feature=feature).eval()
    places = backbone.state_dict()
    backbone.load_state_dict({key: value for key, value in original.state_dict().items() if key in places})
    return backbone


@pytest.mark.parametrize("model", ["ijepa", "aimv2"])
def test_models_without_class_token_average_normalised_patches_as_published(model: str) -> None:
    backbone = build_small(model).eval()
    assert backbone.feature == "mean_patch"
    x = images(42)
    torch.testing.assert_close(backbone(x), backbone.model(backbone.normalize(x)))
    assert not isinstance(backbone.model.norm, torch.nn.Identity)


@pytest.mark.parametrize("model", ["resnet18", "mobilevit_xxs", "mobilenetv2_035", "efficientnet_lite0"])
def test_pooled_is_what_timm_feeds_the_classifier(model: str) -> None:
    backbone = build_small(model).eval()
    x = images(64)
    with_classifier: Any = timm.create_model(read(model)["names"][read(model)["size"]], num_classes=5)
    with_classifier.eval()
    with_classifier.load_state_dict(backbone.model.state_dict(), strict=False)
    expected = with_classifier.forward_head(with_classifier.forward_features(backbone.normalize(x)), pre_logits=True)
    torch.testing.assert_close(backbone(x), expected)


@pytest.mark.parametrize(
    ("model", "feature", "choices"),
    [
        ("resnet18", "cls", "pooled"),
        ("ijepa", "cls", "mean_patch, pooled"),
        ("mae", "clss", "cls, mean_patch, pooled"),
        ("mae", "map", "cls, mean_patch, pooled"),
        ("siglip2", "cls", "mean_patch, map, pooled"),
    ],
)
def test_a_feature_that_the_model_lacks_is_refused(model: str, feature: str, choices: str) -> None:
    with pytest.raises(UserError, match=f"^feature: '{feature}' .* {choices}$"):
        build_small(model, feature=feature)


# --- sizes ------------------------------------------------------------------------------------------------------------


def test_a_size_may_be_a_number() -> None:
    assert build("resnet", size=18).embed_dim == 512


@pytest.mark.parametrize(
    ("model", "changes", "data", "side"),
    [
        ("dinov2", {}, {}, 224),  # the file's
        ("dinov2", {"image_size": 98}, {}, 98),
        ("dinov2", {"image_size": 98}, {"image_size": 56}, 56),  # the dataset decides
        ("vit_tiny", {}, {}, 224),  # from scratch
        ("vit_tiny", {}, {"native_size": 8}, 32),
        ("vit_tiny", {}, {"native_size": 50}, 64),  # whole patches
        ("vit_tiny", {}, {"native_size": 500}, 224),
        ("resnet18", {}, {"native_size": 50}, 50),
        ("resnet18", {}, {"native_size": 28}, 32),
    ],
)
def test_the_side_of_the_input(model: str, changes: dict[str, Any], data: dict[str, Any], side: int) -> None:
    with torch.device("meta"):
        backbone = build(model, spec=spec(**data), **changes)
    assert backbone.input.size == side
    assert side % backbone.input.divisor == 0


@pytest.mark.parametrize(("side", "patch"), [(32, 4), (64, 8), (96, 8), (128, 16), (224, 16)])
def test_patch_size_auto(side: int, patch: int) -> None:
    backbone = build("vit_tiny", spec=spec(image_size=side), model_args={"depth": 1})
    assert backbone.input.divisor == patch
    assert backbone(images(side)).shape == (2, 192)


@pytest.mark.parametrize(
    ("data", "changes", "message"),
    [
        ({"image_size": 100}, {}, r"^image_size: 100 .*dataset photos.* not a multiple .* 98, 112$"),
        ({}, {"image_size": 10}, r"^image_size: 10 is not a multiple .* 14, 28$"),
        ({}, {"model_args": {"dpeth": 2}}, r"^model_args: .*'dpeth'"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(data: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    with torch.device("meta"), pytest.raises(UserError, match=message):
        build("dinov2", spec=spec(**data), **changes)


def test_a_patch_size_is_refused_where_there_are_no_patches() -> None:
    with pytest.raises(UserError, match=r"^patch_size: 4, .* no patches"):
        build("resnet18", patch_size=4)


ANY_SIZE = ["dino", "dinov2", "dinov3", "mae", "ijepa", "aimv2", "vit_tiny", "clip", "siglip2", "deit3", "eva02", "pe"]


@pytest.mark.parametrize("model", ["swin", "swinv2"])
def test_windows_are_padded_for_crops_of_other_sizes(model: str) -> None:
    backbone = build_small(model)
    assert backbone.input.divisor == 4
    assert backbone(images(32)).shape == backbone(images(20)).shape == (2, 24)


def test_position_biases_of_one_grid_take_one_size() -> None:
    backbone = build_small("beit", image_size=64)
    assert backbone.input.divisor == 64
    assert MultiCrop(backbone.input, crops="2+4").groups[1][0].size == 64
    with pytest.raises(UserError, match=r"^crops: 32 pixels, but the backbone takes images of 64 pixels alone"):
        MultiCrop(backbone.input, crops="2x64+4x32")


@pytest.mark.parametrize("model", ANY_SIZE)
def test_transformers_take_crops_of_several_sizes(model: str) -> None:
    backbone = build_small(model)
    side = backbone.input.divisor
    assert backbone(images(side * 2)).shape == backbone(images(side * 4)).shape == (2, 48)


# --- what the weights expect ------------------------------------------------------------------------------------------


def test_input_follows_the_weights_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dinodiet.backbones.timm.load_weights", lambda *_, **__: None)
    resnet = timm_backbone(spec(), **read("resnet18")).input
    assert (resnet.size, resnet.crop_fraction, resnet.interpolation, resnet.divisor) == (224, 0.875, "bilinear", 1)
    assert resnet.mean == (0.485, 0.456, 0.406)
    assert resnet.std == (0.229, 0.224, 0.225)
    mobilevit = timm_backbone(spec(), **read("mobilevit_xxs")).input
    assert (mobilevit.size, mobilevit.crop_fraction, mobilevit.interpolation) == (256, 0.9, "bicubic")
    assert (mobilevit.mean, mobilevit.std) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def test_images_stored_at_one_size_are_not_cropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dinodiet.backbones.timm.load_weights", lambda *_, **__: None)
    assert timm_backbone(spec(native_size=28), **read("resnet18")).input.crop_fraction == 1.0
    assert build("resnet18").input.crop_fraction == 1.0  # nor where the network is to learn them from scratch


def test_signature_tells_forward_passes_apart() -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"feature": "mean_patch"},
        {"image_size": 64},
        {"patch_size": 8},
        {"size": "large"},
        {"model_args": {"depth": 2}},
    ]
    signatures = [build_small("mae", **change).description.signature for change in changes]
    assert len(set(signatures)) == len(changes)
    assert build_small("resnet18", image_size=32).description.signature != build_small("resnet18").description.signature
    assert build_small("mae", drop_path=0.1).description.signature == signatures[0]  # it plays no part in evaluation


def test_a_backbone_carries_its_description() -> None:
    found = build_small("dinov3").description
    assert (found.family, found.size, found.licence) == ("dinov3", "small", "dinov3-license")
    assert found.published == {"cifar10": {"knn/accuracy": 0.91}}
    assert (build_small("vit_tiny").description.family, build_small("vit_tiny").description.published) == ("vit", {})


def test_every_family_has_a_small_member() -> None:
    """SigLIP's network is that of SigLIP 2."""
    families = {file.split("_")[0] for file in SMALL}
    assert families | {"resnet", "siglip", *FROM_SCRATCH} >= {file.split("_")[0] for file in FAMILIES}
