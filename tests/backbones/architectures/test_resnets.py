import json
import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from timm.models.resnet import BasicBlock
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck

from dinodiet.backbones import TimmBackbone
from dinodiet.backbones.architectures.resnets import TinyResNet
from dinodiet.errors import UserError
from tests.backbones.architectures import dinopl
from tests.backbones.layouts import renamed
from tests.backbones.small import build
from tests.kinds import after_nightly
from tests.methods.steps import moved

DINOPL = json.loads((dinopl.FOLDER / "encoders.json").read_text())


def images(side: int = 64) -> Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))


def torchvisions(width: int) -> nn.Module:
    """Return torchvision's ResNet-50 with all layers `width` times as wide: what the converter of SimCLR writes."""
    model = torchvision.models.ResNet(Bottleneck, [3, 4, 6, 3])
    model.inplanes = 64 * width
    model.conv1 = nn.Conv2d(3, model.inplanes, 7, 2, 3, bias=False)
    model.bn1 = nn.BatchNorm2d(model.inplanes)
    for stage, depth in enumerate((3, 4, 6, 3)):
        layer = model._make_layer(Bottleneck, 64 * width * 2**stage, depth, stride=1 if stage == 0 else 2)
        setattr(model, f"layer{stage + 1}", layer)
    model.fc = nn.Linear(2048 * width, 1000)
    wide: nn.Module = model.eval()
    return wide


def simclr(width: int, **changes: Any) -> TimmBackbone:
    return build("resnet50", size=f"simclr_{width}x", image_size=64, **changes).eval()


# --- SimCLR -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("width", "millions"), [(1, 23.5), (2, 93.9), (4, 375.4)])
def test_every_width_has_the_converted_files_keys_and_shapes(width: int, millions: float) -> None:
    with torch.device("meta"):
        own, reference = simclr(width).model.state_dict(), torchvisions(width).state_dict()
    found = {key: value.shape for key, value in reference.items() if not key.startswith("fc.")}
    assert {key: value.shape for key, value in own.items()} == found
    count = sum(value.numel() for key, value in own.items() if "running" not in key and "num_" not in key)
    assert count / 1e6 == pytest.approx(millions, abs=0.1)


@torch.no_grad()
@pytest.mark.slow
def test_a_converted_file_gives_the_reference_features(tmp_path: Path) -> None:
    reference = torchvisions(1)
    torch.save({"state_dict": reference.state_dict()}, tmp_path / "resnet50-1x.pth")
    loaded = simclr(1, weights=str(tmp_path / "resnet50-1x.pth"))
    reference.fc = nn.Identity()
    torch.testing.assert_close(loaded(images()), reference(images()))
    with pytest.raises(UserError, match=r"^weights: .*resnet50-1x.pth does not fit .* of another shape"):
        simclr(2, weights=str(tmp_path / "resnet50-1x.pth"))


@torch.no_grad()
@pytest.mark.slow
def test_the_wide_network_computes_what_torchvisions_does() -> None:
    reference, wide = torchvisions(2), simclr(2)
    reference.fc = nn.Identity()
    wide.model.load_state_dict(reference.state_dict())
    torch.testing.assert_close(wide(images(32)), reference(images(32)))


def test_simclr_sees_pictures_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dinodiet.backbones.timm.load_weights", lambda *_, **__: None)
    with torch.device("meta"):
        found = simclr(1, weights="file").input
    assert (found.mean, found.std, found.crop_fraction) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 0.875)


def test_simclrs_weights_have_to_be_converted() -> None:
    message = r"^weights: hub, but resnet50x4_simclr has .*simclr-converter\)$"
    with torch.device("meta"), pytest.raises(UserError, match=message):
        simclr(4, weights="hub")


# --- CLIP -------------------------------------------------------------------------------------------------------------


def official_clip(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """RN50 under CLIP's own names, with its attention pooling and a part of its text model."""
    visual = renamed(
        state,
        (r"^stem\.conv(\d)\.conv", r"conv\1"),
        (r"^stem\.conv(\d)\.bn", r"bn\1"),
        *((rf"^stages\.{stage}", f"layer{stage + 1}") for stage in range(4)),
        (r"conv(\d)_\w+\.conv", r"conv\1"),
        (r"conv(\d)_\w+\.bn", r"bn\1"),
        (r"shortcut\.conv\.conv", "downsample.0"),
        (r"shortcut\.conv\.bn", "downsample.1"),
    )
    visual |= {"attnpool.positional_embedding": torch.zeros(50, 2048), "attnpool.q_proj.weight": torch.zeros(8, 8)}
    return {f"visual.{key}": value for key, value in visual.items()} | {"logit_scale": torch.ones([])}


@torch.no_grad()
@pytest.mark.slow
def test_clips_own_layout_is_read(tmp_path: Path) -> None:
    original = build("resnet50", size="clip", image_size=64).eval()
    state = official_clip(original.model.state_dict())
    assert {"visual.conv1.weight", "visual.layer1.0.downsample.0.weight", "visual.layer4.2.bn3.bias"} <= set(state)
    torch.save(state, tmp_path / "clip.pth")
    loaded = build("resnet50", size="clip", image_size=64, weights=str(tmp_path / "clip.pth")).eval()
    assert original.embed_dim == 2048
    for side in (64, 96):
        torch.testing.assert_close(loaded(images(side)), original(images(side)))
    del state["visual.layer4.2.bn3.bias"]
    torch.save(state, tmp_path / "clip.pth")
    with pytest.raises(UserError, match=r"1 missing \(stages.3.2.conv3_1x1.bn.bias\)$"):
        build("resnet50", size="clip", weights=str(tmp_path / "clip.pth"))


# --- ResNet5M ---------------------------------------------------------------------------------------------------------


def test_resnet5m_has_five_million_parameters_and_512_features() -> None:
    backbone = build("resnet5m", image_size=64)
    count = sum(p.numel() for p in backbone.parameters())
    assert (count, backbone.embed_dim) == (4_956_480, 512)
    assert [len(stage) for (stage,) in backbone.freezable_blocks()] == [3, 6, 1]  # type: ignore[arg-type]
    assert backbone.model.forward_features(images()).shape == (2, 512, 4, 4)


@pytest.mark.slow
@pytest.mark.parametrize("method", after_nightly(1, ["diet", "dino"]))
def test_a_step_moves_the_last_two_stages_of_clip(method: Any) -> None:
    backbone = build("resnet50", size="clip", image_size=32)
    expected = {name for name in backbone.state_dict() if re.match(r"model\.stages\.[23]\.", name)}
    assert moved(backbone, method, "last_2_blocks") == expected


# --- ResNets for small images -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "key"), [(f"{n}_tiny", f"resnet{n}/tiny_stem") for n in (18, 34, 50)])
def test_resnets_of_a_tiny_stem_have_the_known_parameters(name: str, key: str) -> None:
    network = timm.create_model(f"resnet{name}", num_classes=0)
    assert sum(parameter.numel() for parameter in network.parameters()) == DINOPL[key]["parameters"]
    assert network.num_features == DINOPL[key]["features"]


def test_resnet20_is_the_published_encoder_and_56_has_its_parameters() -> None:
    dinopl.check(timm.create_model("resnet20_tiny", num_classes=0), "resnet20")
    network = timm.create_model("resnet56_tiny", num_classes=0)
    assert sum(parameter.numel() for parameter in network.parameters()) == DINOPL["resnet56"]["parameters"] == 855_120


def test_the_tiny_stem_is_the_published_one() -> None:
    dinopl.check(TinyResNet(BasicBlock, (1, 1, 1, 1), (8, 16, 32, 64), num_classes=0), "resnet18_layout_width8_tiny")


def test_a_tiny_stem_keeps_the_side_of_small_images() -> None:
    names = ("resnet18_tiny", "resnet20_tiny")
    network, narrow = [timm.create_model(name, num_classes=0) for name in names]  # type: Any, Any
    images = torch.rand(2, 3, 32, 32)
    assert network.layer1(network.act1(network.bn1(network.conv1(images)))).shape == (2, 64, 32, 32)
    assert network.forward_features(images).shape == (2, 512, 4, 4)
    assert narrow.forward_features(images).shape == (2, 64, 8, 8)
