import copy
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dinodiet.backbones import TimmBackbone, set_trainable
from dinodiet.backbones.freeze import first_trained
from dinodiet.config.build import build as build_node
from dinodiet.types import Backbone
from tests.backbones.toy import Toy
from tests.contracts.choices import small_model
from tests.kinds import rest_nightly

from .small import DATA, SMALL, build_small

# Parameters of the last two blocks and of what follows them, by the names that timm gives them.
LAST_TWO = {
    "resnet18": r"layer[34]\.",
    "resnet5m": r"layer[23]\.",
    "dinov3_convnext": r"stages\.[23]\.|head\.norm\.",
    "convnext": r"stages\.[23]\.|head\.norm\.",
    "convnextv2": r"stages\.[23]\.|head\.norm\.",
    "swin": r"layers\.1\.|norm\.",
    "swinv2": r"layers\.1\.|norm\.",
    "beit": r"blocks\.[12]\.|fc_norm\.",
    "eva02": r"blocks\.[12]\.|fc_norm\.",
    "siglip2": r"blocks\.[12]\.|norm\.|attn_pool\.",
    "pe": r"blocks\.[12]\.|norm\.|attn_pool\.",
    "mobilevit_xxs": r"stages\.[34]\.|final_conv\.",
    "mobilenetv2_035": r"blocks\.[56]\.|conv_head\.|bn2\.",
    "efficientnet_lite0": r"blocks\.[56]\.|conv_head\.|bn2\.",
}
TRANSFORMER = r"blocks\.[12]\.|norm\."  # of three blocks


def images(backbone: TimmBackbone, count: int = 4) -> Tensor:
    side = backbone.input.size
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def wake_branches(backbone: TimmBackbone) -> None:
    """Move every parameter a little: some start at zero, which stops the gradient of those before them."""
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.01)


def backward(backbone: TimmBackbone) -> set[str]:
    """Return the parameters that a random direction of the embedding has a gradient in."""
    embeddings = backbone(images(backbone))
    direction = torch.randn(embeddings.shape, generator=torch.Generator().manual_seed(1))
    if embeddings.requires_grad:
        (embeddings * direction).sum().backward()
    return {name for name, p in backbone.model.named_parameters() if p.grad is not None and bool(p.grad.any())}


@pytest.mark.parametrize("model", rest_nightly(SMALL, list(SMALL)[::4]))
def test_exactly_the_chosen_parameters_get_a_gradient(model: str) -> None:
    names = {name for name, _ in build_small(model).model.named_parameters()}
    pattern = LAST_TWO.get(model, TRANSFORMER)
    expected = {
        "all": names,
        "last_2_blocks": {name for name in names if re.match(pattern, name)},
        "head_only": set[str](),
    }
    assert expected["last_2_blocks"]
    for trainable, chosen in expected.items():
        torch.manual_seed(0)
        backbone = build_small(model)
        wake_branches(backbone)
        set_trainable(backbone, trainable)
        backbone.train()
        assert {name for name, p in backbone.model.named_parameters() if p.requires_grad} == chosen, trainable
        assert backward(backbone) == chosen, trainable


@pytest.mark.parametrize("model", SMALL)
def test_autograd_records_nothing_of_the_frozen_part(model: str) -> None:
    backbone = build_small(model)
    set_trainable(backbone, "last_2_blocks")
    recorded: list[bool] = []
    for block in backbone.freezable_blocks():
        block[-1].register_forward_hook(lambda *call: recorded.append(call[-1].requires_grad))
    backbone.train()(images(backbone))
    frozen = len(recorded) - 2
    assert recorded == [False] * frozen + [True] * 2
    set_trainable(backbone, "head_only")
    assert not backbone(images(backbone)).requires_grad


def saved_bytes(backbone: TimmBackbone) -> int:
    sizes: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        sizes.append(tensor.nbytes)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        backbone(images(backbone))
    return sum(sizes)


def test_freezing_saves_the_memory_of_the_frozen_part() -> None:
    memory = []
    for trainable in ("head_only", "last_1_blocks", "last_2_blocks", "all"):
        backbone = build_small("vit_tiny").train()
        set_trainable(backbone, trainable)
        memory.append(saved_bytes(backbone))
    assert memory[0] == 0
    assert 0 < memory[1] < 0.6 * memory[2] < 0.45 * memory[3]


def statistics(module: nn.Module) -> list[Tensor]:
    return [value.clone() for name, value in module.named_buffers() if name.endswith("running_mean")]


@pytest.mark.parametrize("model", ["resnet18", "efficientnet_lite0", "mobilevit_xxs"])
def test_frozen_batchnorm_stands_still_after_train_and_in_a_deep_copy(model: str) -> None:
    original = build_small(model)
    set_trainable(original, "last_2_blocks")
    for backbone in (original, copy.deepcopy(original)):
        backbone.train()
        frozen = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d) and not m.weight.requires_grad]
        trained = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d) and m.weight.requires_grad]
        assert frozen and not any(m.training for m in frozen)
        assert trained and all(m.training for m in trained)
        before = [statistics(m)[0] for m in frozen], [statistics(m)[0] for m in trained]
        backbone(images(backbone))
        assert all(torch.equal(a, statistics(m)[0]) for a, m in zip(before[0], frozen, strict=True))
        assert all(not torch.equal(a, statistics(m)[0]) for a, m in zip(before[1], trained, strict=True))


def test_a_copy_is_frozen_on_its_own() -> None:
    original = build_small("resnet18")
    set_trainable(original, "head_only")
    twin = copy.deepcopy(original)
    set_trainable(twin, "all")
    twin.train()
    original.train()
    assert twin.model.layer1.training
    assert not original.model.layer1.training
    again = copy.deepcopy(original).model
    assert again.train() is again


def test_frozen_blocks_drop_no_paths() -> None:
    backbone = build_small("vit_tiny", drop_path=0.9)
    set_trainable(backbone, "head_only")
    backbone.train()
    x = images(backbone)
    assert torch.equal(backbone(x), backbone(x))
    set_trainable(backbone, "all")
    assert not torch.equal(backbone(x), backbone(x))


def test_the_choice_can_be_changed_and_leaves_the_mode_alone() -> None:
    backbone = build_small("resnet18").train()
    set_trainable(backbone, "head_only")
    assert backbone.training
    assert not backbone.model.layer4.training
    set_trainable(backbone, "last_1_blocks")
    assert backbone.model.layer4.training
    assert not backbone.model.layer3.training
    set_trainable(backbone, "all")
    assert all(module.training for module in backbone.modules())
    assert all(p.requires_grad for p in backbone.parameters())
    assert not any(module.training for module in backbone.eval().modules())


def test_blocks_that_are_trained_in_part_drop_paths() -> None:
    backbone = build_small("vit_tiny", drop_path=0.9)
    set_trainable(backbone, "attn_proj")
    backbone.train()
    x = images(backbone)
    assert not torch.equal(backbone(x), backbone(x))
    backbone.eval()
    assert torch.equal(backbone(x), backbone(x))


def test_batchnorm_keeps_its_statistics_with_bias_and_follows_the_images_with_norms() -> None:
    for trainable, moves in (("bias", False), ("norms", True)):
        backbone = build_small("resnet18")
        set_trainable(backbone, trainable)
        before = statistics(backbone)
        backbone.train()(images(backbone))
        same = [torch.equal(a, b) for a, b in zip(before, statistics(backbone), strict=True)]
        assert same == [not moves] * len(same), trainable


def test_the_first_trained_block_is_the_first_that_holds_something_trained() -> None:
    backbone = build_small("mobilevit_xxs")  # attention in the last three of five stages
    assert [first_trained(backbone, word) for word in ("attn_proj", "norms", "last_2_blocks", "head_only", "all")] == [
        *(2, 0, 3, 5, 0)
    ]


def test_blocks_in_half_precision_hold_what_is_trained_in_full() -> None:
    backbone: Any = build_node(small_model("aim") | {"dtype": "bf16"}, "model", Backbone)(spec=DATA)
    set_trainable(backbone, "attn_proj")
    types = {p.dtype for block in backbone.freezable_blocks() for part in block for p in part.parameters()}
    assert types == {torch.float32}
    backbone(torch.rand(2, 3, 42, 42)).sum().backward()


class Shared(Toy):
    """Two blocks with one layer in common."""

    def __init__(self) -> None:
        super().__init__(4, side=1)
        self.common = nn.Linear(4, 4)
        self.blocks = nn.ModuleList(nn.ModuleDict({"own": nn.Linear(4, 4), "common": self.common}) for _ in range(2))

    def freezable_blocks(self) -> list[list[nn.Module]]:
        return [[block] for block in self.blocks]


def test_what_a_frozen_block_shares_with_a_trained_one_stays_frozen() -> None:
    backbone = Shared()
    set_trainable(backbone, "last_1_blocks")
    assert [name for name, p in backbone.named_parameters() if p.requires_grad] == [
        "blocks.1.own.weight",
        "blocks.1.own.bias",
    ]
    set_trainable(backbone, "last_2_blocks")
    assert all(p.requires_grad for p in backbone.parameters())
