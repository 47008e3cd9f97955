"""Facts that a factory declares about itself: its files, and what planning calls in its place."""

from pathlib import Path
from typing import Any

from dinodiet.config.build import declared
from dinodiet.io.assets import ASSETS, COUNTS, LABELS, Asset, needs, planned, present


def files(*, root: str) -> list[Asset]:
    path = Path(root, "images.bin")
    return [Asset("images", str(path), lambda: present(path), path.touch)]


@needs(files)
@planned(labels=lambda *, root: ("labels", root), counts=lambda *, size=3: ("counts", size))
def images(*, root: str, size: int = 4) -> None:
    raise AssertionError("it was called")


@planned(counts=lambda: None)
def counted() -> None: ...


def told(fact: str, **values: Any) -> list[Any]:
    node = {"_target_": f"{__name__}.images", **values}
    return [tell() for tell in declared(node, "dataset.source", fact)]


def test_assets_are_found_and_had(tmp_path: Path) -> None:
    ((asset,),) = told(ASSETS, root=str(tmp_path))
    assert asset.find() is None and asset.get is not None
    asset.get()
    assert asset.find() == tmp_path / "images.bin"


def test_planning_is_told_by_the_settings_written_or_by_default() -> None:
    assert told(LABELS, root="here") == [("labels", "here")]
    assert told(COUNTS, root="here") == [("counts", 4)]


def test_what_is_not_declared_is_not_told() -> None:
    assert declared({"_target_": f"{__name__}.counted"}, "dataset.source", LABELS) == []
    assert Asset("nothing", "nowhere").find() is None
