"""Small sets as their archives hold them: two classes or three, described by lists of text or of MATLAB."""

import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from dinodiet.data.sources.flavia import SPECIES
from tests.data import layouts

LANDS = ("AnnualCrop", "SeaLake")
SPLITS = ("train", "val", "test")


def eurosat(root: Path, folder: str = "2750") -> Path:
    """Write 2 classes, 10 images of each in each split; number = 1000 * split + 100 * label + place."""
    base = root / "eurosat"
    for start, split in enumerate(SPLITS):
        names = {1000 * start + 100 * label + i: land for i in range(10) for label, land in enumerate(LANDS)}
        for number, land in names.items():
            layouts.write(base / folder / land / f"{land}_{number}.jpg", number)
        lines = [f"{land}_{number}.jpg" for number, land in names.items()]
        (base / f"eurosat-{split}.txt").write_text("\n".join(lines) + "\n")
    return base


def dtd(root: Path, partition: int = 1) -> Path:
    """Write 2 textures, 10 images of each in each split; number = 1000 * split + 100 * label + place."""
    base = root / "dtd"
    (base / "labels").mkdir(parents=True)
    for start, split in enumerate(SPLITS):
        numbers = [1000 * start + 100 * label + i for label in range(2) for i in range(10)]
        names = [f"{TEXTURES[n % 1000 // 100]}/{TEXTURES[n % 1000 // 100]}_{n:04d}.jpg" for n in numbers]
        for number, name in zip(numbers, names, strict=True):
            layouts.write(base / "images" / name, number)
        (base / "labels" / f"{split}{partition}.txt").write_text("\n".join(names) + "\n")
    return base


TEXTURES = ("banded", "polka-dotted")


def packed(archive: Path, *contents: Path) -> None:
    """Write a .tar.gz, .tgz, .tar or .zip of files and folders, each under its own name."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as file:
            for content in contents:
                for path in sorted(content.rglob("*")):
                    file.write(path, path.relative_to(content.parent))
        return
    with tarfile.open(archive, "w" if archive.suffix == ".tar" else "w:gz") as tar:
        for content in contents:
            tar.add(content, content.name)


BREEDS = ("Abyssinian", "american_bulldog")


def places(split: int, count: int = 10) -> list[tuple[int, int]]:
    """Return (number, label) of the images of a split, classes in turn; number = 1000 * split + 100 * label + place."""
    return [(1000 * split + 100 * label + i, label) for i in range(count) for label in range(2)]


def birds(root: Path) -> Path:
    """Write 2 species, 10 images of each in train and in test; ids begin at 1, test images come first."""
    base, names = root / "CUB_200_2011", ("001.Black_footed_Albatross", "002.Laysan_Albatross")
    rows = [(number, label, 0) for number, label in places(1)] + [(number, label, 1) for number, label in places(0)]
    for number, label, _ in rows:
        layouts.write(base / "images" / names[label] / f"{number:04d}.jpg", number)
    lists = {
        "classes": [f"{label} {name}" for label, name in enumerate(names, 1)],
        "images": [f"{i} {names[label]}/{number:04d}.jpg" for i, (number, label, _) in enumerate(rows, 1)],
        "image_class_labels": [f"{i} {label + 1}" for i, (_, label, _) in enumerate(rows, 1)],
        "train_test_split": [f"{i} {train}" for i, (_, _, train) in enumerate(rows, 1)],
    }
    for name, lines in lists.items():
        (base / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return base


def pets(root: Path) -> Path:
    """Write 2 breeds, 10 images of each in trainval and in test."""
    base = root / "oxford-iiit-pet"
    (base / "annotations").mkdir(parents=True)
    for start, split in enumerate(("trainval", "test")):
        for number, label in places(start):
            layouts.write(base / "images" / f"{BREEDS[label]}_{number}.jpg", number)
        lines = [f"{BREEDS[label]}_{number} {label + 1} {label + 1} 1" for number, label in places(start)]
        (base / "annotations" / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return base


def matlab(path: Path, **variables: Any) -> None:
    """Write a MATLAB file, compressed as MATLAB does; lists of texts become cells, records structs."""
    from scipy.io import savemat

    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {name: _matlab(value) for name, value in variables.items()}, do_compression=True)


def _matlab(value: Any) -> Any:
    if isinstance(value, list) and isinstance(value[0], str):
        return np.array([*value, None], object)[:-1, None]
    if isinstance(value, list) and isinstance(value[0], dict):
        records = np.zeros((1, len(value)), [(name, object) for name in value[0]])
        for i, record in enumerate(value):
            records[0, i] = tuple(record.values())
        return records
    return value


def flowers(root: Path) -> Path:
    """Write 2 species, 10 images of each in each split; val images come first."""
    base, sets = root / "flowers-102", {"valid": 1, "trnid": 0, "tstid": 2}
    rows = [(number, label) for split in sets.values() for number, label in places(split)]
    for i, (number, _) in enumerate(rows, 1):
        layouts.write(base / "jpg" / f"image_{i:05d}.jpg", number)
    matlab(base / "imagelabels.mat", labels=np.array([[label + 1 for _, label in rows]], np.uint8))
    ids = {name: np.arange(20 * i + 1, 20 * i + 21, dtype=np.uint16)[None] for i, name in enumerate(sets)}
    matlab(base / "setid.mat", **ids)
    return base


DOGS = ("n02085620-Chihuahua", "n02085782-Japanese_spaniel")


def dogs(root: Path, lists: str = "lists") -> Path:
    """Write 2 breeds, 10 images of each in train and in test."""
    base = root / "stanford_dogs"
    for start, split in enumerate(("train", "test")):
        files = [f"{DOGS[label]}/{DOGS[label][:9]}_{number}.jpg" for number, label in places(start)]
        for file, (number, _) in zip(files, places(start), strict=True):
            layouts.write(base / "Images" / file, number)
        labels = np.array([[label + 1.0] for _, label in places(start)])
        matlab(base / lists / f"{split}_list.mat", file_list=files, annotation_list=files, labels=labels)
    return base


MAKES = ["AM General Hummer SUV 2000", "Acura RL Sedan 2012"]
BOX = {f"bbox_{end}": np.uint16(1) for end in ("x1", "y1", "x2", "y2")}


def cars(root: Path) -> Path:
    """Write 2 makes, 10 images of each in train and in test, in torchvision's folders."""
    base = root / "stanford_cars"
    lists = {"train": "devkit/cars_train_annos.mat", "test": "cars_test_annos_withlabels.mat"}
    for start, (split, file) in enumerate(lists.items()):
        rows = [
            {**BOX, "class": np.uint8(label + 1), "fname": f"{i:05d}.jpg"}
            for i, (_, label) in enumerate(places(start), 1)
        ]
        for row, (number, _) in zip(rows, places(start), strict=True):
            layouts.write(base / f"cars_{split}" / str(row["fname"]), number)
        matlab(base / file, annotations=rows)
    matlab(base / "devkit/cars_meta.mat", class_names=MAKES)
    return base


def whole_cars(root: Path) -> Path:
    """Write the same images in one folder with one list."""
    base, every = root / "stanford_cars", [*places(1), *places(0)]
    for i, (number, _) in enumerate(every):
        layouts.write(base / "car_ims" / f"{i:06d}.jpg", number)
    rows = [
        {"relative_im_path": f"car_ims/{i:06d}.jpg", **BOX, "class": np.uint8(label + 1), "test": np.uint8(i < 20)}
        for i, (_, label) in enumerate(every)
    ]
    matlab(base / "cars_annos.mat", annotations=rows, class_names=MAKES)
    return base


def scenes(root: Path, folder: str = "aid/AID") -> Path:
    """Write 2 classes of 10 images each; number = 100 * label + place."""
    layouts.tree(root / folder, {"": ""}, LANDS, ".jpg", count=10)
    return root / folder


def resisc(root: Path) -> Path:
    """Write 2 classes of 10 images each, named by their class, and lists of 6, 2 and 2 of each."""
    base = root / "resisc45"
    for label, land in enumerate(LANDS):
        for i in range(10):
            layouts.write(base / "NWPU-RESISC45" / land / f"{land}_{i:03d}.jpg", 100 * label + i)
    for split, places in (("train", range(6)), ("val", range(6, 8)), ("test", range(8, 10))):
        lines = [f"{land}_{i:03d}.jpg" for i in places for land in LANDS]
        (base / f"resisc45-{split}.txt").write_text("\n".join(lines) + "\n")
    return base


def village(root: Path) -> Path:
    """Write 2 classes, 10 images of each in each split; number = 1000 * split + 100 * label + place."""
    base = root / "plant_village"
    for start, split in enumerate(("train", "test")):
        lines = []
        for number in (1000 * start + 100 * label + i for label in range(2) for i in range(10)):
            lines.append(f"raw/color/{LEAVES[number % 1000 // 100]}/leaf {number}.JPG")
            layouts.write(base / "data" / lines[-1], number)
        (base / f"color_{split}.txt").write_text("\n".join(lines) + "\n")
    return base


LEAVES = ("Apple___Black_rot", "Corn_(maize)___Cercospora_leaf_spot Gray_leaf_spot")


def leaves(root: Path) -> Path:
    """Write the first 10 images of each species, with their numbers."""
    for _, first, _ in SPECIES:
        for number in range(first, first + 10):
            layouts.write(root / "flavia" / "Leaves" / f"{number}.jpg", number)
    return root / "flavia"


def jena(root: Path) -> Path:
    """Write 2 species of 10 images each, with numbers from 1 on, and one published split of 6, 2 and 2 of each."""
    base = root / "jena_flowers30"
    for number in range(1, 21):
        layouts.write(base / "jpg" / f"JFT_{number:05d}.jpg", number)
    rows = [f"JFT_{number:05d}.jpg, {1 + number // 11}" for number in (*range(2, 21), 1)]
    (base / "classlabels.txt").write_text("\n".join(rows) + "\n")
    for name, places in (("trn1", range(1, 7)), ("val1", range(7, 9)), ("tst1", range(9, 11))):
        (base / f"{name}.txt").write_text("\n".join(str(i + 10 * label) for label in range(2) for i in places) + "\n")
    return base


def insects(root: Path) -> Path:
    """Write 3 classes, 4 images of each in each split; number = 1000 * split + 100 * label + place."""
    base = root / "ip102" / "ip102_v1.1"
    for start, split in enumerate(SPLITS):
        numbers = [1000 * start + 100 * label + i for label in range(3) for i in range(4)]
        for number in numbers:
            layouts.write(base / "images" / f"{number:05d}.jpg", number)
        rows = [f"{number:05d}.jpg {number % 1000 // 100}" for number in numbers]
        (base / f"{split}.txt").write_text("\n".join(rows) + "\n")
    (base.parent / "classes.txt").write_text("1  rice leaf roller \t\t\n2  rice leaf caterpillar\t\n3 grub \t  \n")
    return base.parent
