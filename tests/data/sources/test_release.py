"""What all sets share that come as archives and lists."""

import hashlib
import importlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dinodiet.data.dataset import RawSplits
from dinodiet.data.sources.download import file_name, is_archive
from dinodiet.data.sources.release import Part, Release
from dinodiet.errors import NotOnDisk, UserError
from tests.data import layouts, releases
from tests.web import published, serving


def release(folder: Path, *parts: Part) -> Release:
    return Release("birds", folder, parts, "" if parts else "get it from a friend")


def test_parts_are_fetched_and_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf, root = tmp_path / "shelf", tmp_path / "root" / "birds"
    for number in range(3):
        layouts.write(shelf / "jpg" / f"{number}.jpg", number)
    (shelf / "a.txt").write_text("0.jpg\n")
    (shelf / "b.txt").write_text("1.jpg\n")
    releases.packed(shelf / "images.tgz", shelf / "jpg")
    releases.packed(shelf / "lists.tar", shelf / "a.txt", shelf / "b.txt")
    md5 = {name: hashlib.md5((shelf / name).read_bytes()).hexdigest() for name in ("images.tgz", "lists.tar", "b.txt")}
    with serving(tmp_path, monkeypatch) as web:
        web.folder, web.cuts = shelf, [40]
        found = release(
            root,
            Part(f"{web.address}/images.tgz", "jpg", md5["images.tgz"]),
            Part(f"{web.address}/lists.tar", "lists", md5["lists.tar"], loose=True),
            Part(f"{web.address}/b.txt", "b.txt", md5["b.txt"]),
        )
        with pytest.raises(NotOnDisk, match=rf"birds: {root}/jpg not found; get .*images.tgz and unpack it in {root},"):
            found.ensure(False)
        assert not root.exists()
        assert [asset.find() for asset in found.assets(True)] == [None] * 3
        for asset in found.assets(True):
            assert asset.get is not None
            asset.get()
        assert web.gets()[:2] == [("/images.tgz", ""), ("/images.tgz", "bytes=40-")]
        found.ensure(False)
    assert [asset.find() for asset in found.assets(True)] == [root / name for name in ("jpg", "lists", "b.txt")]
    assert layouts.numbers(found.images(root / "jpg", ["2.jpg", "0.jpg"], [0, 1])) == [2, 0]
    assert found.lines(root / "lists" / "a.txt") == ["0.jpg"]
    assert {path.name for path in root.iterdir()} == {"jpg", "lists", "b.txt"}


def test_another_checksum_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(tmp_path, monkeypatch) as web:
        web.files["/a.txt"] = b"other"
        found = release(tmp_path / "root", Part(f"{web.address}/a.txt", "a.txt", "0" * 32))
        with pytest.raises(NotOnDisk, match=r"a.txt not found, and the download failed .*MD5.*; get http") as caught:
            found.ensure(True)
    assert "\n" not in str(caught.value) and not (tmp_path / "root").exists()


def test_a_loose_archive_is_unpacked_by_hand_into_its_folder(tmp_path: Path) -> None:
    found = release(tmp_path, Part("http://x/lists.tar", "lists", loose=True), Part("http://x/a.txt", "a.txt"))
    first, second = found.how.split("; ")
    assert first == f"get http://x/lists.tar and unpack it in {tmp_path}/lists"
    assert second == f"get http://x/a.txt and put it in {tmp_path}"


def test_another_place_is_taken(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    found = release(tmp_path, Part("http://x/a.zip", "one", also=("other",)))
    found.ensure(False)
    assert [asset.find() for asset in found.assets(False)] == [tmp_path / "other"]
    assert found.first("one", "other") == tmp_path / "other"


def test_lists(tmp_path: Path) -> None:
    found, path = release(tmp_path), tmp_path / "list.txt"
    path.write_text("# name number\n a b 1 \n\nc 2 3\n")
    assert found.rows(path, 2) == [["a", "b 1"], ["c", "2 3"]]
    assert found.lines(path) == ["a b 1", "c 2 3"]
    with pytest.raises(UserError, match=rf"^birds: {path}: 'a b 1' found where 4 fields.*; get it from a friend"):
        found.rows(path, 4)
    with pytest.raises(UserError, match=r"'x' found where a number is expected"):
        found.numbers(path, ["1", "x"])
    with pytest.raises(UserError, match=r"list.txt: no class 'c' is known"):
        found.labels(path, ["b", "c"], ["a", "b"])
    for content, fault in ((b"\xff\xfe\x00", "decode"), (b"", "empty"), (b"<html>Sign in</html>", "a web page")):
        path.write_bytes(content)
        with pytest.raises(UserError, match=rf"list.txt: it is broken \(.*{fault}.*\); get it") as caught:
            found.lines(path)
        assert "\n" not in str(caught.value)
    path.unlink()
    with pytest.raises(NotOnDisk, match=rf"{path} not found; get it from a friend"):
        found.lines(path)


def test_an_image_is_of_one_split(tmp_path: Path) -> None:
    for number in range(3):
        layouts.write(tmp_path / f"{number}.jpg", number)
    found = release(tmp_path)
    train = found.images(tmp_path, ["0.jpg", "1.jpg"], [0, 1])
    for names in (["1.jpg"], ["2.jpg", "2.jpg"]):
        source = RawSplits("birds", train, found.images(tmp_path, names, [0] * len(names)), 2)
        with pytest.raises(UserError, match=rf"birds: {tmp_path}/{names[0]} is listed twice; get it from a friend"):
            found.checked(source, None, "refuse")


SETS: dict[str, Callable[[Path], Path]] = {
    "eurosat": releases.eurosat,
    "dtd": lambda root: releases.dtd(root).parent,
    "cub200": lambda root: releases.birds(root).parent,
    "oxford_pets": releases.pets,
    "flowers102": releases.flowers,
    "stanford_dogs": releases.dogs,
}


def shelved(part: Part, folder: Path, shelf: Path) -> Path:
    """Put a part of a set on a shelf as it is published."""
    file, content = shelf / file_name(part.url), folder / part.place
    if is_archive(part.url):
        releases.packed(file, *(content.iterdir() if part.loose else [content]))
    else:
        shutil.copyfile(content, file)
    return file


@pytest.mark.parametrize("name", SETS)
def test_a_set_is_downloaded_as_it_is_published(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module(f"dinodiet.data.sources.{name}")
    folder, shelf = SETS[name](tmp_path / "written"), tmp_path / "shelf"
    shelf.mkdir()
    files = [shelved(part, folder, shelf) for part in module.PARTS]
    with published(shelf, monkeypatch) as address:
        parts = [
            replace(part, url=f"{address}{file.name}", md5=hashlib.md5(file.read_bytes()).hexdigest())
            for part, file in zip(module.PARTS, files, strict=True)
        ]
        monkeypatch.setattr(module, "PARTS", tuple(parts))
        source = getattr(module, name)(root=str(tmp_path / "root"))
    again = getattr(module, name)(root=str(tmp_path / "written"), download=False)
    assert layouts.splits(source) == layouts.splits(again)
    assert len(source.train) == len(source.test) == 20
    left = [path for path in (tmp_path / "root").rglob("*") if is_archive(path.name) or path.name.startswith(".")]
    assert not left
