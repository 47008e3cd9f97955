import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from dinodiet.backbones import set_trainable
from dinodiet.backbones.architectures.aim import SIZES, AIMBackbone, aim
from dinodiet.backbones.architectures.aim_layers import AIM, position_embedding
from dinodiet.errors import UserError
from dinodiet.types import Backbone, DataSpec
from tests.backbones.small import MODELS, pixels, read
from tests.methods.steps import moved
from tests.places import REFERENCES

TINY = REFERENCES / "aim_tiny.safetensors"
ARRAYS = np.load(REFERENCES / "aim_tiny.npz")
SHAPES = json.loads((REFERENCES / "aim_shapes.json").read_text())
ARCHITECTURE = {"embed_dim": 64, "depth": 4, "num_heads": 4}
TOLERANCE = 1e-4
PHOTOS = DataSpec("photos", num_images=10, num_labels=2)


def tiny(spec: DataSpec = PHOTOS, **changes: Any) -> AIMBackbone:
    settings = {"model_args": ARCHITECTURE, "probe_layers": [1, 2], "image_size": 56, "weights": str(TINY)}
    return aim(spec, **{**settings, **changes}).eval()


def network() -> AIM:
    model = AIM(**ARCHITECTURE)
    model.load_state_dict({key: value for key, value in load_file(TINY).items() if not key.startswith("head.")})
    return model.eval()


def array(name: str) -> Tensor:
    return torch.from_numpy(ARRAYS[name])


def embedding(backbone: AIMBackbone, image: str) -> Tensor:
    embeddings: Tensor = backbone(pixels(array(f"image_{image}"), backbone.input))
    return embeddings


def close(found: Tensor, name: str) -> None:
    torch.testing.assert_close(found, array(name), atol=TOLERANCE, rtol=0)


# --- the published computation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("image", ["a", "b"])
@torch.no_grad()
def test_every_published_array(image: str) -> None:
    model = network()
    tokens = model.embed(array(f"image_{image}"))
    close(tokens, f"tokens_{image}")
    outputs = []
    for block in model.blocks:
        outputs.append(tokens := block(tokens))
    close(torch.stack(outputs), f"blocks_{image}")
    probe = (outputs[1] + outputs[2]) / 2
    close(probe, f"probe_{image}")
    close(model.trunk["post_trunk_norm"](tokens), f"trunk_norm_{image}")
    close(model.trunk["post_trunk_norm"](tokens).mean(dim=1), f"trunk_norm_mean_{image}")
    close(classified(probe), f"logits_{image}")


def classified(tokens: Tensor) -> Tensor:
    """Return the published attention-pool classifier's logits (B, 10), which the package has no use for."""
    head = {key.removeprefix("head."): value for key, value in load_file(TINY).items() if key.startswith("head.")}
    normed = F.batch_norm(tokens.transpose(1, 2), head["bn.running_mean"], head["bn.running_var"], eps=1e-6)
    keys, values, query = (
        part.unflatten(-1, (ARCHITECTURE["num_heads"], -1)).transpose(1, 2)
        for part in (
            normed.transpose(1, 2) @ head["k.weight"].T,
            normed.transpose(1, 2) @ head["v.weight"].T,
            head["cls_token"].expand(len(tokens), -1, -1),
        )
    )
    pooled = F.scaled_dot_product_attention(query, keys, values).transpose(1, 2).flatten(2).mean(dim=1)
    return pooled @ head["linear.weight"].T


@pytest.mark.parametrize("image", ["a", "b"])
@torch.no_grad()
def test_features_are_the_published_ones(image: str) -> None:
    close(embedding(tiny(), image), f"probe_mean_{image}")
    close(embedding(tiny(feature="last", probe_layers=None), image), f"last_mean_{image}")


def test_positions_of_a_grid() -> None:
    close(position_embedding(torch.empty(1, 4, 4, 64)), "pos_embed_a")
    close(position_embedding(torch.empty(1, 4, 6, 64)), "pos_embed_b")


def test_all_arrays_are_looked_at() -> None:
    seen = {"image", "pos_embed", "tokens", "blocks", "probe", "probe_mean", "last_mean", "logits"}
    assert {name[:-2] for name in ARRAYS.files} == seen | {"trunk_norm", "trunk_norm_mean"}


# --- the released sizes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SHAPES)
def test_counts_keys_and_shapes_are_the_released_ones(size: str) -> None:
    released, published = SIZES[size], SHAPES[size]
    with torch.device("meta"):
        state = AIM(released.embed_dim, released.depth, released.num_heads).state_dict()
    keys = {
        key.replace("{i}", str(i)): tuple(entry["shape"])
        for key, entry in published["keys"].items()
        for i in range(entry["count"])
        if not key.startswith("head.")
    }
    assert {key: tuple(value.shape) for key, value in state.items()} == keys
    assert sum(value.numel() for value in state.values()) == published["num_params"]["backbone"]


@pytest.mark.parametrize("size", SHAPES)
def test_every_size_builds(size: str) -> None:
    published = SHAPES[size]
    with torch.device("meta"):
        backbone = aim(PHOTOS, **{**read("aim"), "size": size, "weights": "none"})
        embeddings = backbone(torch.empty(2, 3, 224, 224))
    assert isinstance(backbone, Backbone)
    assert embeddings.shape == (2, backbone.embed_dim) == (2, published["config"]["embed_dim"])
    assert backbone.layers == published["best_layers"] == published["config"]["probe_layers"]
    assert len(backbone.freezable_blocks()) == backbone.layers[-1] + 1
    assert f"{released_file(size)}" == published["checkpoint_urls"]["backbone"]
    assert SIZES[size].sha256 == published["sha256_prefix"]["backbone"]


def released_file(size: str) -> str:
    release = SIZES[size].release
    return f"https://huggingface.co/{release.repo}/resolve/main/{release.file}"


def test_the_model_file_lists_the_sizes_and_where_the_weights_come_from() -> None:
    text = (MODELS / "aim.yaml").read_text()
    assert " | ".join(SIZES) in text
    assert "arXiv:2401.08541" in text and "licence" in text
    assert read("aim")["published"]["cifar10"]["knn/accuracy"] == 0.75


# --- what is not used -------------------------------------------------------------------------------------------------


def test_what_comes_after_the_last_used_block_is_taken_off() -> None:
    backbone = tiny()
    names = {name for name, _ in backbone.model.named_parameters()}
    assert {name.split(".")[2] for name in names if ".blocks." in name} == {"0", "1", "2"}
    assert not any("post_trunk_norm" in name for name in names)
    backbone(array("image_a")).sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in backbone.parameters())
    assert len(tiny(feature="last", probe_layers=None).freezable_blocks()) == 4


@pytest.mark.parametrize("method", ["diet", "dino"])
def test_a_step_moves_the_last_two_of_the_used_blocks(method: Any) -> None:
    found = moved(tiny(), method, "last_2_blocks", local=28)
    expected = {
        f"model.{key}" for key in network().state_dict() if key.startswith(("trunk.blocks.1.", "trunk.blocks.2."))
    }
    assert found == expected
    assert moved(tiny(), method, "all") == set(tiny().state_dict())
    assert moved(tiny(), method, "head_only") == set()


def test_more_blocks_than_are_used_are_refused() -> None:
    with pytest.raises(UserError, match=r"^trainable: 'last_4_blocks', .* 3 blocks"):
        set_trainable(tiny(), "last_4_blocks")


# --- weights ----------------------------------------------------------------------------------------------------------


def saved(state: dict[str, Tensor], folder: Path) -> str:
    torch.save(state, folder / "aim.pth")
    return str(folder / "aim.pth")


def test_released_layouts_give_the_same_outputs(tmp_path: Path) -> None:
    state = load_file(TINY)
    backbone_only = {key: value for key, value in state.items() if not key.startswith("head.")}
    x = array("image_b")
    expected = tiny()(x)
    assert torch.equal(tiny(weights=saved(backbone_only, tmp_path))(x), expected)
    assert torch.equal(tiny(weights=saved(state, tmp_path))(x), expected)
    keys = sorted(backbone_only)
    shards = {"model-1.safetensors": keys[:20], "model-2.safetensors": keys[20:]}
    for name, part in shards.items():
        save_file({key: state[key] for key in part}, tmp_path / name)
    weight_map = {key: name for name, part in shards.items() for key in part}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert torch.equal(tiny(weights=str(tmp_path))(x), expected)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("trunk.blocks.3.mlp.fc2.weight", None, "1 missing (trunk.blocks.3.mlp.fc2.weight)"),  # also of an unused block
        ("trunk.blocks.0.attn.qkv.bias", torch.ones(192), "1 unexpected (trunk.blocks.0.attn.qkv.bias)"),
        ("head.mystery", torch.ones(1), "1 unexpected (head.mystery)"),
        ("trunk.post_trunk_norm.bias", torch.ones(32), "1 of another shape (trunk.post_trunk_norm.bias"),
    ],
)
def test_a_file_that_does_not_fit_names_the_key(key: str, value: Tensor | None, message: str, tmp_path: Path) -> None:
    state: dict[str, Any] = {**load_file(TINY), key: value}
    path = saved({name: entry for name, entry in state.items() if entry is not None}, tmp_path)
    with pytest.raises(UserError) as caught:
        tiny(weights=path)
    assert str(caught.value).startswith(f"weights: {path} does not fit")
    assert f": {message}" in str(caught.value)


def test_another_architecture_has_no_release() -> None:
    with pytest.raises(UserError, match=r"^weights: hub, but .* no released"):
        tiny(weights="hub")


# --- bf16 -------------------------------------------------------------------------------------------------------------


def test_frozen_weights_may_be_bf16() -> None:
    backbone = tiny(dtype="bf16")
    assert {p.dtype for p in backbone.parameters()} == {torch.bfloat16}
    with torch.no_grad():
        found = embedding(backbone, "a")
    assert found.dtype == torch.float32
    assert 0 < (found - array("probe_mean_a")).abs().max() < 0.1


def test_what_is_trained_is_fp32() -> None:
    backbone = tiny(dtype="bf16")
    before = list(backbone.parameters())
    set_trainable(backbone, "last_1_blocks")
    assert {p.dtype for p in backbone.parameters() if p.requires_grad} == {torch.float32}
    assert {p.dtype for p in backbone.parameters() if not p.requires_grad} == {torch.bfloat16}
    assert all(a is b for a, b in zip(before, backbone.parameters(), strict=True))
    assert moved(backbone, "dino", "last_1_blocks", local=28) == {
        f"model.{name}" for name, _ in backbone.model.named_parameters() if ".blocks.2." in name
    }
    set_trainable(backbone, "all")
    assert {p.dtype for p in backbone.parameters()} == {torch.float32}


# --- settings ---------------------------------------------------------------------------------------------------------


def test_the_input_is_the_published_one() -> None:
    found = tiny(image_size=None).input
    assert (found.size, found.divisor, found.crop_fraction, found.interpolation) == (224, 14, 0.875, "bicubic")
    assert found.mean == (0.485, 0.456, 0.406)
    assert tiny(DataSpec("photos", 10, 2, image_size=28)).input.size == 28


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": "2B"}, "size: '2B'; choose from"),
        ({"image_size": 50}, "image_size: 50 is not a multiple"),
        ({"probe_layers": []}, "probe_layers: []; "),
        ({"probe_layers": [1, 4]}, "probe_layers: [1, 4]; "),
        ({"feature": "last"}, "probe_layers: has no effect"),
        ({"model_args": {"dpeth": 2}}, "model_args.dpeth: no such key"),
        ({"model_args": {**ARCHITECTURE, "num_heads": 7}}, "model_args.embed_dim: 64 is not a multiple"),
    ],
)
def test_settings_that_do_not_exist_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        tiny(**changes)
    assert str(caught.value).startswith(message)


def test_signatures_tell_forward_passes_apart() -> None:
    changes: list[dict[str, Any]] = [{}, {"probe_layers": [1]}, {"image_size": 28}, {"dtype": "bf16"}]
    assert len({tiny(**change).description.signature for change in changes}) == len(changes)


def test_another_depth_averages_the_last_six_blocks() -> None:
    deep = tiny(weights="none", probe_layers=None, model_args={**ARCHITECTURE, "depth": 8})
    assert deep.layers == [2, 3, 4, 5, 6, 7]
    assert tiny(probe_layers=None).layers == [0, 1, 2, 3]
