"""Whole runs of LoRA: what they keep is merged, and what goes on from them knows nothing of adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file

import dinodiet
from dinodiet.store.rundir import RunDir
from dinodiet.store.scores import read_scores
from tests.running import CHOICES, composed, killed_after, run

LORA = ("method.trainable=lora_2+last_1_block", "schedule.lr=1e-2", "schedule.epochs=1")
DINO = ("method=dino", "method.head.hidden_dims=[32,32]", "method.head.out_dim=64")
TOWERS = ("evaluated", "trained")


def only_run(folder: Path) -> RunDir:
    (found,) = (folder / "default").iterdir()
    return RunDir(found)


def of_lora(keys: Any) -> list[str]:
    return [key for key in keys if "lora" in key or "base_layer" in key]


@pytest.fixture
def adapted(tmp_path: Path) -> RunDir:
    run(composed(tmp_path, *DINO, *LORA), {**CHOICES, "method": "dino"})
    return only_run(tmp_path)


def test_what_is_kept_for_evaluation_is_merged_and_the_whole_method_is_not(adapted: RunDir) -> None:
    whole, encoder = load_file(adapted.weights), load_file(adapted.encoder)
    assert of_lora(whole) and not of_lora(encoder)
    base, prefix = whole["teacher.backbone.model.blocks.0.attn.qkv.base_layer.weight"], "teacher.backbone."
    query, value = (whole[f"{prefix}model.blocks.0.attn.qkv.lora_B.default.{name}"] for name in ("query", "value"))
    first = whole[f"{prefix}model.blocks.0.attn.qkv.lora_A.default.weight"]
    found = encoder["model.blocks.0.attn.qkv.weight"]
    rows = [base[:24] + query @ first[:2], base[24:48], base[48:] + value @ first[2:]]
    torch.testing.assert_close(found, torch.cat(rows), rtol=0, atol=1e-6)
    assert torch.equal(found[24:48], base[24:48])
    assert not torch.equal(found, base)


def test_both_towers_are_opened_and_differ(adapted: RunDir) -> None:
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        teacher, student = (dinodiet.load(adapted.path, tower=tower).backbone(x) for tower in TOWERS)  # type: ignore
    assert teacher.isfinite().all() and not torch.equal(teacher, student)


def test_timm_loads_an_export_strictly(adapted: RunDir) -> None:
    run(composed(adapted.path.parent.parent, "mode=export", "export=timm", f"checkpoint={adapted.path}"))
    model = timm.create_model(f"local-dir:{adapted.exports / 'timm'}", pretrained=True).eval()
    trained = dinodiet.load(adapted.path).backbone
    assert model.state_dict().keys() == trained.get_submodule("model").state_dict().keys()
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(trained.get_submodule("normalize")(x)), trained(x), rtol=0, atol=1e-5)


def test_an_unfinished_run_is_opened_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = composed(tmp_path, *LORA, "schedule.epochs=2", "checkpoint_minutes=0")
    with killed_after(6, monkeypatch):
        run(cfg)
    found = dinodiet.load(only_run(tmp_path).path)
    assert found.step == 6
    assert not of_lora(found.backbone.state_dict())
    content = torch.load(only_run(tmp_path).checkpoint, weights_only=True)
    keys = [key for key in content["method"] if key.endswith((".query", ".value"))]
    assert keys and all(content["method"][key].any() for key in keys)


@pytest.mark.slow
def test_fine_tuning_opens_a_merged_copy_whole(tmp_path: Path) -> None:
    quick = ("eval=[finetune]", "eval.finetune.steps=2", "eval.finetune.seeds=1", "eval.finetune.lr=[1e-4]")
    results = run(composed(tmp_path, *LORA, *quick))
    (final,) = [found for found in read_scores(only_run(tmp_path)) if found.key.startswith("final_finetune")]
    protocol = final.protocol or {}
    assert protocol["trainable_parameters"] == protocol["parameters"]
    classifier = 2 * 24 + 10 * 24 + 10  # with a norm
    adapters = 2 * 2 * 2 * 24  # two matrices for queries and values each, in one block of two
    assert protocol["parameters"] == results["parameters"] - adapters + classifier


@pytest.mark.slow
def test_another_run_begins_with_the_merged_weights(tmp_path: Path) -> None:
    run(composed(tmp_path, *LORA))
    weights = f"model.weights={only_run(tmp_path).path}"
    results = run(composed(tmp_path / "next", weights, "method=frozen"), {**CHOICES, "method": "frozen"})
    first = dinodiet.load(only_run(tmp_path).path).backbone.state_dict()
    second = dinodiet.load(only_run(tmp_path / "next").path).backbone.state_dict()
    assert results["steps"] == 0 and all(torch.equal(second[key], tensor) for key, tensor in first.items())
