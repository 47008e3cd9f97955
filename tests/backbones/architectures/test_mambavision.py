import argparse
import copy
import functools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from timm.layers.drop import DropPath
from torch import Tensor, nn

from dinodiet.backbones.architectures.mambavision import MambaVision, MambaVisionBackbone, Stage, mambavision
from dinodiet.backbones.architectures.mambavision_layers import Block, MambaMixer, from_windows, to_windows
from dinodiet.backbones.architectures.mambavision_sizes import SIZES, Architecture
from dinodiet.backbones.weights import released
from dinodiet.data.views.views import MultiCrop, SingleView
from dinodiet.errors import UserError
from dinodiet.methods.base import MethodBase
from dinodiet.types import Backbone, Batch, Clock, DataSpec
from tests.backbones.small import MODELS, pixels, read, target
from tests.methods import assemble
from tests.places import REFERENCES

SHAPES: dict[str, Any] = json.loads((REFERENCES / "mambavision_shapes.json").read_text())
TINY = ("mambavision_tiny", "mambavision_tiny_layer_scale")
PHOTOS = DataSpec("photos", num_images=10, num_labels=2)
ARCHITECTURE = {"depths": [1, 1, 3, 2], "num_heads": [1, 2, 4, 8], "window_size": [8, 8, 4, 2], "dim": 8, "in_dim": 4}


def build(*, spec: DataSpec = PHOTOS, **changes: Any) -> MambaVisionBackbone:
    """Build what the model file describes, without weights, with some settings changed."""
    return mambavision(spec, **{**read("mambavision"), "weights": "none", **changes})


def small(**changes: Any) -> MambaVisionBackbone:
    torch.manual_seed(0)
    return build(**{"image_size": 64, "model_args": ARCHITECTURE, **changes})


def images(side: int = 64, count: int = 2) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


# --- the published computation ----------------------------------------------------------------------------------------


@functools.cache
def tiny(name: str) -> tuple[MambaVision, Any]:
    """Return a published small network with its weights, and its published inputs and outputs."""
    settings = json.loads((REFERENCES / f"{name}.json").read_text())
    architecture = {key: settings[key] for key in Architecture.__dataclass_fields__ if key in settings}
    model = MambaVision(Architecture(**architecture), settings["num_classes"]).eval()
    model.load_state_dict(load_file(REFERENCES / f"{name}.safetensors"), strict=True)
    return model, np.load(REFERENCES / f"{name}.npz")


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


@pytest.mark.parametrize("picture", ["a", "b"])  # b: padded windows
@pytest.mark.parametrize("name", TINY)
def test_every_array_is_the_published_one(name: str, picture: str) -> None:
    model, reference = tiny(name)
    found = recorded(model, torch.from_numpy(reference[f"image_{picture}"]))
    expected = {key[:-2]: reference[key] for key in reference if key.endswith(f"_{picture}")}
    assert found.keys() == expected.keys() - {"image"}
    for key, value in found.items():
        exact = torch.from_numpy(expected[key])
        assert value.shape == exact.shape, key
        assert (value - exact).abs().max() < 1e-5 * exact.abs().max(), key


def expanded(size: str) -> dict[str, tuple[int, ...]]:
    """Return all keys and shapes of a published state dict."""
    shapes: dict[str, tuple[int, ...]] = {}
    for key, entry in SHAPES[size]["keys"].items():
        kind = re.search(r"\{(\w+)\}", key)
        stage = re.match(r"levels\.(\d)", key)
        names = [key]
        if kind and stage:
            kinds = SHAPES[size]["blocks"][int(stage[1])]
            names = [key.replace(kind[0], str(block)) for block, found in enumerate(kinds) if found == kind[1]]
        assert len(names) == entry["count"]
        shapes |= {name: tuple(entry["shape"]) for name in names}
    return shapes


@pytest.mark.parametrize("size", SIZES)
def test_parameters_keys_and_shapes_of_every_size(size: str) -> None:
    with torch.device("meta"):
        model = MambaVision(SIZES[size].architecture, num_classes=1000)
        backbone = build(size=size)
    assert {key: tuple(value.shape) for key, value in model.state_dict().items()} == expanded(size)
    assert sum(p.numel() for p in model.parameters()) == SHAPES[size]["num_params"]
    assert sum(p.numel() for p in backbone.parameters()) == SHAPES[size]["num_params_backbone"]
    assert backbone.embed_dim == SHAPES[size]["feature_dim"]


@pytest.mark.parametrize("size", SIZES)
def test_every_size_keeps_to_its_release(size: str) -> None:
    released, ours = SHAPES[size], SIZES[size]
    for name, value in vars(ours.architecture).items():
        found = released["config"][name]
        assert (tuple(found) if isinstance(found, list) else found) == value, name
    expected = f"https://huggingface.co/nvidia/{ours.repository}/resolve/main/{ours.file}.pth.tar"
    assert released["checkpoint_url"] == expected
    assert released["input"]["crop_pct"] == ours.crop_fraction
    assert released["input"]["input_size"] == [3, ours.resolution, ours.resolution]
    with torch.device("meta"):
        input_spec = build(size=size, image_size=None).input
    assert list(input_spec.mean) == released["input"]["mean"]
    assert list(input_spec.std) == released["input"]["std"]
    assert input_spec.interpolation == released["input"]["interpolation"]


def test_every_published_size_is_there() -> None:
    assert list(SIZES) == list(SHAPES)


# --- parts ------------------------------------------------------------------------------------------------------------


def test_windows_go_image_by_image_and_row_by_row() -> None:
    maps = torch.arange(2 * 4 * 6).view(2, 1, 4, 6)
    windows = to_windows(maps, 2)
    assert windows.shape == (12, 4, 1)
    assert windows[0].flatten().tolist() == [0, 1, 6, 7]
    assert windows[1].flatten().tolist() == [2, 3, 8, 9]
    assert windows[3].flatten().tolist() == [12, 13, 18, 19]
    assert windows[6].flatten().tolist() == [24, 25, 30, 31]


@pytest.mark.parametrize(("height", "width", "side"), [(4, 6, 2), (5, 7, 3), (1, 1, 4), (3, 9, 8)])
def test_windows_are_put_back_without_their_padding(height: int, width: int, side: int) -> None:
    maps = torch.randn(2, 3, height, width)
    windows = to_windows(maps, side)
    assert windows.abs().sum() == pytest.approx(float(maps.abs().sum()), rel=1e-5)  # zeros, nothing else
    assert torch.equal(from_windows(windows, side, height, width), maps)


def test_a_mixer_sees_both_sides_by_one_token_and_all_before() -> None:
    mixer = MambaMixer(16)
    tokens = torch.randn(1, 9, 16, requires_grad=True)
    (gradient,) = torch.autograd.grad(mixer(tokens)[0, 4].sum(), tokens)
    assert (gradient[0].abs().sum(dim=-1) > 0).tolist() == [True] * 6 + [False] * 3


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
        ({"size": "XL"}, r"size: 'XL'; choose from: T, T2, S, B, B_21k, L, L_21k, L2, L2_512_21k, L3_256_21k, "),
        ({"image_size": 0}, r"image_size: 0; must be positive"),
        ({"model_args": {"depth": 3}}, r"model_args: MambaVision has no depth; choose from: depths, num_heads, "),
        ({"model_args": {"depths": [1, 2]}}, r"model_args.depths: \[1, 2\]; must be four numbers"),
        ({"drop_path": 1.0}, r"drop_path: 1.0; must be at least 0 and below 1"),
    ],
)
def test_mistakes_are_told(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}"):
        build(**changes)


# --- weights ----------------------------------------------------------------------------------------------------------

TINY_ARGS = {"depths": [1, 1, 3, 2], "num_heads": [1, 2, 4, 8], "window_size": [8, 8, 4, 2], "dim": 16, "in_dim": 8}


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
        (
            "levels.2.blocks.0.mixer.A_log",
            torch.zeros(32, 16),
            r"1 of another shape \(levels.2.blocks.0.mixer.A_log \(32, 16\) instead of \(32, 8\)\)$",
        ),
        ("levels.2.blocks.0.gamma_1", torch.zeros(64), r"1 unexpected \(levels.2.blocks.0.gamma_1\)$"),
    ],
)
def test_a_file_that_does_not_fit_names_the_key(key: str, value: Tensor | None, message: str, tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in published().items() if name != key}
    path = save(state if value is None else {**state, key: value}, tmp_path / "x.pth.tar")
    with pytest.raises(UserError, match=rf"^weights: {path} does not fit mambavision_T: {message}") as caught:
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
    assert message.startswith(
        "weights: hub, but mambavision_tiny_1k.pth.tar of nvidia/MambaVision-T-1K is neither in the cache"
    )
    assert "HF_HUB_OFFLINE is set" in message
    assert message.endswith("weights=/path/to/file")
    assert "\n" not in message


# --- training ---------------------------------------------------------------------------------------------------------


def changed_by_a_step(method: MethodBase) -> set[str]:
    """Return the parameters and statistics of the trained backbone that one optimiser step changes."""
    method.train()
    backbone = method.backbone
    assert isinstance(backbone, nn.Module)
    before = copy.deepcopy(backbone.state_dict())
    pictures = torch.randint(0, 256, (4, 3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    batch = Batch(pictures, None, torch.arange(4))
    optimizer = torch.optim.SGD([group.as_dict() for group in method.param_groups()], lr=1.0)
    method(batch, Clock(0, 2, 1))["loss"].backward()
    optimizer.step()
    return {key for key, value in backbone.state_dict().items() if not torch.equal(value, before[key])}


def diet(backbone: MambaVisionBackbone) -> MethodBase:
    views = functools.partial(SingleView, strength=2)
    return assemble.diet(backbone, PHOTOS, views=views, trainable="last_2_blocks", head__warmup_fraction=0.0)


def dino(backbone: MambaVisionBackbone) -> MethodBase:
    views = functools.partial(MultiCrop, crops="2x64+2x40")
    small = {"head__out_dim": 16, "head__hidden_dims": [16, 16], "drop_path": 0.0}
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
