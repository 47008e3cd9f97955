"""Adapters to take away: peft puts them onto timm's own model, which then gives the embeddings of the run."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import dinodiet
from dinodiet.errors import UserError
from dinodiet.store.rundir import RunDir
from tests.run.test_export import close, export, images_of, own, train
from tests.running import killed_after

NAME = "vit_small_patch14_dinov2"
ARGS: dict[str, Any] = {"depth": 2, "embed_dim": 24, "num_heads": 2}
DINOV2 = ("model=dinov2", "model.size=small", "+model.model_args={depth: 2, embed_dim: 24, num_heads: 2}")
SIDE = "dataset.image_size=42"
MOVES = "schedule.lr.value=1"  # in two steps


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with weights of a small model of timm, for images of another size."""
    torch.manual_seed(3)
    state = timm.create_model(NAME, num_classes=0, img_size=56, **ARGS).state_dict()
    path = tmp_path_factory.mktemp("base") / "base.safetensors"
    save_file({key: torch.randn_like(value) * 0.2 for key, value in state.items()}, path)
    return path


def adapted(folder: Path, base: Path, trainable: str, *words: str, method: str = "diet") -> RunDir:
    """Return a run of two steps on these weights."""
    chosen = (f"method.trainable={trainable}", MOVES, *words)
    return train(folder, (*DINOV2, SIDE, f"model.weights={base}"), *chosen, method=method)


@pytest.fixture(scope="module")
def dino(base: Path) -> RunDir:
    """A run of DINO that trained adapters."""
    return adapted(base.parent, base, "lora_2", "method.teacher.momentum=0.5", method="dino")


def by_peft(folder: Path, base: Path, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what timm's model makes of images in 0..1 with the weights of a file, without and with the adapters."""
    args: dict[str, Any] = {**ARGS, "img_size": 42, "global_pool": "token"}
    model: Any = timm.create_model(
        NAME, pretrained=True, num_classes=0, pretrained_cfg_overlay={"file": str(base)}, **args
    )
    model.eval().load_state_dict(load_file(folder / "positions.safetensors"), strict=False)
    mean, std = (torch.tensor(model.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        plain: torch.Tensor = model((images - mean) / std)
        return plain, peft.PeftModel.from_pretrained(model, str(folder)).eval()((images - mean) / std)


@pytest.mark.parametrize("tower", ["evaluated", "trained"])
def test_peft_puts_the_adapters_onto_the_base_of_timm(dino: RunDir, base: Path, tower: Any) -> None:
    folder, found = export(dino, "peft", f"tower={tower}"), dinodiet.load(dino.path, tower=tower)
    plain, theirs = by_peft(folder, base, images_of(found))
    assert close(theirs, own(found, images_of(found)), 1e-5)
    assert not close(theirs, plain, 1e-3)
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["target_modules"] == ["blocks.0.attn.qkv", "blocks.1.attn.qkv"]
    assert (config["r"], config["lora_alpha"]) == (4, 4)  # of queries and of values, 2 each
    sizes = {tuple(tensor.shape) for tensor in load_file(folder / "adapter_model.safetensors").values()}
    assert sizes == {(4, 24), (72, 4)}


@pytest.mark.slow
def test_blocks_that_were_trained_whole_are_saved_beside(base: Path, tmp_path: Path) -> None:
    run_dir = adapted(tmp_path, base, "lora_2+last_1_block")
    folder, found = export(run_dir, "peft"), dinodiet.load(run_dir.path)
    _, theirs = by_peft(folder, base, images_of(found))
    assert close(theirs, own(found, images_of(found)), 1e-5)
    kept = {key.partition("base_model.model.")[2] for key in load_file(folder / "adapter_model.safetensors")}
    assert {"blocks.1.mlp.fc1.weight", "norm.weight", "blocks.0.attn.qkv.lora_A.weight"} <= kept
    assert not [key for key in kept if key.startswith("blocks.0.") and ".lora_" not in key]


def test_an_unfinished_run_is_written_from_its_checkpoint(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with killed_after(1, monkeypatch):
        adapted(tmp_path, base, "lora_2", "checkpoint_minutes=0")
    (path,) = tmp_path.glob("*/*/config.yaml")
    found = dinodiet.load(path.parent)
    assert found.step == 1
    plain, theirs = by_peft(export(RunDir(path.parent), "peft"), base, images_of(found))
    assert close(theirs, own(found, images_of(found)), 1e-5)
    assert not close(theirs, plain, 1e-3)


def test_the_lines_of_the_card_load_it(
    dino: RunDir, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (42, 42, 3), np.uint8)).save(tmp_path / "image.png")
    found, folder = dinodiet.load(dino.path), export(dino, "peft", f"export_dir={tmp_path / 'mine'}")
    code = (folder / "README.md").read_text().split("```python\n")[1].partition("```")[0]
    code = code.replace("image.jpg", str(tmp_path / "image.png")).replace("'base.safetensors'", repr(str(base)))
    names: dict[str, Any] = {}
    monkeypatch.chdir(folder)
    exec(code, names)
    expected = own(found, found.transform(tmp_path / "image.png")[None])
    assert close(names["embedding"].detach(), expected, 1e-5)


def refused(run_dir: RunDir, message: str) -> None:
    with pytest.raises(UserError, match=rf"^export: peft; the .* can be written for: .*, and not for peft: {message}$"):
        export(run_dir, "peft")


@pytest.mark.slow
def test_runs_without_adapters_for_peft_are_one_line(dino: RunDir, base: Path, tmp_path: Path) -> None:
    scratch = (*DINOV2, SIDE, "model.weights=none")
    refused(
        train(tmp_path, scratch),
        "it was trained with method.trainable=last_2_blocks, without adapters; choose lora_<r>",
    )
    refused(train(tmp_path, scratch, "method.trainable=lora_2"), r"it began from scratch \(model.weights=none\), .*")
    other = adapted(tmp_path, base, "lora_2", "method.student.init=random", method="dino")
    refused(other, r"it began with other weights than its model's \(method.student.init=random\), .*")
    shutil.copytree(dino.path, tmp_path / "copy")
    (tmp_path / "copy" / "config.yaml").unlink()
    refused(RunDir(tmp_path / "copy"), "no config.yaml lies beside it, which says what was trained")


@pytest.mark.slow
def test_attention_that_does_not_call_its_layer_is_one_line(tmp_path: Path) -> None:
    args: dict[str, Any] = {"depth": 2, "embed_dim": 48, "num_heads": 2, "patch_size": 8, "img_size": 32}
    name = "beit_base_patch16_224"
    save_file(timm.create_model(name, num_classes=0, **args).state_dict(), tmp_path / "beit.safetensors")
    words = (f"model.weights={tmp_path / 'beit.safetensors'}", "dataset.image_size=32", "+model.patch_size=8")
    model = ("model=beit", "+model.model_args={depth: 2, embed_dim: 48, num_heads: 2}", *words)
    run_dir = train(tmp_path, model, "method.trainable=lora_2")
    told = r"multiplies by the weight of blocks.0.attn.qkv without calling it; others to choose from: onnx, timm, torch"
    with pytest.raises(UserError, match=f"^export: peft adapts layers as they are called, and timm's model {told}"):
        export(run_dir, "peft")
