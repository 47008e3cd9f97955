"""Stanford Cars (Krause et al. 2013): 196 makes, models and years, official train and test splits; got by hand."""

from __future__ import annotations

from pathlib import Path

from dinodiet.config.signature import Neutral
from dinodiet.data.dataset import RawSplits
from dinodiet.data.images import FileImages
from dinodiet.data.sources.broken import Broken
from dinodiet.data.sources.mat_lists import Value, column, read_lists, texts, whole_numbers
from dinodiet.data.sources.release import Part, Release, released
from dinodiet.io.scratch import data_root

HINT = "its own page is gone, so take a copy of the set"
DEVKIT = ("devkit", "car_devkit/devkit")
TEST_LISTS = ("cars_test_annos_withlabels.mat", "cars_test_annos_withlabels (1).mat")
PARTS = (
    Part("cars_train.tgz", "cars_train"),
    Part("cars_test.tgz", "cars_test"),
    Part("car_devkit.tgz", "devkit", also=DEVKIT[1:]),
    Part(
        TEST_LISTS[0],
        TEST_LISTS[0],
        also=tuple(f"{folder}{name}" for folder in ("", *(f"{kit}/" for kit in DEVKIT)) for name in TEST_LISTS),
    ),
)
OLD = (Part("car_ims.tgz", "car_ims"), Part("cars_annos.mat", "cars_annos.mat"))  # all images in one folder


def _release(root: str) -> Release:
    folder = data_root(root) / "stanford_cars"
    return Release("stanford_cars", folder, OLD if (folder / "car_ims").exists() else PARTS, HINT, online=False)


@released("stanford_cars", _release)
def stanford_cars(
    *, root: Neutral[str], broken: Broken = "refuse", published: Neutral[dict[str, int] | None] = None
) -> RawSplits:
    """Return the official splits of `ROOT/stanford_cars/`, in whichever of its layouts it is there.

    * as torchvision reads it: `cars_train/*.jpg`, `cars_test/*.jpg`, `devkit/cars_train_annos.mat`,
      `devkit/cars_meta.mat`, `cars_test_annos_withlabels.mat`; also with folders in folders of the same name, with
      `car_devkit/devkit/`, or with the list of the test images in the devkit;
    * the older one: `car_ims/*.jpg` and `cars_annos.mat`, whose field `test` says the split.

    Images are not cropped to the boxes of the cars.

    Args:
        root: the folder that holds `stanford_cars/`.
        broken: what is done about images that cannot be decoded, see `handle_broken`.
        published: counts to hold the set against, see `check_published`.

    Raises:
        UserError: files are missing, or are not the published ones.
    """
    release = _release(root)
    release.ensure(False)
    places = [place for part in release.parts if (place := part.find(release.folder)) is not None]
    train, test, classes = _of_one_list(release, *places) if len(places) == 2 else _of_two_lists(release, *places)
    source = RawSplits("stanford_cars", train, test, len(classes), classes=tuple(classes))
    return release.checked(source, published, broken)


Splits = tuple[FileImages, FileImages, list[str]]


def _of_two_lists(release: Release, train: Path, test: Path, devkit: Path, test_list: Path) -> Splits:
    classes = _classes(release, devkit / "cars_meta.mat")
    splits = [
        release.images(_inner(folder), *_listed(release, path, "fname", _records(release, path), len(classes)))
        for folder, path in ((train, devkit / "cars_train_annos.mat"), (test, test_list))
    ]
    return splits[0], splits[1], classes


def _inner(folder: Path) -> Path:
    """Return the folder of this name in a folder, as some copies have it, if there is one."""
    inner = folder / folder.name
    return inner if inner.is_dir() else folder


def _of_one_list(release: Release, folder: Path, path: Path) -> Splits:
    classes, records = _classes(release, path), _records(release, path)
    with release.reading(path):
        is_test = [number == 1 for number in whole_numbers(column(records, "test"))]
    names, labels = _listed(release, path, "relative_im_path", records, len(classes))
    rows = list(zip(is_test, (Path(name).name for name in names), labels, strict=True))
    splits = [
        release.images(folder, [row[1] for row in rows if row[0] is part], [row[2] for row in rows if row[0] is part])
        for part in (False, True)
    ]
    return splits[0], splits[1], classes


def _classes(release: Release, path: Path) -> list[str]:
    with release.reading(path):
        return texts(read_lists(path, "class_names")["class_names"])


def _records(release: Release, path: Path) -> Value:
    with release.reading(path):
        return read_lists(path, "annotations")["annotations"]


def _listed(release: Release, path: Path, field: str, records: Value, num_classes: int) -> tuple[list[str], list[int]]:
    """Return the files and the classes, from 0, of a list."""
    with release.reading(path):
        files, labels = texts(column(records, field)), [n - 1 for n in whole_numbers(column(records, "class"))]
        if wrong := [label + 1 for label in labels if not 0 <= label < num_classes]:
            raise ValueError(f"class {wrong[0]} of {num_classes}; the list of the test images without classes?")
    return files, labels
