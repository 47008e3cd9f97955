from pathlib import Path

import numpy as np
import pytest

from dinodiet.data.dataset import open_dataset
from dinodiet.data.sources.stanford_dogs import stanford_dogs
from dinodiet.errors import UserError
from tests.data import layouts, releases

PUBLISHED = {"classes": 2, "train": 20, "test": 20}


@pytest.mark.parametrize("lists", ["lists", "."])
def test_counts_labels_and_pixels(lists: str, tmp_path: Path) -> None:
    releases.dogs(tmp_path, lists)
    source = stanford_dogs(root=str(tmp_path), download=False, published=PUBLISHED)
    assert source.classes == ("Chihuahua", "Japanese_spaniel")
    assert layouts.splits(source) == {
        split: ([number for number, _ in releases.places(start)], [0, 1] * 10)
        for start, split in enumerate(("train", "test"))
    }
    data = open_dataset(source)
    assert [len(split) for split in (data.train, data.val, data.test)] == [18, 2, 20]
    assert not layouts.files(data.train) & layouts.files(data.val)


def test_wrong_lists_are_named(tmp_path: Path) -> None:
    base = releases.dogs(tmp_path)
    path = base / "lists/test_list.mat"
    for files, labels, fault in (
        ([f"{releases.DOGS[0]}/x.jpg"], [[1], [2]], "1 files and 2 labels"),
        ([f"{releases.DOGS[0]}/x.jpg"], [[2]], f"class 2 is called '{releases.DOGS[1]}' and '{releases.DOGS[0]}'"),
        ([f"{releases.DOGS[0]}/x.jpg"], [[1]], "1 of 1 .* not found, first .*/x.jpg"),
    ):
        releases.matlab(path, file_list=files, labels=np.array(labels))
        with pytest.raises(UserError, match=fault):
            stanford_dogs(root=str(tmp_path), download=False)
    path.unlink()
    with pytest.raises(
        UserError, match=r"lists/test_list.mat not found; get http.*images.tar.*lists.tar and unpack it"
    ):
        stanford_dogs(root=str(tmp_path), download=False)
