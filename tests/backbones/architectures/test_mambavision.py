import copy
import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.layers.drop import DropPath
from torch import Tensor, nn

from dinodiet.backbones.architectures.mambavision import MambaVision, MambaVisionBackbone, Stage
from dinodiet.backbones.architectures.mambavision_layers import Block, MambaMixer
from dinodiet.backbones.architectures.mambavision_sizes import SIZES
from dinodiet.data.views.views import MultiCrop, SingleView
from dinodiet.errors import UserError
from dinodiet.methods.base import MethodBase
from dinodiet.types import Backbone, Batch, Clock, DataSpec
from tests.backbones.architectures.mambavision_small import (
    ARCHITECTURE,
    PHOTOS,
    TINY,
    build,
    images,
    small,
    tiny,
)
from tests.backbones.small import MODELS, target
from tests.methods import assemble


def modules(model: MambaVision) -> dict[str, tuple[nn.Module, bool]]:
    """Return by the array's name the module that it comes out of, or (True) goes into."""
    stages = [stage for stage in model.levels if isinstance(stage, Stage)]
    found: dict[str, tuple[nn.Module, bool]] = {"patch_embed": (model.patch_embed, False)}
    for number, stage in enumerate(stages):
        found[f"stage{number}"] = (stage, False) if stage.downsample is None else (stage.downsample, True)
        if stage.downsample is not None:
            found[f"stage{number}_down"] = (stage.downsample, False)
    blocks = [block for block in stages[2].blocks if isinstance(block, Block)]
    for number, block in enumerate(blocks):
        found[f"stage2_block{number}"] = (block, False)
    for name, block in (("mixer", blocks[0]), ("attention", blocks[-1])):
        found |= {f"{name}_in": (block.mixer, True), f"{name}_out": (block.mixer, False)}
    return found | {"norm": (model.norm, False), "features": (model.head, True), "logits": (model.head, False)}


def recorded(model: MambaVision, x: Tensor) -> dict[str, Tensor]:
    arrays: dict[str, Tensor] = {}

    def record(name: str, ingoing: bool) -> Callable[..., None]:
        return lambda _, given, output: arrays.update({name: given[0] if ingoing else output})

    hooks = [module.register_forward_hook(record(name, ingoing)) for name, (module, ingoing) in modules(model).items()]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return arrays


@pytest.mark.parametrize("image", ["a", "b"])  # b: padded windows
@pytest.mark.parametrize("name", TINY)
def test_every_array_is_the_published_one(name: str, image: str) -> None:
    model, reference = tiny(name)
    found = recorded(model, torch.from_numpy(reference[f"image_{image}"]))
    expected = {key[:-2]: reference[key] for key in reference if key.endswith(f"_{image}")}
    assert found.keys() == expected.keys() - {"image"}
    for key, value in found.items():
        exact = torch.from_numpy(expected[key])
        assert value.shape == exact.shape, key
        assert (value - exact).abs().max() < 1e-5 * exact.abs().max(), key


def test_initial_weights() -> None:
    model = small().model
    linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
    weights = torch.cat([linear.weight.flatten() for linear in linears]).detach()
    assert weights.std() == pytest.approx(0.02, rel=0.02)
    assert all(not linear.bias.any() for linear in linears if linear.bias is not None)
    mixer = next(module for module in model.modules() if isinstance(module, MambaMixer))
    assert torch.equal(mixer.A_log.exp().round(), torch.arange(1.0, 9.0).expand(16, 8))
    assert torch.equal(mixer.D, torch.ones(16))
    scaled = small(size="B").model
    assert all(torch.equal(p, torch.full_like(p, 1e-5)) for name, p in scaled.named_parameters() if "gamma" in name)


def test_drop_path_rises_linearly_over_all_blocks() -> None:
    rates = [part.drop_prob for part in small(drop_path=0.6).modules() if isinstance(part, DropPath)]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])  # one a block, the first of seven without
    backbone = small(drop_path=0.6).train()
    assert not torch.equal(backbone(images()), backbone(images()))
    assert torch.equal(backbone.eval()(images()), backbone(images()))


# --- as a backbone ----------------------------------------------------------------------------------------------------


def test_the_interface() -> None:
    backbone = small()
    assert isinstance(backbone, Backbone)
    assert backbone.description.published == {"cifar10": {"knn/accuracy": 0.85}}
    assert target("mambavision") == "mambavision"
    header = (MODELS / "mambavision.yaml").read_text()
    assert "arXiv:2407.08083" in header
    assert "CC-BY-NC-SA-4.0" in header
    choices = re.search(r"size: T +# (.*)", header)
    assert choices is not None
    assert choices[1].split(" | ") == list(SIZES)


@pytest.mark.parametrize("side", [1, 31, 64, 96, 100])
def test_any_size_of_picture_will_do(side: int) -> None:
    assert small()(images(side)).shape == (2, 64)


def test_an_image_does_not_depend_on_its_batch() -> None:
    backbone = small().eval()
    together = backbone(images(100, 3))
    torch.testing.assert_close(backbone(images(100, 3)[1:2])[0], together[1])


@pytest.mark.parametrize(
    ("changes", "data", "side", "crop"),
    [
        ({}, {}, 224, 0.98),
        ({"size": "L3_256_21k"}, {}, 256, 1.0),
        ({"size": "L2_512_21k"}, {}, 512, 0.93),
        ({"image_size": 100}, {}, 100, 0.98),
        ({"image_size": 100}, {"image_size": 70}, 70, 0.98),
        ({}, {"native_size": 28}, 224, 1.0),  # framed already
        ({"weights": "none"}, {"native_size": 28}, 32, 1.0),
    ],
)
def test_the_input(
    changes: dict[str, Any], data: dict[str, Any], side: int, crop: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = None if changes.get("weights") == "none" else Path("weights")
    monkeypatch.setattr("dinodiet.backbones.architectures.mambavision.file_to_load", lambda *_: file)
    monkeypatch.setattr("dinodiet.backbones.architectures.mambavision.fill", lambda *_, **__: None)
    spec = DataSpec("photos", num_images=10, num_labels=2, **data)
    with torch.device("meta"):
        found = build(spec=spec, **{"size": "T2", "weights": "hub", **changes}).input
    assert (found.size, found.crop_fraction, found.divisor) == (side, crop, 1)


def test_signature_tells_forward_passes_apart() -> None:
    wider = {**ARCHITECTURE, "window_size": [8, 8, 4, 4]}
    changes: list[dict[str, Any]] = [{}, {"image_size": 96}, {"size": "B"}, {"model_args": wider}]
    signatures = [small(**change).description.signature for change in changes]
    assert len(set(signatures)) == len(changes)
    assert small(drop_path=0.1).description.signature == signatures[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": "XL"}, r"size: 'XL'; choose from"),
        ({"model_args": {"depth": 3}}, r"model_args: .* no depth; choose from"),
        ({"model_args": {"depths": [1, 2]}}, r"model_args.depths: \[1, 2\]; "),
    ],
)
def test_mistakes_are_told(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}"):
        build(**changes)


# --- weights ----------------------------------------------------------------------------------------------------------


def changed_by_a_step(method: MethodBase) -> set[str]:
    """Return the parameters and statistics of the trained backbone that one optimiser step changes."""
    method.train()
    backbone = method.backbone
    assert isinstance(backbone, nn.Module)
    before = copy.deepcopy(backbone.state_dict())
    images = torch.randint(0, 256, (4, 3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    batch = Batch(images, None, torch.arange(4))
    optimizer = torch.optim.SGD([group.as_dict() for group in method.param_groups()], lr=1.0)
    method(batch, Clock(0, 2, 1))["loss"].backward()
    optimizer.step()
    return {key for key, value in backbone.state_dict().items() if not torch.equal(value, before[key])}


def diet(backbone: MambaVisionBackbone) -> MethodBase:
    views = functools.partial(SingleView, strength=2)
    return assemble.diet(backbone, PHOTOS, views=views, trainable="last_2_blocks", head__warmup_fraction=0.0)


def dino(backbone: MambaVisionBackbone) -> MethodBase:
    views = functools.partial(MultiCrop, crops="2x64+2x40")
    small = {"head__out_dim": 16, "head__hidden_dims": [16, 16], "student__drop_path": 0.0}
    return assemble.dino(backbone, PHOTOS, views=views, trainable="last_2_blocks", **small)


@pytest.mark.parametrize("method", [diet, dino])
def test_a_step_with_two_blocks_changes_exactly_these(method: Callable[[MambaVisionBackbone], MethodBase]) -> None:
    backbone = small()
    changed = changed_by_a_step(method(backbone))
    pattern = re.compile(r"model\.(levels\.3\.blocks\.[01]\.|norm\.)")
    expected = {key for key in backbone.state_dict() if pattern.match(key)}
    assert len(expected) == 17 + 12 + 5  # a Mamba block, an attention block, the final norm
    assert changed == expected


def test_a_block_brings_the_downsampling_after_it() -> None:
    backbone = small()
    blocks = backbone.freezable_blocks()
    assert [len(block) for block in blocks] == [2, 2, 1, 1, 2, 1, 1]
    inside = {p for block in blocks for module in block for p in module.parameters()}
    stem = set(backbone.model.patch_embed.parameters())
    tail = {p for module in backbone.tail() for p in module.parameters()}
    assert inside | stem | tail == set(backbone.parameters())


def test_every_parameter_learns() -> None:
    backbone = small(size="B", model_args={**ARCHITECTURE, "layer_scale": 0.1}).train()
    direction = torch.randn(2, 64, generator=torch.Generator().manual_seed(1))
    (backbone(images()) * direction).sum().backward()
    assert not [name for name, p in backbone.named_parameters() if p.grad is None or not p.grad.any()]
