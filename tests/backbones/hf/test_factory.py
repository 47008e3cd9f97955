"""What is asked for is had or refused in one line, before anything is fetched or trained."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from dinodiet.backbones.hf import hf_backbone, hf_family
from dinodiet.backbones.hf.factory import _assets
from dinodiet.errors import NotOnDisk, NotReleased, UserError
from tests.contracts.choices import node

from .tiny import FOLDERS, SPEC, copied, images_of, reference, tiny

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no name": ({"name": None}, r"^name: null; give USER/MODEL"),
    "no folder and no repository": (
        {"name": "/nowhere/model"},
        r"^name: '/nowhere/model' is no folder and no USER/MODEL",
    ),
    "a revision of a folder": ({"revision": "main"}, r"^revision: 'main', but name is a folder"),
    "a feature that is not there": (
        {"feature": "map"},
        r"^feature: 'map' .* a vit; choose from: auto, cls, pooler, mean",
    ),
    "no multiple of the patch": ({"image_size": 36}, r"^image_size: 36 is not a multiple of the patch size 8"),
    "weights that are not there": ({"weights": "/nowhere.safetensors"}, r"^weights: no file /nowhere.safetensors"),
    "a prefix without weights": (
        {"weights": "none", "weights_prefix": "a"},
        r"^weights_prefix: 'a', but weights is none",
    ),
    "drop path": ({"drop_path": 0.1}, r"^drop_path: 0\.1, .* no stochastic depth"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_settings_are_refused_by_name(case: str) -> None:
    settings, problem = REFUSED[case]
    with pytest.raises(UserError, match=problem):
        hf_backbone(SPEC, **{"name": str(FOLDERS / "vit"), **settings})


CHANGED: dict[str, tuple[dict[str, Any], str]] = {
    "code of its own": ({"auto_map": {"AutoModel": "modeling_own.Own"}}, r"code of its own \(modeling_own.Own\)"),
    "a text model": ({"model_type": "bert"}, r"is a bert, which takes input_ids and no images"),
    "a kind that is not known": ({"model_type": "own_vit"}, r"is a 'own_vit', which transformers .* does not have"),
    "no kind": ({"model_type": None}, r"has no model_type"),
    "a kind without encoder": ({"model_type": "encoder-decoder"}, r"config.json|no encoder"),
    "a width of another type": ({"hidden_size": "wide"}, r"config.json"),
    "a layer more": ({"num_hidden_layers": 3}, r"^weights: .* does not fit vit: 16 missing"),
    "a layer less": ({"num_hidden_layers": 1}, r"^weights: .* does not fit vit: 16 unexpected"),
    "another width": ({"hidden_size": 48}, r"^weights: .* of another shape"),
    "a number too large": ({"hidden_size": 2**40}, r"hidden_size 1099511627776; must be at most"),
    "video": ({"model_type": "videomae"}, r"a videomae makes no embedding of images alone"),
}


@pytest.mark.parametrize("case", CHANGED)
def test_a_configuration_that_is_no_vision_encoder_is_one_line(tmp_path: Path, case: str) -> None:
    changes, problem = CHANGED[case]
    with pytest.raises(UserError, match=problem) as found:
        hf_backbone(SPEC, name=str(copied("vit", tmp_path / "model", changes)))
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        ("config.json", r"^name: .*model has no config.json$"),
        ("preprocessor_config.json", r"^name: .* has no preprocessor_config.json or processor_config.json$"),
        ("model.safetensors", r"^name: .* has no model.safetensors or "),
    ],
)
def test_a_folder_that_lacks_a_file_says_which(tmp_path: Path, file: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        hf_backbone(SPEC, name=str(copied("vit", tmp_path / "model", without=file)))


def test_a_file_that_is_no_json_or_cut_off_says_so(tmp_path: Path) -> None:
    folder = copied("vit", tmp_path / "model")
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:-100])
    with pytest.raises(UserError, match=r"^weights: .* is cut off"):
        hf_backbone(SPEC, name=str(folder))
    (folder / "config.json").write_text("<html>")
    with pytest.raises(UserError, match=r"^name: .*config.json cannot be read as JSON"):
        hf_backbone(SPEC, name=str(folder))


def shards(folder: Path) -> Path:
    """Divide a folder's weights into two shards, and return the index."""
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    parts = {key: names[number % 2] for number, key in enumerate(state)}
    for name in names:
        save_file({key: value for key, value in state.items() if parts[key] == name}, folder / name)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": parts}))
    return index


def test_shards_are_read_and_a_lost_or_cut_one_is_named(tmp_path: Path) -> None:
    folder = copied("vit", tmp_path / "model")
    shards(folder)
    images = images_of(tiny("vit"), reference("vit")["pixel_values"])
    with torch.no_grad():
        assert torch.equal(hf_backbone(SPEC, name=str(folder)).eval()(images), tiny("vit")(images))
    second = folder / "model-00002-of-00002.safetensors"
    second.write_bytes(second.read_bytes()[:-40])
    with pytest.raises(UserError, match=r"^weights: .*model-00002-of-00002.safetensors is cut off"):
        hf_backbone(SPEC, name=str(folder))
    second.unlink()
    with pytest.raises(
        UserError, match=r"^weights: .* names model-00002-of-00002.safetensors, but there is no such file"
    ):
        hf_backbone(SPEC, name=str(folder))


def test_an_index_with_a_file_elsewhere_is_refused(tmp_path: Path) -> None:
    folder = copied("vit", tmp_path / "model")
    shards(folder).write_text(json.dumps({"weight_map": {"a": "../secret.safetensors"}}))
    with pytest.raises(UserError, match=r"names \.\./secret.safetensors"):
        hf_backbone(SPEC, name=str(folder))


@pytest.mark.parametrize("prefix", ["backbone", "student.backbone"])
def test_a_training_checkpoint_is_read_wherever_it_keeps_the_network(tmp_path: Path, prefix: str) -> None:
    state = load_file(FOLDERS / "vit" / "model.safetensors")
    torch.save(
        {"state_dict": {f"{prefix}.{key}": value for key, value in state.items()}, "epoch": 3}, tmp_path / "own.pt"
    )
    torch.manual_seed(0)
    found = tiny("vit", weights=str(tmp_path / "own.pt"))
    assert "own.pt" in found.description.details["weights"]
    for ours, theirs in zip(found.parameters(), tiny("vit").parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_model_with_a_head_or_another_tower_is_read(tmp_path: Path) -> None:
    state = load_file(FOLDERS / "vit" / "model.safetensors")
    whole = {f"vit.{key}": value for key, value in state.items()} | {"classifier.weight": torch.zeros(2, 24)}
    save_file(whole, tmp_path / "classifier.safetensors")
    found = tiny("vit", weights=str(tmp_path / "classifier.safetensors"))
    assert torch.equal(next(found.parameters()), next(tiny("vit").parameters()))


def test_of_a_model_of_images_and_text_the_vision_tower_is_taken(tmp_path: Path) -> None:
    folder = copied("siglip_vision", tmp_path / "model")
    vision = json.loads((folder / "config.json").read_text())
    whole = {"model_type": "siglip", "vision_config": vision, "text_config": {"hidden_size": 8}}
    (folder / "config.json").write_text(json.dumps(whole))
    state = load_file(folder / "model.safetensors")
    text = {"text_model.embeddings.token_embedding.weight": torch.zeros(3, 8), "logit_scale": torch.zeros(1)}
    save_file({**state, **text}, folder / "model.safetensors")
    images = images_of(tiny("siglip_vision"), reference("siglip_vision")["pixel_values"])
    with torch.no_grad():
        found = hf_backbone(SPEC, name=str(folder), feature="map").eval()(images)
    torch.testing.assert_close(found, reference("siglip_vision")["pooler_output"], rtol=0, atol=1e-5)


def test_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    folder = copied("vit", tmp_path / "model")
    state = load_file(folder / "model.safetensors")
    state["layernorm.bias"][3] = float("nan")
    save_file(state, folder / "model.safetensors")
    with pytest.raises(UserError, match=r"^weights: .*nan or infinite \(layernorm.bias: 1 of 24\)"):
        hf_backbone(SPEC, name=str(folder))


def test_the_licence_of_the_card_is_told(tmp_path: Path) -> None:
    folder = copied("vit", tmp_path / "model")
    for head, licence in (
        ("license: mit", "mit"),
        ("license: other\nlicense_name: owners-own", "owners-own"),
        ("tags: [a]", None),
        ("license: [", None),
    ):
        (folder / "README.md").write_text(f"---\n{head}\n---\n# A model\n")
        assert hf_backbone(SPEC, name=str(folder)).description.licence == licence


def test_without_values_a_folder_is_planned_and_a_name_is_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with torch.device("meta"):
        planned = tiny("vit")
        with pytest.raises(NotOnDisk, match=r"^name: config.json of nobody/nothing is not on this machine"):
            hf_backbone(SPEC, name="nobody/nothing")
    built = tiny("vit")
    assert {key: value.shape for key, value in planned.state_dict().items()} == {
        key: value.shape for key, value in built.state_dict().items()
    }
    assert planned.description.signature == built.description.signature


def test_a_folder_needs_nothing_and_a_name_three_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    (own,) = _assets(name=str(FOLDERS / "vit"), revision=None, weights="hub")
    assert own.find() == FOLDERS / "vit"
    needed = _assets(name="owner/model", revision=None, weights="hub")
    assert [asset.name for asset in needed] == [
        f"owner/model/{file}" for file in ("config.json", "preprocessor_config.json", "model.safetensors")
    ]
    assert all(asset.find() is None for asset in needed)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["rad_dino", "phikon"])
def test_families_are_planned_without_any_file(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    settings = {key: value for key, value in node("model", family).items() if key != "_target_"}
    with torch.device("meta"):
        backbone = hf_family(SPEC, **settings)
    assert backbone.embed_dim == 768 and len(backbone.freezable_blocks()) == 12
    assert backbone.description.licence == settings["licence"]


def test_a_size_that_does_not_exist_is_refused() -> None:
    settings: dict[str, Any] = {"names": {"a": "owner/a", "b": None}, "configs": {}, "processor_config": {}}
    with pytest.raises(UserError, match=r"^size: 'c'; choose from: a$"):
        hf_family(SPEC, size="c", **settings)
    with pytest.raises(NotReleased, match=r"^size: 'b' of this family was never released"):
        hf_family(SPEC, size="b", **settings)


@pytest.mark.slow
def test_the_weights_of_a_run_are_read(tmp_path: Path) -> None:
    backbone = tiny("swin")
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.add_(0.5)
    save_file(backbone.state_dict(), tmp_path / "encoder.safetensors")
    found = tiny("swin", weights=str(tmp_path / "encoder.safetensors"))
    assert all(
        torch.equal(ours, theirs) for ours, theirs in zip(found.parameters(), backbone.parameters(), strict=True)
    )
    shutil.copy(tmp_path / "encoder.safetensors", tmp_path / "own.safetensors")
    with pytest.raises(UserError, match=r"^weights: .* does not fit vit"):
        tiny("vit", weights=str(tmp_path / "own.safetensors"))
