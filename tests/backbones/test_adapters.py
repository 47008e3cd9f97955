"""LoRA: peft's arithmetic as published arrays have it, and what holds for any backbone."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from dinodiet.backbones import set_trainable
from dinodiet.backbones.adapters import NAME, adapted, add_adapters, matrices, merge_adapters, merged
from dinodiet.backbones.attention import attentions
from dinodiet.backbones.freeze import first_trained
from dinodiet.errors import UserError
from dinodiet.features.embed import fingerprint
from tests.backbones.toy import Toy
from tests.places import REFERENCES

from .small import build_small

ARRAYS = np.load(REFERENCES / "lora.npz")
CASES = json.loads(str(ARRAYS["settings_json"]))["cases"]


def array(name: str) -> Tensor:
    return torch.from_numpy(ARRAYS[name])


def published() -> nn.Module:
    """Return the transformer whose weights stand beside the arrays."""
    model = VisionTransformer(
        img_size=16, patch_size=8, embed_dim=16, depth=2, num_heads=2, mlp_ratio=2, num_classes=0
    ).eval()
    model.load_state_dict(load_file(REFERENCES / "lora_base.safetensors"))
    return model


def published_with(case: str) -> tuple[nn.Module, list[tuple[str, Any]]]:
    """Return it with the adapters of a case, whose values are published, and these by name."""
    model, settings = published(), CASES[case]
    pattern = re.compile(settings["target_modules"])
    chosen = [m for name, m in model.named_modules() if isinstance(m, nn.Linear) and pattern.fullmatch(name)]
    model.requires_grad_(False)
    add_adapters(
        model, settings["r"], whole=chosen, alpha=settings["lora_alpha"], rank_stabilised=settings["use_rslora"]
    )
    layers = list(adapted(model))
    for name, layer in layers:
        layer.lora_A[NAME].weight.data = array(f"{case}.{name}.A")
        layer.lora_B[NAME].weight.data = array(f"{case}.{name}.B")
    return model, layers


@pytest.mark.parametrize("case", CASES)
def test_features_gradients_and_merged_weights_are_the_published_ones(case: str) -> None:
    model, layers = published_with(case)
    assert {name for name, _ in layers} == {
        key.removeprefix(f"{case}.").removesuffix(".A") for key in ARRAYS if re.fullmatch(rf"{case}\..*\.A", key)
    }
    features = model(array("image"))
    torch.testing.assert_close(features, array(f"{case}.features"), rtol=0, atol=5e-6)
    (features * array("cotangent")).sum().backward()
    for name, layer in layers:
        assert layer.scaling[NAME] == pytest.approx(float(ARRAYS[f"{case}.{name}.scaling"]))
        for part, matrix in (("A", layer.lora_A), ("B", layer.lora_B)):
            found, expected = matrix[NAME].weight.grad, array(f"{case}.{name}.grad_{part}")
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    trained = sum(p.numel() for part in matrices(model) for p in part.parameters())
    assert trained == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained == ARRAYS[f"{case}.trainable_parameters"]
    assert sum(p.numel() for p in model.parameters()) == ARRAYS[f"{case}.all_parameters"]
    merge_adapters(model)
    for name, _ in layers:
        torch.testing.assert_close(
            model.get_submodule(name).weight, array(f"{case}.{name}.merged_weight"), rtol=0, atol=1e-6
        )
    torch.testing.assert_close(model(array("image")), array(f"{case}.features_merged"), rtol=0, atol=5e-6)
    assert model.state_dict().keys() == published().state_dict().keys()


def woken(model: str, trainable: str = "lora_2") -> tuple[Any, Any]:
    """Return a small backbone with adapters that were moved as by a training, and the one that it began as."""
    torch.manual_seed(0)
    base = build_small(model).eval()
    backbone = copy.deepcopy(base)
    set_trainable(backbone, trainable)
    with torch.no_grad():
        for parameter in backbone.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return backbone, base


def rows(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    queries, keys, values = weight.chunk(3)
    return queries, keys, values


@pytest.mark.parametrize("model", ["vit_tiny", "beit", "swinv2"])
def test_rows_of_keys_in_a_fused_layer_stay_as_they_are(model: str) -> None:
    backbone, base = woken(model)
    merge_adapters(backbone)
    moved = [attention.module.qkv for attention in attentions(backbone.freezable_blocks())]
    begun = [attention.module.qkv for attention in attentions(base.freezable_blocks())]
    assert moved and len(moved) == len(begun)
    for found, start in zip(moved, begun, strict=True):
        same = [torch.equal(a, b) for a, b in zip(rows(found.weight), rows(start.weight), strict=True)]  # type: ignore
        assert same == [False, True, False]


def test_queries_and_values_have_adapters_of_their_own() -> None:
    """Each is of rank r, and they have no direction in common."""
    backbone, base = woken("vit_tiny")
    merge_adapters(backbone)
    change = backbone.model.blocks[0].attn.qkv.weight - base.model.blocks[0].attn.qkv.weight
    queries, _, values = rows(change.detach())
    assert [int(torch.linalg.matrix_rank(part, atol=1e-6)) for part in (queries, values, change)] == [2, 2, 4]


def test_the_weights_below_are_the_base_bit_for_bit() -> None:
    backbone, base = woken("vit_tiny")
    assert {k.replace(".base_layer", ""): v for k, v in backbone.state_dict().items() if ".lora_" not in k}.keys() == {
        *base.state_dict()
    }
    for key, tensor in base.state_dict().items():
        there = backbone.state_dict()
        found = there.get(key, there.get(key.replace("qkv.", "qkv.base_layer.")))
        assert torch.equal(found, tensor), key


def test_a_merged_state_is_that_of_the_merged_backbone() -> None:
    for model in ("vit_tiny", "pe"):  # fused, and apart or rotated
        backbone, base = woken(model, "lora_2+last_1_block")
        state = merged(backbone.state_dict())
        assert list(state) == list(base.state_dict())
        merge_adapters(backbone)
        assert all(torch.equal(state[key], tensor) for key, tensor in backbone.state_dict().items())
        assert merged(base.state_dict()).keys() == base.state_dict().keys()


def test_another_choice_merges_what_adapters_have_learned() -> None:
    backbone, _ = woken("vit_tiny")
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        before = backbone.eval()(x)
        set_trainable(backbone, "lora_4")
        torch.testing.assert_close(backbone(x), before, rtol=0, atol=1e-5)
        assert next(iter(matrices(backbone)[0].parameters())).shape == (8, 48)
        set_trainable(backbone, "all")
        torch.testing.assert_close(backbone(x), before, rtol=0, atol=1e-5)
    assert not list(adapted(backbone))
    assert all(parameter.requires_grad for parameter in backbone.parameters())


def test_before_the_first_step_a_backbone_with_adapters_counts_as_the_one_without() -> None:
    """Scores of the frozen backbone are shared by all runs, whatever they train."""
    base = build_small("vit_tiny")
    expected = fingerprint(base)
    set_trainable(base, "lora_2")
    assert fingerprint(base) == expected
    assert fingerprint(woken("vit_tiny")[0]) != expected


def test_sizes_are_the_published_ones() -> None:
    """ExPLoRA of rank 64 on ViT-B: 2,162,688 numbers in 11 blocks, beside one whole block (arXiv:2406.10973)."""
    with torch.device("meta"):
        model: Any = timm.create_model("vit_base_patch16_224", num_classes=0)
    backbone: Any = OfBlocks(model)
    set_trainable(backbone, "lora_64+last_1_block")
    in_adapters = sum(p.numel() for part in matrices(backbone) for p in part.parameters())
    assert in_adapters == 11 * 2 * 64 * 1536 == 2_162_688
    whole = sum(p.numel() for p in model.blocks[-1].parameters()) + sum(p.numel() for p in model.norm.parameters())
    assert whole == 7_087_872 + 2 * 768
    assert sum(p.numel() for p in backbone.parameters() if p.requires_grad) == in_adapters + whole


class OfBlocks(Toy):
    """A transformer of timm as a backbone."""

    def __init__(self, model: Any) -> None:
        super().__init__(model.embed_dim, side=224)
        self.model = model

    def freezable_blocks(self) -> list[list[nn.Module]]:
        return [[block] for block in self.model.blocks]

    def tail(self) -> list[nn.Module]:
        return [self.model.norm]


def test_a_seed_draws_the_same_adapters_again() -> None:
    def drawn(seed: int) -> Tensor:
        backbone = build_small("vit_tiny")
        torch.manual_seed(seed)
        set_trainable(backbone, "lora_2")
        return next(iter(matrices(backbone)[0].parameters())).detach()

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    assert float(drawn(1).abs().max()) <= 48**-0.5  # Kaiming's bound for 48 inputs


class Interleaved(Toy):
    """Attention whose fused layer may order its rows in any way."""

    def __init__(self) -> None:
        super().__init__(4, side=1)
        self.attention = nn.ModuleDict({"qkv": nn.Linear(4, 12), "proj": nn.Linear(4, 4)})
        self.blocks = nn.ModuleList([nn.ModuleDict({"attn": self.attention})])

    def freezable_blocks(self) -> list[list[nn.Module]]:
        return [[block] for block in self.blocks]


@pytest.mark.parametrize(
    ("trainable", "message"),
    [
        ("lora_0", r"^trainable: 'lora_0'; choose from: all, .*lora_<r> with r > 0"),
        ("lora_2+last_2_block", r"^trainable: 'lora_2\+last_2_block'; choose from: all"),
        ("lora_2+last_0_blocks", r"^trainable: 'lora_2\+last_0_blocks'; choose from: all"),
        ("lora_-2", r"^trainable: 'lora_-2'; choose from: all"),
        ("lora_49", r"^trainable: 'lora_49', but the attention is 48 wide; choose r from 1 to that"),
        ("lora_2+last_9_blocks", r"^trainable: 'lora_2\+last_9_blocks', but the backbone has 3 blocks"),
        ("lora_2+last_3_blocks", r"^trainable: 'lora_2\+last_3_blocks', but this backbone has no attention before its"),
    ],
)
def test_mistakes_are_told_and_change_nothing(trainable: str, message: str) -> None:
    backbone = build_small("vit_tiny")
    with pytest.raises(UserError, match=message):
        set_trainable(backbone, trainable)
    assert not list(adapted(backbone))
    assert all(parameter.requires_grad for parameter in backbone.parameters())


def test_an_order_of_rows_that_is_not_known_is_refused() -> None:
    with pytest.raises(UserError, match=r"^trainable: 'lora_2', but where ModuleDict has its queries"):
        set_trainable(Interleaved(), "lora_2")
    set_trainable(Interleaved(), "attn_proj")


def test_without_peft_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^trainable: 'lora_2' needs peft: pip install 'dinodiet\[lora\]'$"):
        set_trainable(build_small("vit_tiny"), "lora_2")


def test_one_block_may_be_named_in_the_singular() -> None:
    for word in ("lora_2+last_1_block", "lora_2+last_1_blocks"):
        backbone: Any = build_small("vit_tiny")
        set_trainable(backbone, word)
        assert first_trained(backbone, word) == 0
        assert len(list(adapted(backbone))) == 2
        assert all(
            parameter.requires_grad for part in backbone.freezable_blocks()[2] for parameter in part.parameters()
        )


def test_attention_with_layers_of_its_own_for_values_needs_no_order(tmp_path: Path) -> None:
    backbone: Any = build_small("eva02", model_args={"depth": 3, "embed_dim": 48, "num_heads": 2, "qkv_fused": False})
    set_trainable(backbone, "lora_2")
    assert [name.rpartition(".")[2] for name, _ in adapted(backbone)] == ["q_proj", "v_proj"] * 3
