from pathlib import Path
from typing import Any

import pytest

from dinodiet.data.dataset import open_dataset
from dinodiet.data.sources.folder import image_folder
from dinodiet.errors import UserError
from tests.data import layouts


def source(root: Path, table: str, **options: Any) -> Any:
    """Write ten images, `deep/N.png` with N from 0, and a table; return the set."""
    for number in range(10):
        layouts.write(root / "deep" / f"{number}.png", number)
    (root / "labels.csv").write_text(table)
    return image_folder(**{"root": str(root), "labels": "labels.csv", **options})


def rows(*texts: str, start: int = 0) -> str:
    return "".join(f"deep/{number}.png,{text}\n" for number, text in enumerate(texts, start))


def test_a_table_without_splits_is_held_out_as_usual(tmp_path: Path) -> None:
    table = "file,label\n" + rows(*("10", "9") * 5)
    found = source(tmp_path, table, test_fraction=0.2)
    assert (found.name, found.num_labels, len(found.train), len(found.test)) == (tmp_path.name, 2, 8, 2)
    for split in (found.train, found.test):  # numbers are in their own order: 9 before 10
        assert split.labels.tolist() == [1 - number % 2 for number in layouts.numbers(split)]
    data = open_dataset(found, val_fraction=0.25)
    assert [len(split) for split in (data.pretext, data.train, data.val, data.test)] == [6, 6, 2, 2]


def test_a_table_says_the_splits(tmp_path: Path) -> None:
    splits = ["train", "train", "", "val", "test", "test"]
    text = rows(*(f"{'cat' if n % 2 else 'ant'},{split}" for n, split in enumerate(splits)))
    found = source(tmp_path, "file,label,split\n" + text + rows(",pretext", ",pretext", start=6))
    assert layouts.splits(found) == {"train": ([0, 1, 2], [0, 1, 0]), "val": ([3], [1]), "test": ([4, 5], [0, 1])}
    assert (layouts.numbers(found.pretext), found.pretext.labels) == ([6, 7], None)


def test_several_labels_an_image(tmp_path: Path) -> None:
    found = source(tmp_path, "file,label,split\n" + rows("b|a,", "c,", ",", "a,test"))
    assert found.multilabel
    assert found.train.labels.tolist() == [[1, 1, 0], [0, 0, 1], [0, 0, 0]]
    assert found.test.labels.tolist() == [[1, 0, 0]]


def test_images_of_pretext_alone_have_no_labels(tmp_path: Path) -> None:
    data = open_dataset(source(tmp_path, "split,file,label\n" + "".join(f"pretext,deep/{n}.png,\n" for n in range(4))))
    assert (len(data.pretext), data.spec.labelled) == (4, False)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("name,label\na,b\n", "has the columns name, label;"),
        ("file,label,spilt\n", "has the columns file, label, spilt"),
        ("", "is empty"),
        ("file,label\n" + rows("a", "b") + "deep/0.png,b\n", "deep/0.png is listed twice"),
        ("file,label\n" + rows("a") + "no.png,b\nnor.png,b\n", "2 of 3 files not found .*first no.png"),
        ("file,label,split\n" + rows("a,tets"), "line 2: split 'tets'"),
        ("file,label,split\n" + rows("a,", "b,test"), "label 'b' is in no row of train"),
        ("file,label\n" + rows("a", "", "b"), "line 3: no label"),
        ("file,label\n" + rows("a", "b,c"), "line 3: another number of fields"),
        ('file,label\n"deep/0.png,a\n', "cannot be read"),
    ],
)
def test_mistakes_are_one_line(table: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"^labels: {tmp_path}/labels.csv.*{message}") as caught:
        source(tmp_path, table)
    assert "\n" not in str(caught.value)


def test_a_table_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"^labels: no file {tmp_path}/images/other.csv"):
        source(tmp_path / "images", "", labels="other.csv")
    (tmp_path / "own.csv").write_text("file,label\n" + rows(*"ab" * 5))
    assert len(source(tmp_path / "images", "", labels=str(tmp_path / "own.csv")).train) == 8
