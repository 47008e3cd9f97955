"""Weights to take away: what other programs load from the folder gives the embeddings of the run."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

import dinodiet
from dinodiet.errors import MachineLimit, UserError
from dinodiet.run.export import programs
from dinodiet.run.export.provenance import Provenance
from dinodiet.run.trained import Trained
from dinodiet.store.rundir import RunDir
from tests.kinds import after_nightly
from tests.places import REFERENCES
from tests.running import CHOICES, TINY, composed, run

RUN = (
    *("dataset=digits", "dataset.limit=32", "tuned=none", "schedule.epochs=1", "schedule.batch_size=16"),
    *("eval=knn", "eval.validation=false", "device=cpu"),
)
VIT = "+model.model_args={depth: 2, embed_dim: 24, num_heads: 2}"
REGISTERS = ("model=dinov2", "model.size=small_reg", "model.weights=none", VIT, "dataset.image_size=42")
OTHERS = {
    "mae": ("model=mae", "model.weights=none", VIT, "dataset.image_size=32"),
    "dinov3": ("model=dinov3", "model.weights=none", VIT, "dataset.image_size=32"),
    "resnet": ("model=resnet", "model.size='18'", "model.weights=none", "dataset.image_size=64"),
    "mobilevit": ("model=mobilevit", "model.size=xxs", "model.weights=none", "dataset.image_size=64"),
}
TINY_HF = REFERENCES / "hf_tiny"


def train(folder: Path, model: tuple[str, ...], *words: str, method: str = "diet") -> RunDir:
    """Return a finished run of a small model."""
    choices = {**CHOICES, "model": model[0].partition("=")[2], "method": method}
    results = run(composed(folder, *words, base=(*model, f"method={method}", *RUN)), choices)
    return RunDir(folder / "default" / results["run_id"])


def export(run_dir: RunDir, target: str, *words: str) -> Path:
    """Export a run and return the folder."""
    own = ("mode=export", f"checkpoint={run_dir.path}", f"export={target}", *words)
    return Path(run(composed(run_dir.path.parent.parent, *own), overrides=own)["folder"])


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A vision transformer with registers, trained with two seeds; the directory of the first."""
    folder = tmp_path_factory.mktemp("vit")
    train(folder, REGISTERS, "seed=1")
    return train(folder, REGISTERS)


def images_of(found: Trained) -> torch.Tensor:
    side = found.input.size
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(5))


def own(found: Trained, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        embeddings: torch.Tensor = found.backbone(images)
    return embeddings


def close(theirs: torch.Tensor, expected: torch.Tensor, tolerance: float) -> bool:
    """Return whether embeddings differ by less than a part of their largest number; untrained ones are small."""
    return theirs.shape == expected.shape and bool((theirs - expected).abs().max() <= tolerance * expected.abs().max())


def by_timm(folder: Path, images: torch.Tensor) -> torch.Tensor:
    """Return what timm alone makes of images in 0..1."""
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    data: Any = timm.data
    config = data.resolve_model_data_config(model)
    mean, std = (torch.tensor(config[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        embeddings: torch.Tensor = model((images - mean) / std)
    return embeddings


def test_timm_loads_the_folder_and_gives_the_embeddings_of_the_run(vit: RunDir) -> None:
    folder, found = export(vit, "timm"), dinodiet.load(vit.path)
    assert close(by_timm(folder, images_of(found)), own(found, images_of(found)), 1e-5)
    config = json.loads((folder / "config.json").read_text())
    assert (config["architecture"], config["num_classes"]) == ("vit_small_patch14_reg4_dinov2", 0)
    assert config["num_features"] == 24 and config["pretrained_cfg"]["input_size"] == [3, 42, 42]
    state = load_file(folder / "model.safetensors")
    assert {f"model.{key}": value.shape for key, value in state.items()} == {
        key: value.shape for key, value in load_file(vit.encoder).items()
    }


@pytest.mark.slow
def test_a_program_of_torch_needs_torch_alone(vit: RunDir, tmp_path: Path) -> None:
    folder, found = export(vit, "torch"), dinodiet.load(vit.path)
    np.save(tmp_path / "images.npy", images_of(found).numpy())
    code = (
        "import sys, numpy, torch; images = torch.from_numpy(numpy.load('images.npy'));"
        f"embed = torch.export.load(r'{folder / 'model.pt2'}').module();"
        "numpy.save('found.npy', embed(images).detach().numpy()); assert embed(images[:1]).shape == (1, 24);"
        "assert not {'timm', 'dinodiet', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    theirs = torch.from_numpy(np.load(tmp_path / "found.npy"))
    assert close(theirs, own(found, images_of(found)), 1e-5)
    assert load_file(folder / "model.safetensors").keys() == load_file(vit.encoder).keys()


@pytest.mark.slow
def test_onnx_runs_with_any_number_of_images(vit: RunDir) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    folder, found = export(vit, "onnx"), dinodiet.load(vit.path)
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    for number in (1, 2):
        images = images_of(found)[:number]
        theirs = torch.from_numpy(session.run(["embeddings"], {"images": images.numpy()})[0])
        assert close(theirs, own(found, images), 1e-4)


@pytest.mark.slow
def test_the_lines_of_the_card_give_the_embedding_of_a_photograph(vit: RunDir, tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)).save(tmp_path / "image.jpg")
    found = dinodiet.load(vit.path)
    expected = own(found, found.transform(tmp_path / "image.jpg")[None])
    for target, tolerance in (("timm", 0.1), ("torch", 1e-5), ("onnx", 1e-4)):
        folder = export(vit, target)
        (code,) = (folder / "README.md").read_text().split("```python\n")[1:]
        code = code.partition("```")[0].replace('"image.jpg"', repr(str(tmp_path / "image.jpg")))
        save = (
            f"\nimport numpy, torch\nnumpy.save({str(tmp_path / 'found.npy')!r}, torch.as_tensor(embedding).detach())"
        )
        subprocess.run([sys.executable, "-c", code + save], check=True, cwd=folder)
        theirs = torch.from_numpy(np.load(tmp_path / "found.npy"))
        assert close(theirs, expected, tolerance)


def test_the_card_says_where_the_weights_are_from_and_what_they_score(vit: RunDir) -> None:
    text = (export(vit, "timm") / "README.md").read_text()
    head = yaml.safe_load(text.split("---\n")[1])
    assert (head["library_name"], head["tags"][:2]) == ("timm", ["dinodiet", "diet"])
    assert "license" not in head and "base_model" not in head  # from scratch
    results = [json.loads(path.read_text()) for path in vit.path.parent.glob("*/results.json")]
    finals = [found["final"]["knn/accuracy"] for found in results]
    assert "n = 2 runs that differ in the seed alone (0, 1)" in text
    assert f"{sum(finals) / 2:.4f} ± {abs(finals[0] - finals[1]) / 2**0.5:.4f} |" in text
    own = json.loads(vit.results.read_text())
    assert f"| knn/accuracy | {own['initial']['knn/accuracy']:.4f} | {own['final']['knn/accuracy']:.4f} |" in text
    for words in (vit.path.name, "1 epochs, batches of 16", "| method | diet", "| data | digits", own["git_commit"]):
        assert str(words) in text


@pytest.mark.parametrize(("name", "told"), [("owner/set", "owner/set"), ("pathmnist", None), (None, None)])
def test_the_card_names_a_dataset_of_the_hub(vit: RunDir, tmp_path: Path, name: str | None, told: str | None) -> None:
    shutil.copytree(vit.path, tmp_path / "run")
    saved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    settings = saved.get("config", saved)
    settings["dataset"]["source"]["name"] = name
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(saved))
    assert Provenance(dinodiet.load(tmp_path / "run")).dataset() == told


@pytest.mark.slow
def test_a_second_call_finds_it_and_a_changed_folder_is_written_anew(
    vit: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = f"export_dir={tmp_path / 'mine'}"
    folder = export(vit, "timm", place)
    before = (folder / "model.safetensors").stat().st_mtime_ns
    export(vit, "timm", place)
    assert "is there already" in capsys.readouterr().out
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    (folder / "config.json").unlink()
    export(vit, "timm", place)
    assert (folder / "config.json").exists() and (folder / "model.safetensors").stat().st_mtime_ns != before
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    export(vit, "torch", place)
    assert not (folder / "config.json").exists() and (folder / "model.pt2").exists()


def test_a_folder_of_somebody_is_left_alone(vit: RunDir, tmp_path: Path) -> None:
    (tmp_path / "theirs.txt").write_text("mine")
    with pytest.raises(UserError, match=r"export_dir: .* holds something else; choose a new or an empty folder"):
        export(vit, "timm", f"export_dir={tmp_path}")
    with pytest.raises(UserError, match=r"export_dir: .* holds something else"):
        export(vit, "timm", f"export_dir={tmp_path / 'theirs.txt'}")
    assert [path.name for path in tmp_path.iterdir()] == ["theirs.txt"]


@pytest.mark.slow
def test_what_gives_other_embeddings_is_not_kept(vit: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = programs._read_torch
    monkeypatch.setattr(programs, "_read_torch", lambda folder: lambda images: read(folder)(images) * 1.001)
    with pytest.raises(UserError, match=r"torch cannot give the embeddings of this run: they would be .* off"):
        export(vit, "torch", f"export_dir={tmp_path / 'new'}")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_what_cannot_be_loaded_is_not_kept_and_others_are_named(
    vit: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(_: Path) -> None:
        raise IndexError("list index\nout of range")

    monkeypatch.setattr(programs, "_read_torch", read)
    told = (
        "export: torch does not take what was written of this model: list index out of range; "
        "others to choose from: onnx, timm, transformers"
    )
    with pytest.raises(UserError, match=f"^{told}$"):
        export(vit, "torch", f"export_dir={tmp_path / 'new'}")
    assert not list(tmp_path.iterdir())


def test_a_limit_of_the_machine_stays_one(vit: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(*_: object) -> None:
        raise MachineLimit("no room on the disk")

    monkeypatch.setattr(programs, "_write_torch", write)
    with pytest.raises(MachineLimit, match="no room on the disk"):
        export(vit, "torch", f"export_dir={tmp_path / 'new'}")


def test_targets_that_are_not_there_are_one_line(vit: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    for word in ("tensorflow", "null"):
        with pytest.raises(UserError, match=r"^export: .* can be written for: onnx, timm, torch, transformers$"):
            export(vit, word)
    with pytest.raises(UserError, match=r"checkpoint: .*nowhere does not exist"):
        export(RunDir(vit.path.parent / "nowhere"), "timm")
    with pytest.raises(UserError, match="export: timm, but mode=train writes no weights; add mode=export"):
        run(composed(vit.path, "export=timm"))
    monkeypatch.setattr(programs, "PACKAGES", ("onnx", "no_such_package"))
    with pytest.raises(UserError, match=r"export: onnx needs no_such_package; pip install 'dinodiet\[onnx\]'"):
        export(vit, "onnx", f"export_dir={vit.path / 'other'}")


@pytest.mark.slow
def test_of_dino_the_teacher_is_taken_unless_asked(tmp_path: Path) -> None:
    run_dir = train(tmp_path, TINY[:1] + TINY[4:6], method="dino")
    weights = {
        tower: load_file(export(run_dir, "timm", f"tower={tower}") / "model.safetensors")
        for tower in ("evaluated", "trained")
    }
    whole, key = load_file(run_dir.weights), "blocks.1.mlp.fc1.weight"
    assert torch.equal(weights["evaluated"][key], whole[f"teacher.backbone.model.{key}"])
    assert torch.equal(weights["trained"][key], whole[f"backbone.model.{key}"])
    assert {path.name for path in run_dir.exports.iterdir()} == {"timm", "timm_trained"}


@pytest.mark.slow
def test_an_architecture_that_timm_lacks_has_the_other_targets(tmp_path: Path) -> None:
    run_dir = train(tmp_path, ("model=resnet5m", "model.weights=none", "dataset.image_size=32"))
    with pytest.raises(UserError, match=r"^export: timm; the .* can be written for: onnx, torch$"):
        export(run_dir, "timm")
    with pytest.raises(UserError, match=r"written for: onnx, torch, and not for transformers: .* not among what is"):
        export(run_dir, "transformers")


def all_targets(run_dir: RunDir, family: str) -> Iterator[tuple[str, Any]]:
    for target in ("timm", "transformers", "torch", "onnx"):
        yield target, export(run_dir, target)


@pytest.mark.slow
@pytest.mark.parametrize("family", after_nightly(1, OTHERS))
def test_every_target_of_other_families(tmp_path: Path, family: str) -> None:
    run_dir = train(tmp_path, OTHERS[family])
    found = dinodiet.load(run_dir.path)
    for target, folder in all_targets(run_dir, family):  # each is checked as it is written
        assert {"README.md", "export.json", "model.onnx" if target == "onnx" else "model.safetensors"} <= {
            path.name for path in folder.iterdir()
        }
    images = images_of(found)
    theirs = by_timm(run_dir.exports / "timm", images)
    assert close(theirs, own(found, images), 1e-5)


@pytest.mark.slow
def test_transformers_loads_the_folder(tmp_path: Path) -> None:
    check_transformers(tmp_path, "dinov2_with_registers")


@pytest.mark.slow
@pytest.mark.parametrize("name", after_nightly(2, [path.name for path in sorted(TINY_HF.iterdir()) if path.is_dir()]))
def test_every_model_of_transformers(tmp_path: Path, name: str) -> None:
    check_transformers(tmp_path, name)


def check_transformers(tmp_path: Path, name: str) -> None:
    from transformers import AutoImageProcessor, AutoModel

    run_dir = train(tmp_path, ("model=hf", f"model.name={TINY_HF / name}", "dataset.image_size=null"))
    folder, found = export(run_dir, "transformers"), dinodiet.load(run_dir.path)
    processor = AutoImageProcessor.from_pretrained(folder)
    pixels = np.random.default_rng(0).integers(0, 256, (found.input.size,) * 2 + (3,), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    (code,) = (folder / "README.md").read_text().split("```python\n")[1:]
    code = code.partition("```")[0].replace('"."', repr(str(folder))).replace("image.jpg", str(tmp_path / "image.png"))
    names: dict[str, Any] = {}
    exec(code, names)
    expected = own(found, found.transform(tmp_path / "image.png")[None])
    assert close(names["embedding"].detach(), expected, 1e-4)
    assert isinstance(names["model"], type(AutoModel.from_pretrained(folder))) and processor is not None
