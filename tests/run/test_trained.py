"""The backbone of a run from its files alone, with its transform: the numbers of the run's own evaluation."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

import dinodiet
from dinodiet.config.schema import Tower
from dinodiet.errors import UserError
from dinodiet.features.embed import embed
from dinodiet.run.scoring import Scoring
from dinodiet.run.trained import Trained
from dinodiet.store.rundir import RunDir
from tests.running import CHOICES, composed, killed_after, run


def only_run(tmp_path: Path) -> RunDir:
    (folder,) = (tmp_path / "default").iterdir()
    return RunDir(folder)


def train(tmp_path: Path, *words: str, method: str = "diet") -> RunDir:
    run(composed(tmp_path, f"method={method}", "schedule.epochs=1", *words), {**CHOICES, "method": method})
    return only_run(tmp_path)


def embedded(found: Trained, images: list[Any]) -> Tensor:
    with torch.no_grad():
        embeddings: Tensor = found.backbone(torch.stack([found.transform(image) for image in images]))
    return embeddings


def evaluated(run_dir: RunDir, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Tensor], Tensor]:
    """Return the first test images of a run, and what its own evaluation makes of them."""
    caught: list[Any] = []

    def ensure(self: Scoring, phase: str, encoder: Any) -> list[Any]:
        images, scorer = self.scorer.data.test, self.scorer
        embeddings = embed(encoder, images, scorer.input, scorer.runtime, num_labels=10, multilabel=False)
        caught.append((images, embeddings.features))
        return []

    words = ("mode=evaluate", f"checkpoint={run_dir.path}")
    with monkeypatch.context() as patch:
        patch.setattr(Scoring, "ensure", ensure)
        run(composed(run_dir.path.parent.parent, *words), overrides=words)
    ((images, features),) = caught
    return [images[number] for number in range(5)], features[:5]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["diet", "dino"])
def test_the_numbers_are_those_of_the_runs_own_evaluation(
    tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = train(tmp_path, "model.patch_size=4", "+model.image_size=24", method=method)
    images, features = evaluated(run_dir, monkeypatch)
    found = dinodiet.load(run_dir.path)
    torch.testing.assert_close(embedded(found, images), features, atol=1e-5, rtol=1e-5)
    assert not any(module.training for module in found.backbone.modules())
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
    pictures[0].save(tmp_path / "image.png")
    assert torch.equal(embedded(found, pictures), embedded(found, images))
    assert torch.equal(found.transform(tmp_path / "image.png"), found.transform(images[0]))
    backbone, transform = found
    assert (backbone, transform) == (found.backbone, found.transform)


@pytest.mark.slow
def test_the_trained_tower_of_dino_is_the_student(tmp_path: Path) -> None:
    run_dir = train(tmp_path, method="dino")
    student = {key.removeprefix("backbone."): value for key, value in load_file(run_dir.weights).items()}
    towers: tuple[tuple[Tower, Any], ...] = (("evaluated", load_file(run_dir.encoder)), ("trained", student))
    for tower, expected in towers:
        state = dinodiet.load(run_dir.path, tower=tower).backbone.state_dict()
        assert all(torch.equal(value, expected[key]) for key, value in state.items())
    key = "model.blocks.1.mlp.fc1.weight"
    assert not torch.equal(student[key], load_file(run_dir.encoder)[key])
    state, kept = load_file(run_dir.weights), {"format": "1"}
    save_file(state, run_dir.weights, kept)  # as versions before wrote it
    with pytest.raises(UserError, match=r"tower: .*weights.safetensors does not say .* take tower=evaluated"):
        dinodiet.load(run_dir.path, tower="trained")


@pytest.mark.slow
def test_an_unfinished_run_and_a_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with killed_after(1, monkeypatch):
        train(tmp_path, "checkpoint_minutes=0", method="dino")
    run_dir = only_run(tmp_path)
    towers: tuple[Tower, ...] = ("evaluated", "trained")
    assert [dinodiet.load(run_dir.path, tower=tower).step for tower in towers] == [1, 1]
    finished = train(tmp_path, method="dino")
    alone = tmp_path / "taken.safetensors"
    finished.encoder.replace(alone)
    found = dinodiet.load(alone)
    assert (found.step, found.input.size) == (None, 32)


def test_what_is_no_run_is_one_line(tmp_path: Path) -> None:
    run_dir = train(tmp_path)

    def refused(place: Path, told: str) -> None:
        with pytest.raises(UserError, match=told) as caught:
            dinodiet.load(place)
        assert "\n" not in str(caught.value)

    refused(tmp_path / "nowhere", "nowhere does not exist")
    refused(run_dir.path.parent, f"is a folder of runs; choose one: {run_dir.path.name}")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "holds neither encoder.safetensors nor checkpoint.pt")
    with safe_open(run_dir.encoder, "pt") as file:
        metadata = file.metadata()
    state = load_file(run_dir.encoder)

    def changed(told: str, **changes: Any) -> None:
        save_file(state, run_dir.encoder, {**metadata, **{key: json.dumps(value) for key, value in changes.items()}})
        refused(run_dir.path, told)

    model, input = json.loads(metadata["model"]), json.loads(metadata["input"])
    changed("does not say what input", input={**input, "mean": 3})
    changed("does not say what input", input={**input, "std": ["a", "b", "c"]})
    changed("does not say what input", input={**input, "size": 0})
    changed("none of dinodiet's own parts", model={"_target_": "shutil.rmtree"})
    changed(
        r"does not fit its model.*missing", model={**model, "model_args": {"depth": 3, "embed_dim": 24, "num_heads": 2}}
    )
    changed(r"model\.size", model={**model, "size": "huge"})


@pytest.mark.slow
def test_importing_dinodiet_does_not_import_torch() -> None:
    code = "import sys, dinodiet; assert 'torch' not in sys.modules; dinodiet.load; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        dinodiet.lode  # noqa: B018
