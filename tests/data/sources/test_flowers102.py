from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dinodiet.data.sources.flowers102 import flowers102
from dinodiet.data.sources.flowers102_names import NAMES
from dinodiet.errors import UserError
from tests.data import layouts, releases

PUBLISHED = {"classes": 2, "train": 20, "val": 20, "test": 20}


def test_counts_labels_and_pixels(tmp_path: Path) -> None:
    releases.flowers(tmp_path)
    source = flowers102(root=str(tmp_path), download=False, published=PUBLISHED)
    assert source.classes == ("pink primrose", "hard-leaved pocket orchid")
    assert layouts.splits(source) == {
        split: ([number for number, _ in releases.places(start)], [0, 1] * 10)
        for start, split in enumerate(("train", "val", "test"))
    }


@pytest.mark.parametrize(
    ("file", "variables", "fault"),
    [
        ("imagelabels.mat", {"labels": np.array([[0, 1]])}, "class 0 of 102"),
        ("imagelabels.mat", {"labels": np.array([[1.5, 1]])}, "1.5 found where a whole number"),
        ("imagelabels.mat", {"other": np.array([[1, 1]])}, "no variable 'labels'"),
        ("imagelabels.mat", {"labels": np.array([[1, 2]])}, "image 21 of 2"),
        ("setid.mat", {"trnid": [1], "valid": [2], "tstid": ["x"]}, "x found where a whole number"),
    ],
)
def test_wrong_lists_are_named(file: str, variables: dict[str, Any], fault: str, tmp_path: Path) -> None:
    releases.matlab(releases.flowers(tmp_path) / file, **variables)
    with pytest.raises(UserError, match=rf"\.mat: it is broken \(.*{fault}.*\); get http") as caught:
        flowers102(root=str(tmp_path), download=False)
    assert "\n" not in str(caught.value)


def test_each_file_is_named(tmp_path: Path) -> None:
    (releases.flowers(tmp_path) / "setid.mat").unlink()
    with pytest.raises(UserError, match=r"setid.mat not found; get https.*/setid.mat and put it in"):
        flowers102(root=str(tmp_path), download=False)


def test_names_are_those_of_torchvision() -> None:
    from torchvision.datasets import Flowers102

    known = getattr(Flowers102, "classes", None)  # of 0.22
    assert len(NAMES) == 102
    assert known is None or tuple(name.rstrip("?") for name in known) == NAMES
