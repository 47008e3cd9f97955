"""Folders that Hugging Face's library saved (5.24.0, random weights), against the outputs that it computed."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dinodiet.backbones import TimmBackbone, timm_backbone
from dinodiet.backbones.weights.huggingface import to_huggingface
from dinodiet.backbones.weights.layouts import to_known
from dinodiet.errors import UserError
from tests.backbones.small import DATA, pixels
from tests.places import REFERENCES

FOLDERS = REFERENCES / "hf_tiny"
TRANSFORMER = {"embed_dim": 24, "depth": 2, "num_heads": 2, "mlp_ratio": 2.0}
VIT = {"image_size": 32, "patch_size": 8, "model_args": TRANSFORMER}
SIGLIP = {**VIT, "model_args": {**TRANSFORMER, "act_layer": "gelu_tanh"}}
CONVNEXT = {"image_size": 64, "model_args": {"depths": [1, 1, 2, 1], "dims": [8, 12, 16, 24]}}
SWIN = {"embed_dim": 12, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4, "mlp_ratio": 2.0}
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "vit": ("vit_base_patch16_224.augreg_in21k", "cls", VIT),
    "vit_mae": ("vit_base_patch16_224.mae", "cls", VIT),
    "ijepa": ("vit_huge_patch14_gap_224.in1k_ijepa", "mean_patch", VIT),
    "dinov2": ("vit_small_patch14_dinov2.lvd142m", "cls", {**VIT, "image_size": 28, "patch_size": 7}),
    "dinov2_with_registers": (
        "vit_small_patch14_reg4_dinov2.lvd142m",
        "cls",
        {**VIT, "image_size": 28, "patch_size": 7},
    ),
    "dinov3_vit": ("vit_small_patch16_dinov3_qkvb.lvd1689m", "cls", VIT),
    "beit": ("beit_base_patch16_224.in22k_ft_in22k", "pooled", VIT),
    "swin": ("swin_tiny_patch4_window7_224.ms_in1k", "pooled", {"image_size": 32, "patch_size": 2, "model_args": SWIN}),
    "convnext": ("convnext_tiny.fb_in1k", "pooled", CONVNEXT),
    "dinov3_convnext": ("convnext_tiny.dinov3_lvd1689m", "pooled", CONVNEXT),
    "siglip_vision": ("vit_base_patch16_siglip_224.v2_webli", "map", SIGLIP),
}


def loaded(kind: str, weights: Path, **changes: Any) -> TimmBackbone:
    name, feature, settings = MODELS[kind]
    settings = {"feature": feature, "weights": str(weights), **settings, **changes}
    return timm_backbone(DATA, size="a", names={"a": name}, **settings).eval()


def assert_same(kind: str, backbone: TimmBackbone, given: str = "", tolerance: float = 1e-5) -> None:
    reference = np.load(FOLDERS / kind / "io.npz")
    with torch.no_grad():
        found = backbone(pixels(torch.from_numpy(reference[f"pixel_values{given}"]), backbone.input))
    torch.testing.assert_close(found, embedding(kind, reference, given), rtol=0, atol=tolerance)


def embedding(kind: str, reference: Any, given: str) -> Tensor:
    """Return the library's output that timm's feature is: of ViT the pooler holds a layer more."""
    tokens = torch.from_numpy(reference[f"last_hidden_state{given}"])
    if kind in ("vit", "vit_mae"):
        return tokens[:, 0]
    return tokens.mean(dim=1) if kind == "ijepa" else torch.from_numpy(reference[f"pooler_output{given}"])


def state(kind: str) -> dict[str, Tensor]:
    return load_file(FOLDERS / kind / "model.safetensors")


@pytest.mark.parametrize("kind", MODELS)
def test_a_folder_gives_the_outputs_of_the_library(kind: str) -> None:
    assert_same(kind, loaded(kind, FOLDERS / kind))


ANY_SHAPE = [kind for kind in MODELS if kind not in ("beit", "swin")]


@pytest.mark.parametrize("kind", ANY_SHAPE)
def test_images_that_are_not_square_give_the_outputs_of_the_library(kind: str) -> None:
    """The library resizes position embeddings bicubically, with antialiasing only of DINOv2 with registers."""
    resized = kind in ("vit", "vit_mae", "ijepa", "dinov2", "siglip_vision")
    exact = {"pos_embed_antialias": False, "pos_embed_offset": 0.0} if resized else {}
    assert_same(kind, loaded(kind, FOLDERS / kind, **exact), "_b")


@pytest.mark.parametrize("kind", MODELS)
def test_timms_weights_have_the_librarys_names_again(kind: str, tmp_path: Path) -> None:
    model_type = "siglip_vision_model" if kind == "siglip_vision" else kind
    given, own = state(kind), dict(loaded(kind, FOLDERS / kind).model.state_dict())
    written = to_huggingface(model_type, own)
    assert set(given) - set(written) == NOT_TIMMS.get(kind, set()) and set(written) <= set(given)
    changed = {key for key, value in written.items() if not torch.equal(value, given[key])}
    assert changed == CHANGED.get(kind, set())
    save_file({key: value.contiguous() for key, value in written.items()}, tmp_path / "model.safetensors")
    for key, value in loaded(kind, tmp_path).model.state_dict().items():
        assert torch.equal(value, own[key]), key


# What timm has no place for, dropped or zero; and DINOv2's class token with its position, of which timm keeps the sum.
NOT_TIMMS = {"vit": {"pooler.dense.weight", "pooler.dense.bias"}}
CHANGED = {
    "dinov2": {"embeddings.mask_token"},
    "dinov3_vit": {"embeddings.mask_token"},
    "dinov2_with_registers": {f"embeddings.{name}" for name in ("mask_token", "cls_token", "position_embeddings")},
}


def test_a_beit_without_pooling_embeds_its_class_token(tmp_path: Path) -> None:
    """Its final norm is that of all tokens, and its position biases may be the same in all blocks."""
    tensors = {key.replace("pooler.layernorm.", "layernorm."): value for key, value in state("beit").items()}
    table = "attention.attention.relative_position_bias.relative_position_bias_table"
    shared = {key: value for key, value in tensors.items() if not key.endswith(table)}
    shared["encoder.relative_position_bias.relative_position_bias_table"] = tensors[f"encoder.layer.0.{table}"]
    tensors[f"encoder.layer.1.{table}"] = tensors[f"encoder.layer.0.{table}"].clone()
    x = torch.rand(2, 3, 32, 32)
    save_file(tensors, tmp_path / "own.safetensors")
    save_file(shared, tmp_path / "shared.safetensors")
    own, same = (loaded("beit", tmp_path / f"{name}.safetensors", feature="cls") for name in ("own", "shared"))
    args = {**TRANSFORMER, "global_pool": "token"}
    token = loaded("beit", tmp_path / "own.safetensors", feature="cls", model_args=args)
    assert token.model.norm.weight.equal(own.model.fc_norm.weight)
    torch.testing.assert_close(own(x), token(x))
    torch.testing.assert_close(same(x), own(x))


def test_a_type_without_names_is_refused() -> None:
    with pytest.raises(UserError, match=r"^model_type: 'bert'; choose from: vit, .*, resnet$"):
        to_huggingface("bert", {})


@pytest.mark.parametrize("prefix", ["vit.", "model.encoder.backbone."])
def test_a_model_within_another_is_found(prefix: str, tmp_path: Path) -> None:
    tensors = {f"{prefix}{key}": value for key, value in state("vit").items()}
    torch.save({"state_dict": {**tensors, "classifier.weight": torch.ones(5, 24)}}, tmp_path / "a.bin")
    assert_same("vit", loaded("vit", tmp_path / "a.bin"))


def test_shards_beside_their_index_are_read(tmp_path: Path) -> None:
    tensors = state("dinov2")
    parts = {"1.safetensors": sorted(tensors)[:9], "2.safetensors": sorted(tensors)[9:]}
    for name, keys in parts.items():
        save_file({key: tensors[key] for key in keys}, tmp_path / name)
    index = {"weight_map": {key: name for name, keys in parts.items() for key in keys}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert_same("dinov2", loaded("dinov2", tmp_path))
    (tmp_path / "2.safetensors").unlink()
    with pytest.raises(UserError, match=r"^weights: .*names 2.safetensors"):
        loaded("dinov2", tmp_path)


def test_an_old_folder_holds_pytorch_model_bin(tmp_path: Path) -> None:
    torch.save(state("swin"), tmp_path / "pytorch_model.bin")
    assert_same("swin", loaded("swin", tmp_path))


def test_safetensors_are_known_by_what_they_are(tmp_path: Path) -> None:
    shutil.copy(FOLDERS / "convnext" / "model.safetensors", tmp_path / "convnext.bin")
    assert_same("convnext", loaded("convnext", tmp_path / "convnext.bin"))


def test_a_folder_of_other_files_names_them(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "epoch1.pth")
    with pytest.raises(UserError, match=r"^weights: .* is a folder without model.safetensors.*epoch1.pth: give that"):
        loaded("vit", tmp_path)


@pytest.mark.parametrize("numbered", ["on", "from 0"])
def test_blocks_in_chunks_are_numbered_through(numbered: str) -> None:
    names = {f"blocks.{i}.norm1.weight": torch.full((1,), float(i)) for i in range(4)}
    inner = {0: 0, 1: 1, 2: 2 if numbered == "on" else 0, 3: 3 if numbered == "on" else 1}
    chunked = {f"blocks.{i // 2}.{inner[i]}.norm1.weight": value for i, value in enumerate(names.values())}
    assert to_known(chunked) == names


def test_mmpretrains_names_are_known(tmp_path: Path) -> None:
    tensors = loaded("vit", FOLDERS / "vit").model.state_dict()
    rules: tuple[tuple[str, str], ...] = ((r"^blocks", "layers"), (r"\.norm(\d)\.", r".ln\1."), (r"^norm\.", "ln1."))
    rules += ((r"mlp\.fc1", "ffn.layers.0.0"), (r"mlp\.fc2", "ffn.layers.1"), (r"embed\.proj", "embed.projection"))
    renamed = {}
    for key, value in tensors.items():
        for pattern, replacement in rules:
            key = re.sub(pattern, replacement, key)  # noqa: PLW2901
        renamed[f"backbone.{key}"] = value
    torch.save({"meta": {}, "state_dict": renamed}, tmp_path / "mm.pth")
    assert_same("vit", loaded("vit", tmp_path / "mm.pth"))


def test_queries_keys_and_values_keep_their_places() -> None:
    parts = {f"encoder.layer.0.attention.attention.{n}.weight": torch.full((2, 2), i) for i, n in enumerate(QKV)}
    fused = to_known({"embeddings.cls_token": torch.zeros(1, 1, 2), **parts})["blocks.0.attn.qkv.weight"]
    assert fused[:, 0].tolist() == [0, 0, 1, 1, 2, 2]


QKV = ("query", "key", "value")
