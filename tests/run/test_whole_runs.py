"""A run of a model of transformers needs nothing but its own files: not the folder or repository of the model."""

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

import dinodiet
from dinodiet.errors import UserError
from dinodiet.store.rundir import RunDir
from tests.backbones.hf.tiny import FOLDERS, NAMES, copied
from tests.running import composed, killed_after, run, scores
from tests.web import Web, serving

BASE = (
    *("dataset=digits", "dataset.limit=32", "tuned=none", "schedule.epochs=1", "schedule.batch_size=16", "eval=knn"),
    *("method=diet", "method.trainable=last_1_blocks", "method.head.warmup_fraction=0", "device=cpu"),
)
CHOICES = {"model": "hf", "dataset": "digits", "method": "diet"}
SIZES = {"rad_dino": "base", "phikon": "v1"}
FIRST = "dinov2"
OTHERS = [pytest.param(name, marks=pytest.mark.nightly) for name in NAMES if name != FIRST]


def words(model: Path, *more: str) -> tuple[str, ...]:
    side = json.loads((FOLDERS / model.name / "config.json").read_text()).get("image_size") or 64
    return ("model=hf", f"model.name={model}", f"dataset.image_size={side}", *BASE, *more)


def do(folder: Path, command: tuple[str, ...], *own: str) -> dict[str, Any]:
    return run(composed(folder, *own, base=command), CHOICES, own)


def with_a_run(run_dir: RunDir, *own: str) -> dict[str, Any]:
    """Do something with a run by its directory, from a command line that knows nothing else of it."""
    given = (*own, f"checkpoint={run_dir.path}", "device=cpu")
    return run(composed(run_dir.path.parent.parent, *given, base=("dataset=digits",)), {}, given)


def embedded(run_dir: RunDir) -> Tensor:
    found = dinodiet.load(run_dir.path)
    images = torch.rand(3, 3, found.input.size, found.input.size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        embeddings: Tensor = found.backbone(images)
    return embeddings


def trained(folder: Path, command: tuple[str, ...]) -> RunDir:
    return RunDir(folder / "default" / do(folder, command)["run_id"])


def embeddings_of(run_dir: RunDir, out: Path) -> bytes:
    with_a_run(run_dir, "mode=embed", "embed.format=npz", f"embed.out={out}", "embed.splits=[test]")
    with np.load(out / "test.npz") as arrays:
        values: bytes = arrays["embeddings"].tobytes()
    return values


def rescored(run_dir: RunDir) -> Any:
    """Return the scores of a run by another k, computed."""
    for file in run_dir.scores.glob("final_*"):
        file.unlink()
    found = with_a_run(run_dir, "mode=evaluate", "eval.knn.k=3")["scores"]["knn"]
    return found.test, found.val


@pytest.mark.slow
@pytest.mark.parametrize("name", [FIRST, *OTHERS])
def test_all_is_as_before_when_the_folder_is_gone(tmp_path: Path, name: str) -> None:
    model = copied(name, tmp_path / name)
    run_dir = trained(tmp_path, words(model))
    before = embedded(run_dir), embeddings_of(run_dir, tmp_path / "a"), rescored(run_dir)
    shutil.rmtree(model)
    after = embedded(run_dir), embeddings_of(run_dir, tmp_path / "b"), rescored(run_dir)
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
    with_a_run(run_dir, "mode=export", "export=transformers")
    card = (run_dir.path / "export" / "transformers" / "README.md").read_text()
    assert f"| parent weights | {model} |" in card and "base_model" not in card


@pytest.mark.parametrize("name", [FIRST, *OTHERS])
@pytest.mark.slow
def test_a_killed_run_goes_on_without_the_folder(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = copied(name, tmp_path / name)
    command = words(model, "schedule.epochs=2", "checkpoint_minutes=0")
    undisturbed = do(tmp_path / "whole", command)
    with killed_after(2, monkeypatch):
        do(tmp_path / "killed", command)
    shutil.rmtree(model)
    (one,) = (tmp_path / "killed" / "default").iterdir()
    assert dinodiet.load(one).step == 2
    again = do(tmp_path / "killed", command)
    assert scores(again) == scores(undisturbed)
    other = RunDir(tmp_path / "whole" / "default" / undisturbed["run_id"])
    states = [load_file(RunDir(one).encoder), load_file(other.encoder)]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    assert torch.equal(embedded(RunDir(one)), embedded(other))


def published(web: Web, folder: Path) -> None:
    for file in folder.iterdir():
        web.publish("owner/small", file.name, file.read_bytes())


@pytest.mark.parametrize("model", ["hf", *(pytest.param(name, marks=pytest.mark.nightly) for name in SIZES)])
@pytest.mark.slow
def test_a_repository_that_cannot_be_reached(tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"hf": "vit", "rad_dino": "dinov2", "phikon": "vit"}[model]
    folder = copied(small, tmp_path / small)
    (folder / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n")
    named = "model.name=owner/small" if model == "hf" else f"model.names={{{SIZES[model]}: owner/small}}"
    side = json.loads((folder / "config.json").read_text())["image_size"]
    command = (f"model={model}", named, f"dataset.image_size={side}", *BASE, "schedule.epochs=2")
    with serving(tmp_path, monkeypatch) as web:
        published(web, folder)
        run_dir = trained(tmp_path, command)
        before, scored = embedded(run_dir), rescored(run_dir)
        with killed_after(2, monkeypatch):
            do(tmp_path / "killed", (*command, "checkpoint_minutes=0"))
    cache = Path(huggingface_hub.constants.HF_HUB_CACHE)
    assert cache.is_relative_to(tmp_path)
    shutil.rmtree(cache)
    assert torch.equal(before, embedded(run_dir)) and scored == rescored(run_dir)
    target = "transformers" if model == "hf" else "torch"
    with_a_run(run_dir, "mode=export", f"export={target}")
    card = (run_dir.path / "export" / target / "README.md").read_text()
    assert "base_model: owner/small" in card and "license: cc-by-4.0" in card
    do(tmp_path / "killed", command)
    assert torch.equal(before, embedded(RunDir(tmp_path / "killed" / "default" / run_dir.path.name)))


KEPT = {"config": "{}", "processor": "{}"}


@pytest.mark.parametrize(
    ("rebuilds", "told"),
    [
        ("{", "does not say what its model was built of"),
        ("[1]", "does not say what its model was built of"),
        ("[" * 100_000, "does not say what its model was built of"),
        ({"kept": {**KEPT, "_target_": "os.system"}}, "does not say what its model was built of"),
        ({"other": {"_target_": "os.system", "command": "true"}}, "does not say what its model was built of"),
        ('"' + "x" * (8 << 20), "does not say what its model was built of"),
        ({"unknown": 1}, r"model.unknown: no such key"),
        ({"kept": "text"}, r"model.kept: 'text'"),
        ({"kept": {"config": "{}"}}, r"model.kept: .* a run keeps config"),
        ({"kept": {**KEPT, "more": "x"}}, r"model.kept: .* a run keeps config"),
        ({"kept": {**KEPT, "revision": "../../etc"}}, r"model.kept: .* a run keeps config"),
        ({"kept": {**KEPT, "config": 3}}, r"model.kept.*3"),
        ({"kept": {**KEPT, "config": "[" * 100_000}}, "config.json of .* cannot be read as JSON"),
        ({"kept": {**KEPT, "config": " " * (1 << 20) + "{}"}}, "config.json of .* larger than"),
        ({"kept": {**KEPT, "config": '{"auto_map": {"AutoModel": "code.Model"}}'}}, "code of its own .* never run"),
        ({"kept": {**KEPT, "config": '{"model_type": "vit", "hidden_size": 1e99}'}}, r"model.name: .*"),
        ({"kept": {**KEPT, "config": '{"model_type": "vit", "num_hidden_layers": 9999999}'}}, "must be at most"),
        ({"kept": {**KEPT, "config": '{"model_type": "vit"}', "processor": '{"size": -1}'}}, "has a size of -1"),
        ({"kept": {**KEPT, "config": '{"model_type": "../vit"}'}}, "does not have"),
    ],
)
def test_hostile_facts_are_one_line_and_run_nothing(kept_run: RunDir, tmp_path: Path, rebuilds: Any, told: str) -> None:
    with safe_open(kept_run.encoder, "pt") as file:
        metadata = file.metadata()
    text = rebuilds if isinstance(rebuilds, str) else json.dumps(rebuilds)
    place = tmp_path / "theirs.safetensors"
    save_file(load_file(kept_run.encoder), place, {**metadata, "rebuilds": text})
    with pytest.raises(UserError, match=told) as caught:
        dinodiet.load(place)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000


@pytest.fixture(scope="module")
def kept_run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """The run of a model whose folder is gone."""
    folder = tmp_path_factory.mktemp("kept")
    run_dir = trained(folder, words(copied(FIRST, folder / FIRST), "eval.validation=false"))
    shutil.rmtree(folder / FIRST)
    return run_dir


def test_files_of_earlier_versions_need_the_folder(kept_run: RunDir, tmp_path: Path) -> None:
    with safe_open(kept_run.encoder, "pt") as file:
        metadata = file.metadata()
    model = json.loads(metadata["model"])
    assert not {"kept", "files"} & set(model)
    del metadata["rebuilds"]
    place = tmp_path / "before.safetensors"
    save_file(load_file(kept_run.encoder), place, metadata)
    with pytest.raises(UserError, match=r"model.name: '.*' is no folder and no USER/MODEL"):
        dinodiet.load(place)
    copied(FIRST, Path(model["name"]))
    with_folder = dinodiet.load(place).description
    shutil.rmtree(model["name"])
    assert with_folder.signature == dinodiet.load(kept_run.path).description.signature


def test_another_model_is_refused_as_before(kept_run: RunDir) -> None:
    with pytest.raises(UserError, match=r"written under another configuration: model.drop_path \(default there, 0.1"):
        with_a_run(kept_run, "mode=evaluate", "model.drop_path=0.1")
