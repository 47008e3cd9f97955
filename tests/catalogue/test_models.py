"""Every model in every size builds without memory, and has the parameters that were published."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dinodiet.catalogue.models import Entry, Model, describe, models
from dinodiet.errors import UserError
from tests.kinds import after_nightly
from tests.places import CONF, REFERENCES

# Parameters with the ImageNet classifier, as torchvision and timm list them.
WITH_CLASSIFIER: dict[str, dict[str, int]] = {
    "vit": {"tiny": 5_717_416, "small": 22_050_664, "base": 86_567_656},
    "dino": {"small16": 22_050_664, "base16": 86_567_656},
    "mae": {"base": 86_567_656, "large": 304_326_632, "huge": 632_045_800},
    "resnet": {"18": 11_689_512, "50": 25_557_032, "simclr_1x": 25_557_032},
    "mobilenetv2": {"100": 3_504_872},
}
# In millions, as the papers and model cards round them (MobileNetV2, MobileViT, Lite0: less their classifiers).
ROUNDED: dict[str, Mapping[str, float]] = {
    "aimv2": {"large": 309, "huge": 681, "1b": 1_240, "3b": 2_720, "large_distilled": 309},
    "dino": {"small8": 21.7, "base8": 85.8},
    "dinov2": {"small": 22, "base": 86, "large": 304, "giant": 1_137}
    | {"small_reg": 22, "base_reg": 86, "large_reg": 304, "giant_reg": 1_137},
    "dinov3": {"small": 21.6, "small_plus": 28.7, "base": 85.7, "large": 303, "huge_plus": 841, "7b": 6_716}
    | {"large_sat": 303},
    "dinov3_convnext": {"tiny": 28, "small": 50, "base": 88, "large": 197},
    "efficientnet_lite0": {"lite0": 4.652 - 1.281},
    "ijepa": {"h14_1k": 631, "h14_22k": 631, "h16_448_1k": 632, "g16_22k": 1_012},
    "mobilenetv2": {"035": 1.68 - 1.281, "075": 2.64 - 1.281},
    "mobilevit": {"s": 5.6 - 0.641, "xs": 2.32 - 0.385, "xxs": 1.27 - 0.321},
    "resnet": {"simclr_2x": 94, "simclr_4x": 375, "clip": 23.5},
    "resnet5m": {"resnet5m": 5.0},
    # Less the projection, which OpenCLIP counts.
    "clip": dict.fromkeys(["base32", "base32_laion"], 87.85 - 0.393)
    | dict.fromkeys(["base16", "base16_laion"], 86.19 - 0.393)
    | {"large14": 303.97 - 0.786, "large14_laion": 303.97 - 0.786, "large14_336": 304.29 - 0.786}
    | {"huge14_laion": 632.08 - 1.311},
    # As OpenCLIP counts; B/32 and giant by the paper's widths and depths.
    "siglip": {"base": 92.88, "base_256": 92.93, "large": 315.96, "so400m14": 427.68},
    "siglip2": {"base32": 92.88 + 1.77, "base": 92.88, "base_256": 92.93, "large": 315.96}
    | {"so400m14": 427.68, "so400m16": 427.68, "giant": 40 * 28.3 + 28.3 + 1.2},
    # Less the classifier of 1,000 classes.
    "swin": {"tiny": 28.3 - 0.769, "small": 50 - 0.769, "base": 88 - 1.025, "large": 197 - 1.537},
    "swinv2": {"tiny": 28.3 - 0.769, "small": 50 - 0.769, "base": 88 - 1.025, "large": 197 - 1.537},
    "convnext": {"tiny": 28.6 - 0.769, "small": 50 - 0.769, "base": 89 - 1.025, "large": 198 - 1.537}
    | {"xlarge": 350 - 2.049},
    "convnextv2": {"atto": 3.7 - 0.321, "femto": 5.2 - 0.385, "pico": 9.1 - 0.513, "nano": 15.6 - 0.641}
    | dict.fromkeys(["tiny", "tiny_fcmae"], 28.6 - 0.769)
    | dict.fromkeys(["base", "base_fcmae"], 89 - 1.025)
    | dict.fromkeys(["large", "large_fcmae"], 198 - 1.537)
    | dict.fromkeys(["huge", "huge_fcmae"], 660 - 2.817),
    "deit3": {"small": 22.0 - 0.385, "medium": 38.85 - 0.513, "base": 86.6 - 0.769, "large": 304.4 - 1.025}
    | {"huge": 632.1 - 1.281},
    "beit": {"base": 86, "large": 304, "base_v2": 86, "large_v2": 304},
    "eva02": {"tiny": 5.76 - 0.193, "small": 22, "base": 86, "large": 304, "large_m38m": 304},
    # Core as published; the others by their depth, without the pooling, which is about a block.
    "pe": {"tiny": 5.5 + 0.45, "small": 21.7 + 1.8, "base": 93, "large": 320, "gigantic": 1_880}
    | {"large_lang": 320 - 2 * 12.6, "gigantic_lang": 1_880 - 3 * 37 - 28, "base_spatial": 93 - 7.1}
    | {"large_spatial": 320 - 12.6, "gigantic_spatial": 1_880 - 28},
    "rad_dino": dict.fromkeys(["base", "maira_2"], 86.6),
    "phikon": {"v1": 85.8, "v2": 303.4},
    # Blocks of 12 squares of the width, and patches of 14 pixels.
    "webssl_dino": {"300m": 303.2, "1b": 1_134, "2b": 2_080, "3b": 2_943, "7b": 6_438},
}
DINOPL = json.loads((REFERENCES / "dinopl" / "encoders.json").read_text())
CONVNETS = {
    **{
        f"{width}_{form}": f"documented/convnet_{width}_{form}" for width in (16, 32) for form in ("1", "1e", "2", "2e")
    },
    **{f"{width}_x{depth}": f"latest/convnet_{width}_{depth}" for width in (16, 32) for depth in range(1, 6)},
}
# Exactly, as github.com/safelix/dinopl counts them; an MLP by its layers, on images of 224 pixels.
COUNTED: dict[str, dict[str, int]] = {
    "convnet": {size: DINOPL[name]["parameters"] for size, name in CONVNETS.items()},
    "vgg": {f"{n}{norm}": DINOPL[f"vgg{n}{norm}"]["parameters"] for n in (11, 13, 16, 19) for norm in ("", "_bn")},
    "resnet_tiny": {str(n): DINOPL[f"resnet{n}/tiny_stem"]["parameters"] for n in (18, 34, 50)}
    | {str(n): DINOPL[f"resnet{n}"]["parameters"] for n in (20, 56)},
    "mlp": {f"{w}_{n}": (3 * 224**2 + 1) * w + (n - 1) * (w + 1) * w for w in (512, 1024) for n in range(1, 6)},
    "pixels": {"pixels": 0},
}
SHAPES = {name: json.loads((REFERENCES / f"{name}_shapes.json").read_text()) for name in ("aim", "mambavision")}
# One of each architecture; the others are built in CI alone, as a transformer of 40 blocks takes a second.
QUICK = {
    *(("vit", "tiny"), ("dino", "small16"), ("mae", "base"), ("dinov2", "small"), ("dinov3", "small")),
    *(("dinov3_convnext", "tiny"), ("efficientnet_lite0", "lite0"), ("mobilenetv2", "100"), ("mobilevit", "xxs")),
    *(("resnet", "18"), ("resnet", "50"), ("resnet", "simclr_1x"), ("resnet5m", "resnet5m")),
    *(("clip", "base16"), ("siglip2", "base"), ("swin", "tiny"), ("convnextv2", "atto"), ("beit", "base")),
    *(("eva02", "tiny"), ("pe", "tiny"), ("convnet", "16_2e"), ("vgg", "11"), ("resnet_tiny", "20")),
    *(("mlp", "512_1"), ("pixels", "pixels")),
}


@pytest.fixture(scope="module")
def known() -> dict[str, Model]:
    return {model.name: model for model in models()}


def published(table: Mapping[str, Mapping[str, float]]) -> list[Any]:
    return [
        pytest.param(name, size, count, marks=() if (name, size) in QUICK else pytest.mark.nightly)
        for name, sizes in table.items()
        for size, count in sizes.items()
    ]


@pytest.mark.parametrize(("name", "size", "count"), after_nightly(2, published(WITH_CLASSIFIER)))
def test_parameters_are_those_published(known: dict[str, Model], name: str, size: str, count: int) -> None:
    entry = describe(known[name], size)
    assert entry.features is not None
    assert entry.parameters == count - 1000 * (entry.features + 1)


@pytest.mark.parametrize(("name", "size", "millions"), after_nightly(4, published(ROUNDED)))
def test_parameters_are_about_those_published(known: dict[str, Model], name: str, size: str, millions: float) -> None:
    assert describe(known[name], size).parameters == pytest.approx(millions * 1e6, rel=0.02)


@pytest.mark.parametrize(("name", "size", "count"), published(COUNTED))
def test_parameters_are_exactly_those_counted(known: dict[str, Model], name: str, size: str, count: int) -> None:
    assert describe(known[name], size).parameters == count


@pytest.mark.parametrize("size", list(SHAPES["mambavision"]))
def test_mambavision_has_the_official_parameters(known: dict[str, Model], size: str) -> None:
    entry, official = describe(known["mambavision"], size), SHAPES["mambavision"][size]
    assert entry.features == official["feature_dim"]
    assert entry.pixels == official["input"]["input_size"][-1]
    assert entry.parameters == official["num_params_backbone"]


@pytest.mark.parametrize("size", list(SHAPES["aim"]))
def test_aim_has_the_official_parameters_up_to_its_last_feature(known: dict[str, Model], size: str) -> None:
    official, entry = SHAPES["aim"][size], describe(known["aim"], size)
    last, depth, width = max(official["best_layers"]), official["config"]["num_blocks"], official["config"]["embed_dim"]
    block = sum(math.prod(entry["shape"]) for key, entry in official["keys"].items() if "blocks.{i}" in key)
    assert (entry.blocks, entry.features) == (last + 1, width)
    norm = 2 * width  # after the last block; raw outputs are used
    assert entry.parameters == official["num_params"]["backbone"] - norm - (depth - last - 1) * block


def test_every_size_of_the_repository_has_its_number_here(known: dict[str, Model]) -> None:
    numbers: dict[str, set[str | None]] = {name: set() for name in (*WITH_CLASSIFIER, *ROUNDED, *COUNTED)}
    for table in (dict[str, Any](WITH_CLASSIFIER), dict[str, Any](ROUNDED), dict[str, Any](COUNTED)):
        for name, sizes in table.items():
            numbers[name] |= set(sizes)
    numbers |= {name: set(shapes) for name, shapes in SHAPES.items()}
    numbers["ijepa"] |= {"b16_1k", "l14_22k"}  # never released
    numbers["hf"] = {None}  # whatever is asked for
    assert {name: set(model.sizes) for name, model in known.items() if not model.preset} == numbers


def test_presets_stand_for_their_size(known: dict[str, Model]) -> None:
    presets = {name: list(model.sizes) for name, model in known.items() if model.preset}
    assert presets == {
        **{"mobilenetv2_035": ["035"], "mobilenetv2_075": ["075"], "mobilenetv2_100": ["100"]},
        **{"mobilevit_s": ["s"], "mobilevit_xs": ["xs"], "mobilevit_xxs": ["xxs"]},
        **{"dino_base16": ["base16"], "resnet18": ["18"], "resnet50": ["50"]},
        **{"vit_base": ["base"], "vit_small": ["small"], "vit_tiny": ["tiny"]},
    }


@pytest.mark.parametrize(
    ("name", "size", "weights", "licence"),
    [
        ("mobilevit", "xxs", "hub", "cvnets-license"),
        ("mambavision", "T", "hub", "cc-by-nc-sa-4.0"),
        ("vit", "tiny", "hub", "apache-2.0"),
        ("resnet", "simclr_1x", "file", None),
        ("ijepa", "b16_1k", "unreleased", None),
    ],
)
def test_where_weights_are(known: dict[str, Model], name: str, size: str, weights: str, licence: str | None) -> None:
    entry = describe(known[name], size)
    assert (entry.weights, entry.licence, entry.note) == (weights, licence, None)
    assert (entry.parameters is None) == (weights == "unreleased")


OWN = """
import torch
from torch import nn
from dinodiet.errors import UserError
from dinodiet.io.declare import declares
from dinodiet.types import Description, InputSpec

SIZES = {"small": 3, "large": 5}


class Tiny(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.embed_dim, self.input = width, InputSpec(size=40, mean=(0.5,) * 3, std=(0.5,) * 3)
        self.description = Description(licence="mine")
        self.linear = nn.Linear(3, width)

    def forward(self, images):
        return self.linear(images.mean(dim=(2, 3)))

    def freezable_blocks(self):
        return [[self.linear]]

    def tail(self):
        return []


@declares(sizes=lambda: list(SIZES))
def tiny(spec, *, size: str, weights: str = "hub"):
    if weights != "none":
        raise AssertionError("it would download")
    if size == "large":
        raise UserError("size: large is broken today")
    return Tiny(SIZES[size])
"""


@pytest.fixture
def few_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Composing all takes seconds."""
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "mae.yaml").write_text((CONF / "model" / "mae.yaml").read_text())
    monkeypatch.setattr("dinodiet.catalogue.choices.CONF", tmp_path / "conf")


@pytest.mark.usefixtures("few_models")
def test_models_of_ones_own_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "own_tiny.py").write_text(OWN)
    (tmp_path / "model" / "mine.yaml").write_text("_target_: own_tiny.tiny\nsize: small\nweights: hub\n")
    (tmp_path / "model" / "preset.yaml").write_text("defaults: [mae, _self_]\nsize: large\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    known = {model.name: model for model in models(tmp_path)}
    mine = known["mine"]
    assert describe(mine, "small") == Entry("mine", "small", 12, 3, 1, 40, licence="mine")
    assert describe(mine, "large") == Entry("mine", "large", note="model.size: large is broken today")
    assert list(mine.sizes) == ["small", "large"]
    assert list(known["preset"].sizes) == ["large"]
    assert sorted(known) == ["mae", "mine", "preset"]


@pytest.mark.usefixtures("few_models")
def test_a_folder_without_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no folder model/ in it"):
        models(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("size: small\n")
    with pytest.raises(UserError, match=r"model: no _target_ in model/mine.yaml"):
        models(tmp_path)
    (tmp_path / "model" / "mine.yaml").write_text("_target_: no_such.factory\n")
    with pytest.raises(UserError, match=r"model/mine.yaml._target_: 'no_such.factory' cannot be imported"):
        models(tmp_path)
