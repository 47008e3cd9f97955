from pathlib import Path

import pytest

from dinodiet.data.sources.oxford_pets import oxford_pets
from dinodiet.errors import UserError
from tests.data import layouts, releases

PUBLISHED = {"classes": 2, "train": 20, "test": 20}


def test_counts_labels_and_pixels(tmp_path: Path) -> None:
    releases.pets(tmp_path)
    source = oxford_pets(root=str(tmp_path), download=False, published=PUBLISHED)
    assert source.classes == releases.BREEDS
    assert layouts.splits(source) == {
        split: ([number for number, _ in releases.places(start)], [0, 1] * 10)
        for start, split in enumerate(("train", "test"))
    }


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("Abyssinian_0 2 1 1", r"test.txt: class 2 is called 'american_bulldog' and 'Abyssinian'"),
        ("Abyssinian_0 3 1 1", r"test.txt: two of the 3 classes have one name"),
        ("Abyssinian_0 one 1 1", r"test.txt: 'one' found where a number"),
        ("Abyssinian_0 1", r"test.txt: 'Abyssinian_0 1' found where 4 fields"),
        ("Abyssinian_9 1 1 1", r"1 of 1 .* first .*Abyssinian_9.jpg"),
        ("Abyssinian_0 1 1 1", r"Abyssinian_0.jpg is listed twice"),
    ],
)
def test_wrong_lists_are_named(line: str, fault: str, tmp_path: Path) -> None:
    base = releases.pets(tmp_path)
    (base / "images" / "Abyssinian_9.jpg").unlink()
    train = base / "annotations/trainval.txt"
    train.write_text(train.read_text().replace("Abyssinian_9 1 1 1\n", ""))
    (base / "annotations/test.txt").write_text(f"{line}\n")
    with pytest.raises(UserError, match=fault) as caught:
        oxford_pets(root=str(tmp_path), download=False)
    assert "\n" not in str(caught.value)


def test_each_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"oxford-iiit-pet/images not found; get https.*/images.tar.gz"):
        oxford_pets(root=str(tmp_path), download=False)
    (tmp_path / "oxford-iiit-pet/images").mkdir(parents=True)
    with pytest.raises(UserError, match=r"oxford-iiit-pet/annotations not found; get https.*/annotations.tar.gz"):
        oxford_pets(root=str(tmp_path), download=False)
