"""Models of transformers give what the library gives, at every size, and are trained block by block."""

import copy

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from dinodiet.backbones.freeze import first_trained, set_trainable
from dinodiet.backbones.recompute import recompute_blocks
from dinodiet.backbones.split import Split
from dinodiet.errors import UserError
from tests.kinds import after_nightly, rest_nightly

from .tiny import NAMES, images_of, reference, tiny

SOME = ("convnext", "dinov2_with_registers", "swin", "vit_mae")
POOLED = ("beit", "convnext", "dinov3_convnext", "resnet", "siglip_vision", "swin")
DROPPING = ("beit", "convnext", "dinov2", "dinov2_with_registers", "dinov3_convnext", "dinov3_vit", "swin")
# What `auto` means, the tokens in front of the patches, and the blocks.
FACTS = {
    "beit": ("pooler", 1, 2),
    "convnext": ("pooler", 0, 4),
    "dinov2": ("cls", 1, 2),
    "dinov2_with_registers": ("cls", 5, 2),
    "dinov3_convnext": ("pooler", 1, 4),
    "dinov3_vit": ("cls", 5, 2),
    "ijepa": ("mean_patch", 0, 2),
    "resnet": ("pooler", 0, 4),
    "siglip_vision": ("pooler", 0, 2),
    "swin": ("pooler", 0, 4),
    "vit": ("cls", 1, 2),
    "vit_mae": ("cls", 1, 2),
}


@pytest.mark.parametrize("name", rest_nightly(NAMES, SOME))
def test_outputs_are_those_of_the_library_square_and_not(name: str) -> None:
    backbone, arrays = tiny(name), reference(name)
    feature, prefix, blocks = FACTS[name]
    assert backbone.feature == feature and len(backbone.freezable_blocks()) == blocks
    for suffix in ("", "_b"):
        if f"pixel_values{suffix}" not in arrays:
            continue
        images = images_of(backbone, arrays[f"pixel_values{suffix}"])
        states, pooled = arrays[f"last_hidden_state{suffix}"], arrays.get(f"pooler_output{suffix}")
        with torch.no_grad():
            found, embeddings = backbone.output(images), backbone(images)
        torch.testing.assert_close(found.last_hidden_state, states, rtol=0, atol=1e-5)
        if feature == "pooler":
            assert pooled is not None
            expected = pooled.flatten(1)
        else:
            expected = states[:, 0] if feature == "cls" else states[:, prefix:].mean(1)
        torch.testing.assert_close(embeddings, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", after_nightly(2, ["vit", *POOLED]))
def test_the_pooler_is_that_of_the_library(name: str) -> None:
    backbone, arrays = tiny(name, feature="pooler"), reference(name)
    with torch.no_grad():
        found = backbone(images_of(backbone, arrays["pixel_values"]))
    torch.testing.assert_close(found, arrays["pooler_output"].flatten(1), rtol=0, atol=1e-5)


def test_patches_are_averaged_without_class_token_and_registers() -> None:
    backbone, arrays = tiny("dinov2_with_registers", feature="mean_patch"), reference("dinov2_with_registers")
    with torch.no_grad():
        found = backbone(images_of(backbone, arrays["pixel_values"]))
    torch.testing.assert_close(found, arrays["last_hidden_state"][:, 5:].mean(1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", rest_nightly(NAMES, SOME))
def test_gradients_are_exactly_in_the_blocks_that_are_trained(name: str) -> None:
    backbone = tiny(name)
    set_trainable(backbone, "last_2_blocks")
    backbone.train()
    chosen = {key for key, parameter in backbone.named_parameters() if parameter.requires_grad}
    parts = [module for block in backbone.freezable_blocks()[-2:] for module in block] + backbone.tail()
    assert chosen and {id(p) for part in parts for p in part.parameters()} == {
        id(p) for p in backbone.parameters() if p.requires_grad
    }
    backbone(torch.rand(2, 3, backbone.input.size, backbone.input.size)).sum().backward()
    assert {key for key, parameter in backbone.named_parameters() if parameter.grad is not None} == chosen
    set_trainable(backbone, "all")
    backbone(torch.rand(2, 3, backbone.input.size, backbone.input.size)).sum().backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters())


@pytest.mark.parametrize("name", rest_nightly(NAMES, SOME))
def test_trunk_and_rest_are_the_backbone_also_recomputed(name: str) -> None:
    torch.manual_seed(0)
    whole = tiny(name)
    images = torch.rand(3, 3, whole.input.size, whole.input.size)
    set_trainable(whole, "last_1_blocks")
    halves, again = copy.deepcopy(whole), copy.deepcopy(whole)
    split = Split(halves, first_trained(halves, "last_1_blocks"))
    split.checked(images[:1])
    expected = whole(images)
    found = split.rest(split.trunk(images), images.shape[-1])
    assert torch.equal(found, expected)
    recompute_blocks(again)
    for embeddings in (expected, found, again(images)):
        embeddings.square().sum().backward()
    for ours, theirs, third in zip(halves.parameters(), whole.parameters(), again.parameters(), strict=True):
        for other in (ours, third):
            assert (other.grad is None) == (theirs.grad is None)
            assert theirs.grad is None or torch.equal(other.grad, theirs.grad)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", rest_nightly(NAMES, SOME))
def test_paths_are_dropped_where_the_model_has_stochastic_depth(name: str) -> None:
    if name not in DROPPING:
        with pytest.raises(UserError, match=r"^drop_path: 0\.5, .* no stochastic depth"):
            tiny(name, drop_path=0.5)
        return
    backbone = tiny(name, drop_path=0.5)
    images = torch.rand(1, 3, backbone.input.size, backbone.input.size).expand(8, -1, -1, -1)
    assert torch.allclose(*backbone(images)[:2])
    found = backbone.train()(images)
    assert not all(torch.allclose(found[0], row) for row in found[1:])


@pytest.mark.parametrize("name", rest_nightly(NAMES, SOME))
def test_crops_of_other_sizes_are_taken(name: str) -> None:
    backbone = tiny(name)
    side = backbone.input.size - 2 * backbone.input.divisor
    assert backbone.input.divisor < backbone.input.size
    with torch.no_grad():
        assert backbone(torch.rand(2, 3, side, side)).isfinite().all()


@pytest.mark.parametrize("side", [56, 72])  # of which no other test makes a table
def test_a_forward_pass_without_values_leaves_nothing_for_those_with_some(side: int) -> None:
    """BEiT's tables of positions are kept by the library for the size of the image alone."""
    backbone = tiny("beit")
    with FakeTensorMode(allow_non_fake_inputs=True) if side == 72 else torch.device("meta"):
        (backbone if side == 72 else tiny("beit"))(torch.empty(1, 3, side, side))
    with torch.no_grad():
        found = backbone(torch.rand(1, 3, side, side))
    assert type(found) is torch.Tensor
    assert found.isfinite().all()
