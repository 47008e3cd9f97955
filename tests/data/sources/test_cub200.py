from pathlib import Path

import pytest

from dinodiet.data.sources.cub200 import cub200
from dinodiet.errors import UserError
from tests.data import layouts, releases

PUBLISHED = {"classes": 2, "train": 20, "test": 20}


@pytest.mark.parametrize("below", ["", "CUB_200_2011"])
def test_counts_labels_and_pixels(below: str, tmp_path: Path) -> None:
    releases.birds(tmp_path / below)
    source = cub200(root=str(tmp_path), download=False, published=PUBLISHED)
    assert source.classes == ("Black_footed_Albatross", "Laysan_Albatross")
    assert layouts.splits(source) == {
        split: ([number for number, _ in releases.places(start)], [0, 1] * 10)
        for start, split in enumerate(("train", "test"))
    }


@pytest.mark.parametrize(
    ("file", "text", "fault"),
    [
        ("train_test_split.txt", "1 1\n2 2\n", r"train_test_split.txt: image 3 is not listed"),
        ("image_class_labels.txt", "".join(f"{i} 3\n" for i in range(1, 41)), r"labels.txt: no class '3' is known"),
        ("classes.txt", "1\n", r"classes.txt: '1' found where 2 fields"),
        ("images.txt", "1 001.Black_footed_Albatross/x.jpg\n", r"1 of 0?1? ?.*not found, first .*x.jpg"),
    ],
)
def test_wrong_lists_are_named(file: str, text: str, fault: str, tmp_path: Path) -> None:
    (releases.birds(tmp_path) / file).write_text(text)
    with pytest.raises(UserError, match=fault) as caught:
        cub200(root=str(tmp_path), download=False)
    assert "\n" not in str(caught.value) and "; get http" in str(caught.value)


def test_missing_set_says_how(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"{tmp_path}/CUB_200_2011 not found; get https.*tgz and unpack it in"):
        cub200(root=str(tmp_path), download=False)
