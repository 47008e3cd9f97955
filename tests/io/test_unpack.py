"""Archives from elsewhere: what leaves the folder, links, devices and bombs are refused before anything is written."""

import contextlib
import gzip
import io
import random
import stat
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from dinodiet.io.unpack import BROKEN, UnsafeArchive, gunzip, unpack


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


def _pax(path: Path, headers: dict[str, str], *, link: bool = False) -> None:
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as archive:
        entry = tarfile.TarInfo("set/x")
        entry.pax_headers = headers
        archive.addfile(entry)


def _headers(path: Path, kind: bytes, size: int, count: int = 1, name: str = "") -> Path:
    """Write so many headers of a kind, each with zeros behind it."""
    entry = tarfile.TarInfo(name or "set/x")
    entry.type, entry.size = kind, size
    with gzip.open(path, "wb", compresslevel=1) as packed:
        for number in range(count):
            entry.name = name or f"set/{number}"
            packed.write(entry.tobuf(tarfile.GNU_FORMAT))
            packed.write(bytes(-(-size // 512) * 512))
    return path


@pytest.mark.parametrize(
    "kind",
    [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.GNUTYPE_SPARSE],
)
def test_a_header_as_long_as_a_set_is_not_read(tmp_path: Path, kind: bytes) -> None:
    path = _headers(tmp_path / "a.tar.gz", kind, 2**22)
    tracemalloc.start()
    with pytest.raises(UnsafeArchive, match=r"set/0.* (has a header of 4|has holes)"):
        unpack(path, tmp_path / "into")
    assert tracemalloc.get_traced_memory()[1] < 2**21
    tracemalloc.stop()


@pytest.mark.parametrize(
    "headers",
    [
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9"},
        {"GNU.sparse.map": "0,1", "GNU.sparse.size": "9"},
        {"GNU.sparse.size": "9", "GNU.sparse.numblocks": "1"},
        {"size": "-5"},
        {"size": str(2**62)},
        {"path": "../out"},
        {"path": "/out"},
    ],
)
def test_what_a_long_header_says_is_checked_too(tmp_path: Path, headers: dict[str, str]) -> None:
    _pax(tmp_path / "a.tar.gz", headers)
    with pytest.raises((UnsafeArchive, *BROKEN)):
        unpack(tmp_path / "a.tar.gz", tmp_path / "into")
    assert not list(tmp_path.iterdir())


def test_headers_without_end_are_refused(tmp_path: Path) -> None:
    path = _headers(tmp_path / "a.tar.gz", tarfile.GNUTYPE_LONGNAME, 0, count=2000)
    with pytest.raises((UnsafeArchive, *BROKEN)):
        unpack(path, tmp_path / "into")


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE])
def test_members_without_content_count_too(tmp_path: Path, kind: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dinodiet.io.unpack.SMALL", 2**20)
    path = _headers(tmp_path / "a.tar.gz", kind, 0, count=2000)
    with pytest.raises(UnsafeArchive, match="would make"):
        unpack(path, tmp_path / "into")


def test_zeros_behind_the_last_member_are_not_read_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dinodiet.io.unpack.SMALL", 2**20)
    path = tar(tmp_path / "a.tar.gz")
    with path.open("ab") as stream:
        stream.write(gzip.compress(bytes(2**23)))
    with pytest.raises(UnsafeArchive, match="behind its members"):
        unpack(path, tmp_path / "into")


def test_one_packed_file_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(bytes(2**22)))
    gunzip(tmp_path / "a.gz", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == bytes(2**22)
    monkeypatch.setattr("dinodiet.io.unpack.SMALL", 2**20)
    with pytest.raises(UnsafeArchive, match="would make"):
        gunzip(tmp_path / "a.gz", tmp_path / "b")


def _zipped(packing: int) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", packing) as archive:
            archive.writestr("set/good", bytes(range(200)))
            archive.writestr("set/other", b"two" * 50)

    return write


def _tarred(path: Path) -> None:
    tar(path, ("n" * 150, tarfile.REGTYPE, 0o644, ""))


@pytest.mark.parametrize(
    ("write", "suffix"),
    [(_zipped(packing), "zip") for packing in (0, 8, 12, 14)] + [(_tarred, "tar.gz")],
    ids=["stored", "deflated", "bzip2", "lzma", "tar"],
)
def test_any_damage_is_one_of_the_known_errors(tmp_path: Path, write: Callable[[Path], None], suffix: str) -> None:
    path, draw = tmp_path / f"a.{suffix}", random.Random(0)
    write(path)
    whole = path.read_bytes()
    plain = gzip.decompress(whole) if suffix == "tar.gz" else whole
    for number in range(120):
        damaged = bytearray(plain)
        for _ in range(1 + number % 3):
            damaged[draw.randrange(len(plain))] = draw.randrange(256)
        path.write_bytes(gzip.compress(damaged, 1) if suffix == "tar.gz" else damaged)
        with contextlib.suppress(UnsafeArchive, OSError, RuntimeError, *BROKEN):
            unpack(path, tmp_path / str(number))


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
