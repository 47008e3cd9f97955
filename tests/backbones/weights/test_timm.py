"""Files of publishers, of every layout, in networks of timm: the same features, or one line."""

import math
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from dinodiet.errors import UserError
from tests.backbones import layouts
from tests.backbones.small import SMALL, build_small, images_of, own_state, randomised
from tests.kinds import rest_nightly

OFFICIAL: list[tuple[str, dict[str, Any], Callable[[layouts.State], dict[str, Any]]]] = [
    ("dino", {}, layouts.dino),
    ("dino", {}, layouts.dino_full),
    ("dinov2", {"size": "small"}, layouts.dinov2),
    ("dinov2", {"size": "small_reg"}, layouts.dinov2),
    ("dinov2", {"size": "giant_reg"}, layouts.dinov2),
    ("dinov3", {}, layouts.dinov3),
    ("dinov3_convnext", {}, layouts.dinov3_convnext),
    ("mae", {}, layouts.mae),
    ("mae", {}, layouts.mae_full),
    ("ijepa", {}, layouts.ijepa),
    ("aimv2", {}, layouts.aimv2),
    ("clip", {}, layouts.clip),
    ("siglip2", {}, layouts.open_clip),
    ("siglip2", {"feature": "mean_patch"}, layouts.open_clip),
    ("pe", {}, layouts.perception_encoder),
    ("swin", {}, layouts.swin),
    ("swinv2", {}, layouts.swin),
    ("convnext", {}, layouts.convnext),
    ("convnextv2", {}, layouts.convnext),
    ("beit", {}, layouts.beit),
    ("deit3", {}, layouts.deit3),
    ("eva02", {}, layouts.eva02),
    ("vit_tiny", {}, layouts.classifier("head")),
    ("resnet18", {}, layouts.classifier("fc")),
    ("resnet5m", {}, layouts.classifier("fc")),
    ("mobilevit_xxs", {}, layouts.classifier("head.fc")),
    ("mobilenetv2_035", {}, layouts.classifier("classifier")),
    ("efficientnet_lite0", {}, layouts.classifier("classifier")),
]


def save(state: dict[str, Any], path: Path) -> str:
    torch.save(state, path)
    return str(path)


# --- layouts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "changes", "layout"), rest_nightly(OFFICIAL, OFFICIAL[::4]))
def test_official_files_fill_every_place(
    model: str, changes: dict[str, Any], layout: Callable[[layouts.State], dict[str, Any]], tmp_path: Path
) -> None:
    original = randomised(model, **changes)
    path = save(layout(own_state(original)), tmp_path / "official.pth")
    loaded = build_small(model, **changes, weights=path).eval()
    for key, value in loaded.model.state_dict().items():
        torch.testing.assert_close(value, original.model.state_dict()[key], msg=key)
    torch.testing.assert_close(loaded(images_of(loaded)), original(images_of(original)))


def test_all_families_have_a_layout() -> None:
    assert {model for model, _, _ in OFFICIAL} == set(SMALL)


def test_biases_that_all_blocks_share_are_given_to_each(tmp_path: Path) -> None:
    original = randomised("beit", feature="cls")
    path = save(layouts.beit_pretrained(own_state(original)), tmp_path / "beit_base_patch16_224_pt22k.pth")
    loaded = build_small("beit", feature="cls", weights=path).eval()
    blocks = original.model.blocks
    for block in blocks[1:]:
        block.attn.relative_position_bias_table = blocks[0].attn.relative_position_bias_table
    assert torch.equal(loaded.model.fc_norm.weight, original.model.fc_norm.weight)
    torch.testing.assert_close(loaded(images_of(loaded)), original(images_of(original)))


@pytest.mark.parametrize("layout", [layouts.convnextv2_fcmae, layouts.without_norm])
def test_a_masked_autoencoder_without_final_norm_is_normalised_without_scale(
    layout: Callable[[layouts.State], dict[str, Any]], tmp_path: Path
) -> None:
    original = randomised("convnextv2", size="tiny_fcmae")
    path = save(layout(own_state(original)), tmp_path / "fcmae.pt")
    loaded = build_small("convnextv2", size="tiny_fcmae", weights=path).eval()
    torch.nn.init.ones_(original.model.head.norm.weight)
    torch.nn.init.zeros_(original.model.head.norm.bias)
    torch.testing.assert_close(loaded(images_of(loaded)), original(images_of(original)))
    with pytest.raises(UserError, match=r"^weights: .*2 missing \(head.norm.weight, head.norm.bias\)"):
        build_small("convnextv2", weights=path)


def test_torchvisions_resnet_gives_torchvisions_features(tmp_path: Path) -> None:
    reference = torchvision.models.resnet18(weights=None).eval()
    loaded = build_small("resnet18", weights=save(reference.state_dict(), tmp_path / "resnet18.pth")).eval()
    reference.fc = torch.nn.Identity()
    torch.testing.assert_close(loaded(images_of(loaded)), reference(loaded.normalize(images_of(loaded))))


def test_safetensors_are_read(tmp_path: Path) -> None:
    original = randomised("mobilevit_xxs")
    save_file(own_state(original), tmp_path / "model.safetensors")
    loaded = build_small("mobilevit_xxs", weights=str(tmp_path / "model.safetensors")).eval()
    torch.testing.assert_close(loaded(images_of(loaded)), original(images_of(original)))


def test_a_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    original = randomised("vit_tiny")
    save(own_state(original), tmp_path / "vit.pt")
    loaded = build_small("vit_tiny", weights="~/vit.pt")
    assert torch.equal(loaded.model.cls_token, original.model.cls_token)


# --- position and patch embeddings ------------------------------------------------------------------------------------


def test_position_embeddings_are_resized_to_the_images(tmp_path: Path) -> None:
    original = build_small("mae", image_size=64)
    state = own_state(original)
    rows = torch.arange(4.0).repeat_interleave(4)  # each position says which row of the 4 x 4 grid it is
    state["pos_embed"][0, 1:] = rows[:, None]
    loaded = build_small("mae", image_size=128, weights=save(state, tmp_path / "mae.pth"))
    grid = loaded.model.pos_embed[0, 1:].detach().reshape(8, 8, -1)
    assert torch.equal(loaded.model.pos_embed[0, 0], original.model.pos_embed[0, 0])
    assert torch.allclose(grid[:, 0], grid[:, 7])  # columns alike
    assert (grid[1:, 0, 0] > grid[:-1, 0, 0]).all()
    assert math.isclose(grid.mean().item(), 1.5, abs_tol=1e-3)


def test_another_patch_size_is_refused_unless_asked_for(tmp_path: Path) -> None:
    path = save(own_state(build_small("dino", size="small8")), tmp_path / "dino8.pth")
    with pytest.raises(UserError, match=r"^weights: .*dino8.pth does not fit .* patch size is 8"):
        build_small("dino", size="small16", weights=path)
    assert build_small("dino", size="small16", patch_size=4, weights=path).model.patch_embed.patch_size == (4, 4)


# --- mistakes ---------------------------------------------------------------------------------------------------------


def without(key: str) -> Callable[[layouts.State], layouts.State]:
    return lambda state: {name: value for name, value in state.items() if name != key}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without("norm.bias"), r"1 missing \(norm.bias\)$"),
        (lambda state: {**state, "adapter.weight": torch.zeros(1)}, r": 1 unexpected \(adapter.weight\)$"),
        (lambda state: {**state, "cls_token": torch.zeros(1, 1, 7)}, r": 1 of another shape \(cls_token \(1, 1, 7\)"),
        (
            lambda state: {**without("norm.bias")(state), "a": torch.zeros(1), "b": torch.zeros(1)},
            r": 1 missing \(norm.bias\); 2 unexpected \(a, b\)$",
        ),
        (lambda state: {"norm.bias": state["norm.bias"]}, r": 41 missing \(cls_token, .*\.\.\.\)$"),
    ],
)
def test_a_file_that_does_not_fit_names_the_keys(
    damage: Callable[[layouts.State], layouts.State], message: str, tmp_path: Path
) -> None:
    path = save(damage(own_state(build_small("vit_tiny"))), tmp_path / "x.pth")
    with pytest.raises(UserError, match=message) as caught:
        build_small("vit_tiny", weights=path)
    assert str(caught.value).startswith(f"weights: {path} does not fit")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "other"),
    [("vit_tiny", "resnet18"), ("resnet18", "vit_tiny"), ("dinov3_convnext", "vit_tiny"), ("dinov3", "mae")],
)
def test_another_familys_file_is_refused(model: str, other: str, tmp_path: Path) -> None:
    path = save(own_state(build_small(other)), tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"^weights: .*other.pth does not fit") as caught:
        build_small(model, weights=path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"^weights: no file {tmp_path}/none.pth"):
        build_small("vit_tiny", weights=str(tmp_path / "none.pth"))
    with pytest.raises(UserError, match=f"^weights: no file {Path.cwd()}/hubb"):
        build_small("vit_tiny", weights="hubb")


@pytest.mark.parametrize("name", ["notes.pth", "notes.safetensors"])
def test_a_file_that_is_no_checkpoint_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("not weights\nat all")
    with pytest.raises(UserError, match=rf"^weights: .*{name} is text that begins 'not weights at all'") as caught:
        build_small("vit_tiny", weights=str(tmp_path / name))
    assert "\n" not in str(caught.value)


class Payload:
    """What a malicious file would run on loading."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "call", [(os.system, "touch {}"), (subprocess.Popen, ["touch", "{}"]), (eval, "open('{}', 'w')")]
)
def test_files_that_call_something_are_refused_and_nothing_runs(
    call: tuple[Callable[..., Any], Any], zipped: bool, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    words = [word.format(trace) for word in call[1]] if isinstance(call[1], list) else call[1].format(trace)
    state = {**own_state(build_small("vit_tiny")), "payload": Payload(call[0], words)}
    torch.save(state, tmp_path / "code.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r"^weights: .* cannot be read as a checkpoint: it calls ") as caught:
        build_small("vit_tiny", weights=str(tmp_path / "code.pth"))
    assert "\n" not in str(caught.value)
    assert not trace.exists()
