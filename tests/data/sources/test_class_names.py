import json
from pathlib import Path
from typing import Any

import pytest
import torch

from dinodiet.data.dataset import RawSplits, open_dataset
from dinodiet.data.images import TensorImages
from dinodiet.data.sources.class_names import class_names
from dinodiet.data.sources.digits import digits
from dinodiet.data.sources.fgvc_aircraft import fgvc_aircraft
from dinodiet.data.sources.folder import image_folder
from dinodiet.data.sources.food101 import food101
from dinodiet.data.sources.imagenet import imagenet
from dinodiet.data.sources.medmnist import medmnist_set
from dinodiet.data.sources.plantnet300k import plantnet300k
from dinodiet.errors import UserError
from tests.data import layouts
from tests.data.sources import test_huggingface, test_medmnist

ANTS = ("ant", "bee")


def test_wnids_of_imagenet_are_told_in_words_and_other_folders_as_they_are() -> None:
    assert class_names(["n01440764", "n02009912", "n15075141"]) == ("tench", "American egret", "toilet tissue")
    assert class_names(["n01440764", "n99999999"]) == ("n01440764", "n99999999")
    assert class_names(["ant", "b\udcff"]) == ("ant", "b\\xff")


def test_names_follow_the_labels(tmp_path: Path) -> None:
    layouts.tree(tmp_path / "own", {"train": "train"}, ANTS, ".png")
    assert image_folder(root=str(tmp_path / "own")).classes == ANTS
    layouts.tree(tmp_path / "imagenet", {"train": "train", "val": "val"}, ("n01440764", "n01443537"), ".JPEG")
    assert imagenet(root=str(tmp_path / "imagenet")).classes == ("tench", "goldfish")
    layouts.food101(tmp_path)
    assert food101(root=str(tmp_path)).classes == layouts.DISHES
    layouts.aircraft(tmp_path)
    assert fgvc_aircraft(root=str(tmp_path)).classes == ("737-700", "737-800", "F/A-18")
    assert fgvc_aircraft(root=str(tmp_path), level="family").classes == ("Boeing 737", "F/A-18")
    test_medmnist.write(tmp_path, "chestmnist")
    found = medmnist_set(name="chestmnist", root=str(tmp_path)).classes
    assert found is not None and (found[0], found[9], found[13]) == ("atelectasis", "edema", "hernia")
    assert digits().classes == tuple("0123456789")


def test_a_table_names_its_labels(tmp_path: Path) -> None:
    for number in range(8):
        layouts.write(tmp_path / f"{number}.png", number)
    table = "file,label\n" + "".join(f"{number}.png,{(10, 9)[number % 2]}\n" for number in range(8))
    (tmp_path / "labels.csv").write_text(table)
    source = image_folder(root=str(tmp_path), labels="labels.csv")
    assert source.classes == ("9", "10")
    assert source.train.labels is not None
    labels = dict(zip(layouts.numbers(source.train), source.train.labels.tolist(), strict=True))
    assert all(source.classes[label] == ("10", "9")[number % 2] for number, label in labels.items())


def test_species_are_named_by_the_sets_own_table(tmp_path: Path) -> None:
    folder = tmp_path / "plantnet_300K"
    splits = {split: f"images_{split}" for split in ("train", "val", "test")}
    layouts.tree(folder, splits, ("1355868", "99"), ".jpg")
    assert plantnet300k(root=str(tmp_path)).classes == ("1355868", "99")
    table = folder / "plantnet300K_species_id_2_name.json"
    table.write_text(json.dumps({"1355868": "Lactuca virosa L."}))
    assert plantnet300k(root=str(tmp_path)).classes == ("Lactuca virosa L.", "99")
    table.write_text("[]")
    with pytest.raises(UserError, match=rf"^plantnet300k: {table} is broken .*; get plantnet"):
        plantnet300k(root=str(tmp_path))


@pytest.mark.parametrize("kind", ["ClassLabel", "string", "int64"])
def test_columns_of_hugging_face(tmp_path: Path, kind: str) -> None:
    pa = pytest.importorskip("pyarrow")
    rows = test_huggingface.rows(0, 9)
    if kind == "string":
        rows = [{**row, "label": test_huggingface.NAMES[row["label"]]} for row in rows]
    types = {"ClassLabel": None, "string": pa.string(), "int64": pa.int64()}
    for split in ("train", "test"):
        test_huggingface.parquet(tmp_path / "set" / f"{split}-0.parquet", rows, types[kind])
    source = test_huggingface.opened(tmp_path)
    assert source.classes == (None if kind == "int64" else tuple(test_huggingface.NAMES))


def test_names_are_as_many_as_labels_and_change_no_specification() -> None:
    images = TensorImages(torch.zeros(20, 1, 2, 2, dtype=torch.uint8), torch.arange(20) % 2)
    raw: dict[str, Any] = {"name": "small", "train": images, "test": images, "num_labels": 2}
    named, nameless = open_dataset(RawSplits(**raw, classes=ANTS)).spec, open_dataset(RawSplits(**raw)).spec
    assert (named.classes, nameless.classes) == (ANTS, None)
    assert named == nameless and hash(named) == hash(nameless)
    with pytest.raises(UserError, match=r"^small: 3 names of classes for 2 labels"):
        open_dataset(RawSplits(**raw, classes=("a", "b", "c")))
