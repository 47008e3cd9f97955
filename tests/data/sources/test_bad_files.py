"""Files that are no images, and names that are no text, in a folder of images."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dinodiet.data.dataset import open_dataset
from dinodiet.data.decode import read_image
from dinodiet.data.held_out import held_out_splits
from dinodiet.data.images import FileImages
from dinodiet.data.sources.folder import image_folder
from dinodiet.data.sources.huggingface import huggingface_set
from dinodiet.errors import UserError, one_line, printable
from dinodiet.io.files import read_json, write_json
from tests.data.sources.test_folder import fill, tree

Write = Callable[[Path], Any]
GONE: list[tuple[Write, str]] = [
    (lambda path: path.symlink_to("gone"), "a link to gone, which is not there"),
    (lambda path: path.symlink_to(path.name), "Too many levels"),
    (lambda path: path.touch(), "empty"),
]
PAGES: list[tuple[Write, str]] = [
    (lambda path: path.write_text("\n<!DOCTYPE html><html>Sign in"), "a web page"),
    (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00"), "git lfs pull"),
]


def opened(root: Path, **options: Any) -> Any:
    return image_folder(root=str(root), **options)


@pytest.mark.parametrize(("write", "reason"), GONE)
@pytest.mark.parametrize("split", ["train", "test"])
def test_files_without_content_are_refused_before_the_run(
    split: str, write: Write, reason: str, tmp_path: Path
) -> None:
    root = tree(tmp_path, "train", "test")
    write(root / split / "ant" / "x.png")
    with pytest.raises(UserError, match=f"split {split}: 1 of 31 images are broken.*x.png.*{reason}.*broken=skip"):
        opened(root)


@pytest.mark.parametrize(("write", "reason"), GONE + PAGES)
def test_files_without_an_image_are_skipped(
    write: Write, reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tree(tmp_path, "train", "test")
    write(root / "train" / "ant" / "x.png")
    source = opened(root, broken="skip")
    assert len(source.train) == 30
    assert reason in caplog.text
    assert opened(root, broken="skip").train.fingerprint() == source.train.fingerprint()


@pytest.mark.parametrize(("write", "reason"), PAGES)
@pytest.mark.parametrize("split", ["train", "test"])
def test_pages_and_pointers_are_refused_before_the_run(split: str, write: Write, reason: str, tmp_path: Path) -> None:
    root = tree(tmp_path, "train", "test")
    for name in ("a.png", "y.jpg"):
        write(root / split / "ant" / name)
    with pytest.raises(UserError, match=rf"split {split}: 2 of 32 images are broken.*a.png.*{reason}.*broken=skip"):
        opened(root)


def test_of_a_large_set_the_smallest_files_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dinodiet.data.sources.broken.LOOKED_AT", 2)
    root = tree(tmp_path, "train", "test")
    (root / "train" / "cat" / "x.png").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    (root / "train" / "ant" / "long.png").write_bytes(b"<html>" + b" " * 100_000)
    (root / "train" / "ant" / "empty.png").touch()
    with pytest.raises(UserError, match=r"split train: 2 of 33 images are broken: .*empty.png.*x.png"):
        opened(root)


def test_an_image_that_a_decoder_knows_is_none_of_another_kind(tmp_path: Path) -> None:
    root = tree(tmp_path, "train", "test")
    (root / "train" / "ant" / "x.pgm").write_text("P2\n2 2\n9\n1 2 3 4\n")
    Image.new("RGB", (4, 4)).save(root / "train" / "ant" / "y.png", format="PPM")
    Image.new("1", (8, 8)).save(root / "train" / "ant" / "z.png", format="XBM")  # text, too
    assert len(opened(root).train) == 33


@pytest.mark.parametrize(("write", "reason"), PAGES)
def test_what_is_saved_as_an_image_is_called_what_it_is(write: Write, reason: str, tmp_path: Path) -> None:
    write(tmp_path / "x.jpg")
    with pytest.raises(UserError, match=reason):
        read_image(tmp_path / "x.jpg")


def test_a_file_that_vanishes_is_named(tmp_path: Path) -> None:
    fill(tmp_path, 2)
    images = FileImages([tmp_path / "0.png", tmp_path / "1.png"])
    (tmp_path / "1.png").unlink()
    assert images.fingerprint()
    with pytest.raises(UserError, match=r"1.png.*no such file"):
        images[1]


@pytest.mark.parametrize(("write", "reason"), GONE + PAGES)
@pytest.mark.parametrize("name", ["train-0.parquet", "data/test.arrow"])
def test_tables_of_images_are_called_what_they_are(name: str, write: Write, reason: str, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    write(tmp_path / name)
    with pytest.raises(UserError, match=rf"{name}.*{reason}"):
        huggingface_set(root=str(tmp_path / "cache"), path=str(tmp_path))


@pytest.mark.parametrize(("write", "reason"), PAGES)
def test_a_table_of_labels_is_called_what_it_is(write: Write, reason: str, tmp_path: Path) -> None:
    write(tmp_path / "labels.csv")
    with pytest.raises(UserError, match=rf"labels.csv is .*{reason}"):
        opened(tmp_path, labels="labels.csv")


def test_a_table_may_name_links_to_nothing_and_names_that_are_no_text(tmp_path: Path) -> None:
    fill(tmp_path, 5)
    (tmp_path / "0.png").rename(tmp_path / os.fsdecode(b"\xff.png"))
    (tmp_path / "gone.png").symlink_to("nowhere")
    files = [b"\xff.png", b"1.png", b"2.png", b"3.png", b"4.png", b"gone.png"]
    lines = [b"%s,%s,%s" % (file, b"ab"[i % 2 : i % 2 + 1], b"test" * (i < 2)) for i, file in enumerate(files)]
    (tmp_path / "labels.csv").write_bytes(b"\n".join([b"file,label,split", *lines]))
    with pytest.raises(UserError, match=r"gone.png \(a link to nowhere"):
        opened(tmp_path, labels="labels.csv")
    source = opened(tmp_path, labels="labels.csv", broken="skip")
    assert len(source.train) + len(source.test) == 5


def test_a_file_is_listed_once_by_whatever_spelling(tmp_path: Path) -> None:
    fill(tmp_path, 2)
    (tmp_path / "labels.csv").write_text("file,label\n0.png,a\n1.png,b\n./0.png,b\n")
    with pytest.raises(UserError, match="listed twice"):
        opened(tmp_path, labels="labels.csv")


ODD = (b"\xff", b"\xff,=", b"a\nb", b'say "x"', b"{a: b}", b"k=v", b"\xe2\x80\xa8", b"#1", b"%s%d", b" ")


@pytest.mark.parametrize("odd", ODD)
def test_any_name_of_a_file_class_or_root(odd: bytes, tmp_path: Path) -> None:
    name = os.fsdecode(odd)
    root = tmp_path / name
    for split in ("train", "test"):
        for folder in ("ant", name):
            fill(root / split / folder, 5)
            Image.new("RGB", (4, 4)).save(tmp_path / "x.png")
            (tmp_path / "x.png").rename(root / split / folder / f"{name}.png")
    source = opened(root, broken="check", test=None)
    data = open_dataset(source)
    record = held_out_splits(data)
    assert record["dataset"].isprintable() and source.name.isprintable()
    write_json(tmp_path / "splits.json", record)
    kept = read_json(tmp_path / "splits.json")
    assert kept is not None
    assert all((root / "train" / file).is_file() for split in ("val", "test") for file in kept[split]["files"])
    assert source.train.fingerprint() == opened(root, test=None).train.fingerprint()


def test_a_message_is_one_printable_line() -> None:
    name = os.fsdecode(b"a\xff\n\x1b[2Jb")
    assert str(UserError(name)) == one_line(UserError(name)) == r"a\xff\n\x1b[2Jb"
    assert one_line(OSError(2, "no", os.fsdecode(b"\xff"))).isprintable()
    assert printable("Grün 猫.png") == "Grün 猫.png"


def test_a_name_is_printed_with_escapes(tmp_path: Path) -> None:
    lines = "from dinodiet.io.command import exit_code; import sys, os; exit_code(lambda: print(os.fsdecode(b'\\xff')))"
    out = subprocess.run(
        [sys.executable, "-c", lines], capture_output=True, check=True, env={**os.environ, "LANG": "C.UTF-8"}
    )
    assert out.stdout == b"\\udcff\n" and not out.stderr
