"""Archives from elsewhere: what leaves the folder, links, devices and bombs are refused before anything is written."""

import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from dinodiet.io.unpack import UnsafeArchive, unpack


def tar(path: Path, *entries: tuple[str, bytes, int, str]) -> Path:
    """Write an archive of one good file and of entries: name, type, mode, link."""
    with tarfile.open(path, "w:gz") as archive:
        for name, kind, mode, link in (("set/good", tarfile.REGTYPE, 0o644, ""), *entries):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode, entry.linkname = kind, mode, link
            entry.size = 3 if kind == tarfile.REGTYPE else 0
            archive.addfile(entry, io.BytesIO(b"one"))
    return path


@pytest.mark.parametrize(
    ("name", "kind", "mode", "link"),
    [
        ("../out", tarfile.REGTYPE, 0o644, ""),
        ("set/../../out", tarfile.REGTYPE, 0o644, ""),
        ("/tmp/out", tarfile.REGTYPE, 0o644, ""),
        ("C:/out", tarfile.REGTYPE, 0o644, ""),
        ("set\\..\\..\\out", tarfile.REGTYPE, 0o644, ""),
        ("set/link", tarfile.SYMTYPE, 0o777, "../../out"),
        ("set/inner", tarfile.SYMTYPE, 0o777, "good"),
        ("set/hard", tarfile.LNKTYPE, 0o644, "/etc/passwd"),
        ("set/pipe", tarfile.FIFOTYPE, 0o644, ""),
        ("set/null", tarfile.CHRTYPE, 0o644, ""),
        ("set/disk", tarfile.BLKTYPE, 0o644, ""),
        ("set/root", tarfile.REGTYPE, 0o4755, ""),
        ("./set/good", tarfile.REGTYPE, 0o644, ""),
        ("set/good/below", tarfile.REGTYPE, 0o644, ""),
        ("set/good", tarfile.DIRTYPE, 0o755, ""),
    ],
)
def test_a_member_of_a_tar_is_refused_by_name(tmp_path: Path, name: str, kind: bytes, mode: int, link: str) -> None:
    archive = tar(tmp_path / "a.tar.gz", (name, kind, mode, link))
    (tmp_path / "into").mkdir()
    with pytest.raises(UnsafeArchive) as caught:
        unpack(archive, tmp_path / "into")
    assert repr(name) in str(caught.value)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["into"]


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("../out", 0),
        ("/out", 0),
        ("D:out", 0),
        ("a/link", stat.S_IFLNK | 0o777),
        ("a/pipe", stat.S_IFIFO),
        ("a/s", 0o104755),
    ],
)
def test_a_member_of_a_zip_is_refused_by_name(tmp_path: Path, name: str, mode: int) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a/good", b"one")
        entry = zipfile.ZipInfo(name)
        entry.external_attr = mode << 16
        archive.writestr(entry, b"../../out")
    with pytest.raises(UnsafeArchive, match=name):
        unpack(tmp_path / "a.zip", tmp_path / "into")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", ["zip", "tar.gz"])
def test_what_grows_beyond_measure_is_refused(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dinodiet.io.unpack.SMALL", 2**20)
    path, zeros = tmp_path / f"a.{suffix}", bytes(2**22)
    if suffix == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("zeros", zeros)
    else:
        with tarfile.open(path, "w:gz") as packed:
            entry = tarfile.TarInfo("zeros")
            entry.size = len(zeros)
            packed.addfile(entry, io.BytesIO(zeros))
    with pytest.raises(UnsafeArchive, match="'zeros' would make 4"):
        unpack(path, tmp_path / "into")
    assert not (tmp_path / "into").exists()


def test_an_ordinary_archive_is_unpacked(tmp_path: Path) -> None:
    unpack(tar(tmp_path / "a.tar.gz", ("set/shared", tarfile.DIRTYPE, 0o2775, "")), tmp_path / "tar")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("set/shared/", b"")
        archive.writestr("./set/good", b"one")
    unpack(tmp_path / "a.zip", tmp_path / "zip")
    for into in ("tar", "zip"):
        assert (tmp_path / into / "set/good").read_bytes() == b"one"
        assert (tmp_path / into / "set/shared").is_dir()


def _page(path: Path) -> None:
    path.write_bytes(b"\n<!DOCTYPE html><p>Sign in</p>")


def _changed(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-8] + b"\0" * 4 + content[-4:])


@pytest.mark.parametrize(("damage", "words"), [(_page, "web page"), (_changed, "CRC")])
def test_a_page_and_a_changed_archive_are_told(tmp_path: Path, damage: Callable[[Path], None], words: str) -> None:
    path = tar(tmp_path / "a.tar.gz")
    damage(path)
    with pytest.raises((tarfile.TarError, OSError), match=words):
        unpack(path, tmp_path / "into")
