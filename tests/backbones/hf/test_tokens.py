from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dinodiet.backbones.hf import HFBackbone
from dinodiet.errors import NotApplicable

from .tiny import NAMES, tiny

NETWORKS_OF_CONVOLUTIONS = ("convnext", "dinov3_convnext", "resnet")
WITHOUT_CLASS_TOKEN = ("ijepa", "siglip_vision", "swin")
OTHERS = [name for name in NAMES if name not in NETWORKS_OF_CONVOLUTIONS]


def images(backbone: HFBackbone) -> Tensor:
    return torch.rand(2, 3, backbone.input.size, backbone.input.size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", OTHERS)
@torch.no_grad()
def test_tokens_are_those_of_the_last_hidden_state(name: str) -> None:
    backbone = tiny(name)
    found, layout = backbone.tokens(images(backbone)), backbone.token_layout()
    parts = [] if found.class_token is None else [found.class_token[:, None]]
    together = torch.cat([*parts, found.registers, found.patches], dim=1)
    assert torch.equal(together, backbone.output(images(backbone)).last_hidden_state)
    assert layout.width == found.patches.shape[2]
    assert layout.class_token == (found.class_token is not None) == (name not in WITHOUT_CLASS_TOKEN)
    assert found.registers.shape[1] == (4 if name in ("dinov2_with_registers", "dinov3_vit") else 0)
    side = round(found.patches.shape[1] ** 0.5)
    assert side**2 == found.patches.shape[1]


@pytest.mark.parametrize("name", [name for name in OTHERS if name not in WITHOUT_CLASS_TOKEN])
@torch.no_grad()
def test_class_tokens_of_the_last_blocks(name: str) -> None:
    backbone = tiny(name)
    given, hidden = images(backbone), []
    for block in backbone.freezable_blocks():
        block[-1].register_forward_hook(lambda *given: hidden.append(given[2]))
    found = backbone.class_tokens(given, 2)
    last = backbone.tokens(given).class_token
    assert last is not None and torch.equal(found.chunk(2, dim=1)[1], last)
    norms = [part for part in backbone.tail() if isinstance(part, torch.nn.LayerNorm)]
    first = (hidden[0] if isinstance(hidden[0], Tensor) else hidden[0][0])[:, 0]
    assert torch.equal(found.chunk(2, dim=1)[0], norms[0](first) if norms else first)
    with pytest.raises(NotApplicable, match="needs 3 blocks; this network has 2"):
        backbone.class_tokens(given, 3)


@pytest.mark.parametrize("name", NETWORKS_OF_CONVOLUTIONS)
def test_networks_of_convolutions_are_refused(name: str) -> None:
    with pytest.raises(NotApplicable, match=r"needs the tokens of a transformer; .* has none"):
        tiny(name).tokens(images(tiny(name)))


@pytest.mark.parametrize("name", WITHOUT_CLASS_TOKEN)
def test_what_has_no_class_token_says_so(name: str) -> None:
    with pytest.raises(NotApplicable, match=r"needs a class token; .* has none"):
        tiny(name).class_tokens(images(tiny(name)), 1)
