"""What every file of conf/model keeps to: as released on the meta device, and small with values."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable
from typing import Any

import pytest
import torch
import torchvision.transforms.v2.functional as tvf
from torch import Tensor, nn

from dinodiet.backbones.freeze import set_trainable
from dinodiet.backbones.meta import backbone_on_meta
from dinodiet.backbones.without_values import forward_on_meta
from dinodiet.config.build import build
from dinodiet.errors import NotReleased, UserError
from dinodiet.types import Backbone, DataSpec
from tests.contracts.choices import names, node, small_model
from tests.kinds import networks_nightly

MODELS = names("model")
FAMILIES = list({json.dumps(small_model(name), sort_keys=True): name for name in MODELS[::-1]}.values())[::-1]
TRAINED = [name for name in FAMILIES if name != "pixels"]  # which has no parameters
NORMS = ("LayerNorm", "LayerNorm2d", "BatchNorm2d", "BatchNormAct2d", "GlobalResponseNorm", "RmsNorm", "GroupNorm")
SPEC = DataSpec("photos", num_images=10, num_labels=2)


def small(name: str, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return build(small_model(name), "model", Backbone)(spec=SPEC).eval()


def images(backbone: Backbone) -> Tensor:
    return torch.rand(2, 3, *[backbone.input.size] * 2, generator=torch.Generator().manual_seed(0))


def parameters(modules: Iterable[nn.Module]) -> list[int]:
    return [id(parameter) for module in modules for parameter in module.parameters()]


RELEASED = [name for name in MODELS if name != "hf"]  # which is whatever is asked for


@pytest.mark.parametrize("name", networks_nightly(RELEASED))
def test_the_released_model_is_described_and_embeds(name: str) -> None:
    """Its weights are not needed: the meta device has no values."""
    chosen = node("model", name)
    try:
        backbone: Any = backbone_on_meta({**chosen, "weights": "hub"}, SPEC)
    except NotReleased:
        backbone = backbone_on_meta({**chosen, "weights": "none"}, SPEC)
    else:
        assert backbone.description.licence
    assert backbone.description.signature
    assert (backbone.description.family, backbone.description.size) == (chosen["family"], str(chosen["size"]))
    assert backbone.description.published == chosen.get("published", {})
    side = backbone.input.size
    assert side % backbone.input.divisor == 0
    assert forward_on_meta(backbone, side).shape == (1, backbone.embed_dim)


@pytest.mark.parametrize("name", networks_nightly(FAMILIES))
def test_a_model_embeds_images_and_normalises_them_itself(name: str) -> None:
    backbone = small(name)
    convolutions = (part for part in backbone.modules() if isinstance(part, nn.Conv2d) and part.in_channels == 3)
    first = next(convolutions, backbone.model)  # a model of pixels alone has none
    seen: list[Tensor] = []
    first.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    given = images(backbone)
    found = backbone(given)
    assert found.shape == (2, backbone.embed_dim) and found.dtype == torch.float32 and found.isfinite().all()
    assert not torch.equal(found[0], found[1])
    expected = tvf.normalize(given, list(backbone.input.mean), list(backbone.input.std))
    torch.testing.assert_close(seen[0], expected)


@pytest.mark.parametrize("name", networks_nightly(TRAINED))
def test_blocks_and_tail_are_disjoint_parts_that_exactly_are_trained(name: str) -> None:
    backbone = small(name)
    blocks, tail = backbone.freezable_blocks(), backbone.tail()
    parts = [*(module for block in blocks for module in block), *tail]
    assert len(blocks) >= 2 and all(parameters(block) for block in blocks)
    assert {id(part) for part in parts} <= {id(part) for part in backbone.modules()}
    held = parameters(parts)
    assert len(set(held)) == len(held)
    set_trainable(backbone, "last_1_blocks")
    backbone.train()
    expected = set(parameters([*blocks[-1], *tail]))
    assert {id(parameter) for parameter in backbone.parameters() if parameter.requires_grad} == expected
    backbone(images(backbone)).sum().backward()
    assert {id(parameter) for parameter in backbone.parameters() if parameter.grad is not None} == expected


@pytest.mark.parametrize("name", networks_nightly(TRAINED))
@pytest.mark.parametrize("trainable", ["attn_proj", "norms", "bias"])
def test_exactly_the_named_layers_are_trained_or_the_model_says_what_it_has(name: str, trainable: str) -> None:
    backbone = small(name)
    expected = of_kind(backbone, trainable)
    if not expected:
        with pytest.raises(
            UserError, match=f"^trainable: '{trainable}', but this backbone has no .*; choose from: all"
        ):
            set_trainable(backbone, trainable)
        return
    set_trainable(backbone, trainable)
    backbone.train()
    assert {key for key, parameter in backbone.named_parameters() if parameter.requires_grad} == expected
    backbone(images(backbone)).sum().backward()
    assert {key for key, parameter in backbone.named_parameters() if parameter.grad is not None} == expected


@pytest.mark.parametrize("name", networks_nightly(TRAINED))
def test_adapters_change_nothing_at_first_and_are_all_that_is_trained_or_the_model_has_no_attention(name: str) -> None:
    backbone = small(name)
    given = images(backbone)
    with torch.no_grad():
        expected = backbone(given)
    if not of_kind(backbone, "attn_proj"):
        with pytest.raises(
            UserError, match=r"^trainable: 'lora_2', but this backbone has no attention; choose from: all"
        ):
            set_trainable(backbone, "lora_2")
        return
    set_trainable(backbone, "lora_2")
    with torch.no_grad():
        assert torch.equal(backbone.eval()(given), expected)
    trained = {key for key, parameter in backbone.named_parameters() if parameter.requires_grad}
    assert trained and all(".lora_A." in key or ".lora_B." in key for key in trained)
    backbone.train()(given).sum().backward()
    assert {key for key, parameter in backbone.named_parameters() if parameter.grad is not None} == trained


def of_kind(backbone: Any, trainable: str) -> set[str]:
    """Return the names of parameters that a value of `trainable` means, by the names that their publishers chose."""
    blocks = {id(part) for block in backbone.freezable_blocks() for root in block for part in root.modules()}
    places = {key: backbone.get_submodule(key.rpartition(".")[0]) for key, _ in backbone.named_parameters()}
    if trainable == "attn_proj":
        pattern = re.compile(r"(attn|attention|mixer)\.(proj|o_proj)\.(weight|bias)$")
        return {key for key, place in places.items() if id(place) in blocks and pattern.search(key)}
    if trainable == "norms":
        return {key for key, place in places.items() if type(place).__name__ in NORMS}
    return {key for key in places if re.search(r"(\.|_)bias$", key)}


@pytest.mark.parametrize("name", networks_nightly(TRAINED))
def test_copies_and_restored_states_embed_alike(name: str) -> None:
    backbone, other = small(name), small(name, seed=1)
    given = images(backbone)
    with torch.no_grad():
        expected = backbone(given)
        twin = copy.deepcopy(backbone)
        assert torch.equal(twin(given), expected)
        assert not torch.equal(other(given), expected)
        other.load_state_dict(backbone.state_dict())
        assert torch.equal(other(given), expected)
        for parameter in twin.parameters():
            parameter.add_(1.0)
        assert torch.equal(backbone(given), expected)


@pytest.mark.parametrize("name", networks_nightly(FAMILIES))
def test_the_planned_model_is_the_one_that_is_built(name: str) -> None:
    built, planned = small(name), backbone_on_meta(small_model(name), SPEC)
    assert isinstance(planned, nn.Module)
    assert {key: value.shape for key, value in planned.state_dict().items()} == {
        key: value.shape for key, value in built.state_dict().items()
    }
    assert (planned.input, planned.embed_dim, planned.description) == (built.input, built.embed_dim, built.description)
