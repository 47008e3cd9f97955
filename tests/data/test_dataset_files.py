"""Files of conf/dataset, built as a run builds them, on small sets in the official layouts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from dinodiet.config.build import build
from dinodiet.data.loader import TrainLoader
from dinodiet.errors import UserError
from dinodiet.types import Data
from tests.data import layouts
from tests.places import CONF

DATASETS = CONF / "dataset"
TWO = ("ant", "bee")


def galaxies(root: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(root / "Galaxy10_DECals.h5", "w") as file:
        file["images"] = torch.arange(100, dtype=torch.uint8).view(100, 1, 1, 1).expand(-1, 4, 4, 3).numpy()
        file["ans"] = torch.arange(100).numpy() % 10


LAYOUTS: dict[str, tuple[Callable[[Path], Any], int]] = {  # what writes the set, and its number of training images
    "food101": (layouts.food101, 12),
    "fgvc_aircraft": (layouts.aircraft, 6),
    "galaxy10_decals": (galaxies, 90),
    "plantnet300k": (
        lambda root: layouts.tree(
            root / "plantnet_300K", {split: f"images_{split}" for split in ("train", "val", "test")}, TWO, ".jpg"
        ),
        6,
    ),
    "imagenet": (lambda root: layouts.tree(root / "imagenet", {"train": "train", "val": "val"}, TWO, ".JPEG"), 6),
    "crop14_balance": (
        lambda root: layouts.tree(root / "crop14_balance", {"train": "train", "val": "validation"}, TWO, ".jpg"),
        6,
    ),
}


def node(name: str, root: Path, **source: Any) -> dict[str, Any]:
    """Return the content of a dataset's file as Hydra would compose it, with other values in its source."""
    base, own = OmegaConf.load(DATASETS / "_base.yaml"), OmegaConf.load(DATASETS / f"{name}.yaml")
    composed: Any = OmegaConf.to_container(OmegaConf.merge({"data_dir": str(root)}, base, own), resolve=True)
    del composed["data_dir"], composed["defaults"]
    return {**composed, "source": {**composed["source"], **source}}


@pytest.mark.parametrize("name", LAYOUTS)
def test_small_set_of_the_official_layout(tmp_path: Path, name: str) -> None:
    write, count = LAYOUTS[name]
    write(tmp_path)
    data: Data = build({**node(name, tmp_path, published=None), "val_fraction": 0.34}, "dataset")()
    assert data.spec.name == name
    assert len(data.train) + (0 if name in ("fgvc_aircraft", "plantnet300k") else len(data.val)) == count
    batch = next(iter(TrainLoader(data.pretext, 4, seed=0, num_workers=1).batches(0)))
    assert batch.label is not None
    assert data.pretext.labels is not None
    for image, label, index in zip(batch.images, batch.label, batch.index, strict=True):
        assert torch.equal(image, data.pretext[int(index)])
        assert label == data.pretext.labels[index]


@pytest.mark.parametrize("name", LAYOUTS)
def test_another_set_than_the_published_one_is_refused(tmp_path: Path, name: str) -> None:
    LAYOUTS[name][0](tmp_path)
    with pytest.raises(
        UserError, match=rf"^dataset.source: {name}: .* is not the published set .*published=null"
    ) as caught:
        build(node(name, tmp_path), "dataset")()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", LAYOUTS)
def test_absent_set_says_where_it_was_looked_for_and_how_to_get_it(tmp_path: Path, name: str) -> None:
    options = {} if name in ("plantnet300k", "imagenet") else {"download": False}
    with pytest.raises(UserError, match=rf"^dataset.source: {name}: {tmp_path}/.* not found; get ") as caught:
        build(node(name, tmp_path, **options), "dataset")()
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
