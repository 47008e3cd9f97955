"""mode=embed: the embeddings of all images, as the evaluation sees them; what is there is not made again."""

import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from dinodiet.errors import UserError
from dinodiet.evals.knn import KNN
from dinodiet.evals.splits import GivenSplits
from dinodiet.features import parts
from dinodiet.store.status import Preempted
from dinodiet.types import Embeddings
from tests.running import CHOICES, TINY, composed, launch, run
from tests.sweep.test_leaving import started

FOLDER = (*(word for word in TINY if not word.startswith("dataset")), "dataset=folder", "dataset.image_size=16")
MODE = ("mode=embed", "embed.rows=16", "eval.batch_size=16")
OF_FOLDER = {**CHOICES, "dataset": "folder"}


def images(root: Path, count: int, *splits: str) -> Path:
    """Make class folders a and b in each split, or without splits images alone."""
    for number, split in enumerate(splits or ("",)):
        for shade, name in enumerate(("a", "b") if splits else ("",)):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                colour = (i, 100 * shade, 50 * number)
                Image.new("RGB", (20, 16), colour).save(root / split / name / f"{i:03}.png")
    return root


def embed(out: Path, *words: str, base: tuple[str, ...] = TINY, choices: dict[str, str] = CHOICES) -> dict[str, Any]:
    return run(composed(out, *MODE, *words, base=base), choices, words)


def of_folder(out: Path, root: Path, *words: str) -> dict[str, Any]:
    return embed(out, f"dataset.source.root={root}", *words, base=FOLDER, choices=OF_FOLDER)


def contents(folder: str | Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def matrix(table: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.stack(table["embedding"].tolist())


def knn_of(folder: str) -> float:
    """Return k-NN's accuracy on exported embeddings."""
    table = pd.read_parquet(folder)
    train, test = (
        Embeddings(torch.from_numpy(matrix(rows)), torch.from_numpy(rows["label"].to_numpy().copy()), 10)
        for rows in (table[table["split"] == split] for split in ("train", "test"))
    )
    return KNN()(GivenSplits(train, test))["accuracy"].value


def test_knn_on_the_written_embeddings_is_the_score_of_the_frozen_backbone(tmp_path: Path) -> None:
    scored = run(composed(tmp_path, "schedule.epochs=1"))
    done = embed(tmp_path, "eval.batch_size=256")
    assert knn_of(done["folder"]) == scored["initial"]["knn/accuracy"]
    (cached,) = (
        file
        for file in (tmp_path / ".cache/embeddings").glob("*.safetensors")
        if len(load_file(file)["features"]) == 597
    )
    table = pd.read_parquet(done["folder"], filters=[("split", "==", "test")])
    assert np.array_equal(matrix(table), load_file(cached)["features"].numpy())


def test_of_a_run_they_are_those_of_its_trained_encoder(tmp_path: Path) -> None:
    scored = run(composed(tmp_path, "schedule.epochs=1"))
    (place,) = (path.parent for path in tmp_path.glob("default/*/results.json"))
    words = (f"checkpoint={place}",)
    done = run(composed(tmp_path, *MODE, *words, base=()), overrides=(*MODE, *words))  # all else is the run's own
    assert done["folder"].startswith(f"{tmp_path}/default/embeddings/{place.name}_digits_")
    assert knn_of(done["folder"]) == scored["final"]["knn/accuracy"] != scored["initial"]["knn/accuracy"]
    told = json.loads(Path(done["folder"], "_embeddings.json").read_text())
    assert (told["run"], told["encoder"], told["embed_dim"]) == (place.name, place.name, 24)


def test_of_a_run_on_other_images(tmp_path: Path) -> None:
    run(composed(tmp_path, "schedule.epochs=1"))
    (place,) = (path.parent for path in tmp_path.glob("default/*/results.json"))
    root = images(tmp_path / "flat", 20)
    words = (f"checkpoint={place}", "dataset=folder", f"dataset.source.root={root}")
    done = run(composed(tmp_path, *MODE, *words, base=()), OF_FOLDER, (*MODE, *words))
    assert done["images"] == 20
    assert Path(done["folder"]).name.startswith(f"{place.name}_folder-flat_")


def test_a_second_call_finds_all_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = embed(tmp_path)
    assert first["images"] == first["embedded"] == 64 + 200 + 597
    assert "861 images embedded in" in capsys.readouterr().out
    before = {file: Path(file).stat().st_mtime_ns for file in first["files"]}
    again = embed(tmp_path)
    assert (again["folder"], again["embedded"]) == (first["folder"], 0)
    assert "861 images were embedded already" in capsys.readouterr().out
    assert {file: Path(file).stat().st_mtime_ns for file in again["files"]} == before


@pytest.mark.parametrize("format", ["parquet", "npz"])
def test_what_was_stopped_goes_on_with_what_is_missing(
    tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = embed(tmp_path / "whole", f"embed.format={format}")
    taken = parts._taken
    with monkeypatch.context() as patched:
        calls = itertools.count()
        patched.setattr(parts, "_taken", lambda *given: taken(*given) if next(calls) < 9 else os.kill(os.getpid(), 2))
        with pytest.raises(Preempted):
            embed(tmp_path, f"embed.format={format}")
    done = embed(tmp_path, f"embed.format={format}")
    assert done["embedded"] == 861 - 9 * 16
    assert contents(done["folder"]) == contents(whole["folder"])


def test_a_folder_is_written_with_files_labels_and_class_names(tmp_path: Path) -> None:
    root = images(tmp_path / "set", 20, "train", "test", "pretext")
    table = pd.read_parquet(of_folder(tmp_path, root)["folder"])
    assert table.groupby("split").size().to_dict() == {"pretext": 40, "test": 40, "train": 36, "val": 4}
    row = table[table["file"] == "test/b/003.png"].iloc[0]
    assert (row["split"], row["label"], row["class"], row["index"]) == ("test", 1, "b", 23)
    held_out = table[table["split"].isin(["train", "val"])].sort_values("index")
    assert held_out["index"].tolist() == list(range(40))  # of the set as it was published
    assert table[table["split"] == "pretext"]["label"].isna().all()
    assert table["file"].is_unique and all((root / file).is_file() for file in table["file"])


def test_images_without_labels_are_one_split(tmp_path: Path) -> None:
    root = images(tmp_path / "flat", 20)
    done = of_folder(tmp_path, root, "embed.format=npz")
    with np.load(Path(done["folder"], "train.npz"), allow_pickle=False) as found:
        assert found["files"].tolist() == [f"{i:03}.png" for i in range(20)]
        assert found["embeddings"].shape == (20, 24) and "labels" not in found.files
        told = json.loads(str(found["metadata"]))
    assert told["input"]["size"] == 16 and told["root"] == str(root) and told["encoder"] == "vit-tiny"
    assert done["files"] == [f"{done['folder']}/train.npz"]


def test_a_changed_or_new_image_costs_its_part_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = images(tmp_path / "flat", 40)
    first = contents(of_folder(tmp_path, root)["folder"])
    Image.new("RGB", (20, 16), "red").save(root / "039.png")
    Image.new("RGB", (20, 16), "blue").save(root / "040.png")
    again = of_folder(tmp_path, root)
    assert again["embedded"] == 9  # the third part
    assert "1 part is of other images" in capsys.readouterr().out
    (root / "040.png").unlink()
    for name in range(16, 40):
        (root / f"{name:03}.png").unlink()
    less = of_folder(tmp_path, root)
    assert less["embedded"] == 0 and [Path(file).name for file in less["files"]] == ["train-00000.parquet"]
    assert contents(less["folder"])["train-00000.parquet"] == first["train-00000.parquet"]
    assert not Path(less["folder"], "train-00001.parquet").exists()


def test_broken_images_are_left_out_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = images(tmp_path / "flat", 10)
    (root / "003.png").write_bytes((root / "003.png").read_bytes()[:40])
    with pytest.raises(UserError, match=r"003\.png: cannot be read"):
        of_folder(tmp_path, root)
    done = of_folder(tmp_path, root, "dataset.source.broken=skip")
    assert (done["images"], done["left_out"]) == (9, 1)
    assert "1 broken image" in capsys.readouterr().out
    table = pd.read_parquet(done["folder"])
    assert "003.png" not in set(table["file"]) and table["index"].tolist() == [0, 1, 2, *range(4, 10)]


def test_chosen_splits_can_be_followed_by_the_rest(tmp_path: Path) -> None:
    test = embed(tmp_path, "embed.splits=[test]")
    assert {Path(file).name[:4] for file in test["files"]} == {"test"} and test["images"] == 597
    rest = embed(tmp_path)
    assert rest["folder"] == test["folder"] and rest["embedded"] == 264
    assert contents(embed(tmp_path / "other")["folder"]) == contents(rest["folder"])


def test_models_data_precisions_and_formats_have_folders_of_their_own(tmp_path: Path) -> None:
    words = [
        (),
        ("seed=1",),
        ("dataset.limit=32",),
        ("model.patch_size=4",),
        ("precision=bf16",),
        ("embed.format=npz",),
    ]
    folders = [embed(tmp_path, "embed.splits=[train]", *word)["folder"] for word in words]
    assert len(set(folders)) == len(words)
    assert {Path(folder).parent for folder in folders} == {tmp_path / "default" / "embeddings"}
    assert embed(tmp_path, "embed.splits=[train]", "num_workers=1", "embed.rows=64")["folder"] == folders[0]


def test_another_place(tmp_path: Path) -> None:
    place = tmp_path / "mine"
    words = (f"embed.out={place}", "embed.splits=[train]")
    assert embed(tmp_path, *words)["folder"] == str(place)
    assert embed(tmp_path, *words)["embedded"] == 0
    for other in ("model.patch_size=4", "embed.format=npz"):
        with pytest.raises(
            UserError, match=r"^embed\.out: .*mine holds other embeddings \(vit-tiny digits fp32 parquet"
        ):
            embed(tmp_path, *words, other)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").touch()
    with pytest.raises(UserError, match=r"^embed\.out: .*full holds other files"):
        embed(tmp_path, f"embed.out={tmp_path}/full")
    with pytest.raises(UserError, match=r"^embed\.out: .*notes\.txt is no folder"):
        embed(tmp_path, f"embed.out={tmp_path}/full/notes.txt")


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("embed.format=csv", "embed.format: 'csv'; must be one of: parquet, npz"),
        ("embed.rows=0", "embed.rows: 0; must be"),
        ("embed.splits=[tests]", "embed.splits: ['tests']; must be"),
        ("embed.splits=[pretext]", "embed.splits: digits has no images in pretext; choose from: train, val, test"),
        ("embed.splits=[]", "embed.splits: []"),
    ],
)
def test_refusals(tmp_path: Path, word: str, told: str) -> None:
    with pytest.raises(UserError) as refused:
        embed(tmp_path, word)
    assert str(refused.value).startswith(told)
    assert not (tmp_path / "default").exists()


def test_parquet_without_pyarrow_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "dinodiet.store.embeddings.parquet", raising=False)
    with pytest.raises(UserError, match=r"^embed\.format: parquet needs pyarrow: pip install 'dinodiet\[parquet\]'"):
        embed(tmp_path)


def test_two_at_once_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = parts._taken

    def second(batches: Iterator[torch.Tensor], count: int) -> torch.Tensor:
        monkeypatch.setattr(parts, "_taken", taken)
        with pytest.raises(UserError, match="another process writes embeddings to it"):
            embed(tmp_path)
        return taken(batches, count)

    monkeypatch.setattr(parts, "_taken", second)
    assert embed(tmp_path)["embedded"] == 861


@pytest.mark.slow
@pytest.mark.parametrize("format", ["parquet", "npz"])
def test_a_killed_command_continues_to_the_same_bytes(tmp_path: Path, format: str) -> None:
    root = images(tmp_path / "flat", 1500)
    words = (*FOLDER, *MODE, f"dataset.source.root={root}", f"embed.format={format}")
    command = [sys.executable, str(Path(__file__).parents[2] / "launch.py"), *words, f"outputs_dir={tmp_path}/out"]
    process = started(command, tmp_path)
    while len(list((tmp_path / "out").rglob("train-*"))) < 5:
        time.sleep(0.01)
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    there = {path: path.read_bytes() for path in (tmp_path / "out").rglob("train-*")}
    done = launch(tmp_path / "out", *words)
    assert done.returncode == 0, done.stderr
    assert "images were embedded already, " in done.stdout
    assert launch(tmp_path / "whole", *words).returncode == 0
    made, whole = (contents(next((tmp_path / out).glob("*/embeddings/*"))) for out in ("out", "whole"))
    assert {k: v for k, v in made.items() if not k.startswith(".")} == {
        k: v for k, v in whole.items() if not k.startswith(".")
    }
    assert format == "npz" or all(made[path.name] == content for path, content in there.items())


@pytest.mark.slow
def test_a_grid_embeds_each_cell(tmp_path: Path) -> None:
    done = launch(tmp_path, "-m", *TINY, *MODE, "embed.format=parquet,npz", "embed.splits=[val]")
    assert done.returncode == 0, done.stderr
    assert "embed: 2 of 2 passed" in done.stdout
    assert len(list(tmp_path.glob("default/embeddings/*"))) == 2
