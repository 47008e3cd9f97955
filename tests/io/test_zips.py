"""A zip whose list of members alone would fill the memory is refused before that is read."""

import struct
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from dinodiet.backbones.weights.files import read_file
from dinodiet.errors import UserError
from dinodiet.io import zips
from dinodiet.io.unpack import unpack
from dinodiet.io.zips import LongListError, opened_zip

LISTED = 3 * 2**30


def with_long_list(path: Path, start: bytes = b"") -> Path:
    """Write a sparse file that ends as a zip does whose list of members takes 3 GiB."""
    with path.open("wb") as file:
        file.write(start)
        file.truncate(LISTED)
        file.seek(LISTED)
        file.write(struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, LISTED, 0, 0))
    return path


def test_an_archive_with_an_endless_list_is_refused_unread(tmp_path: Path) -> None:
    archive = with_long_list(tmp_path / "a.zip")
    tracemalloc.start()
    with pytest.raises(LongListError, match=r"list of its members would take 3\.0 GiB"):
        unpack(archive, tmp_path / "into")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**21
    assert not list(tmp_path.iterdir())


def test_weights_with_an_endless_list_are_one_line(tmp_path: Path) -> None:
    path = with_long_list(tmp_path / "a.pth", b"PK\3\4")
    with pytest.raises(UserError, match=r"a\.pth .*list of its members would take 3\.0 GiB"):
        read_file(path)


def test_members_larger_than_the_longest_list_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zips, "MOST_LISTED", 2**21)
    content = bytes(range(256)) * 2**14
    for packing in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / "a.zip", "w", packing) as archive:
            archive.writestr("set/a", content)
        (into := tmp_path / f"into{packing}").mkdir()
        unpack(tmp_path / "a.zip", into)
        assert (into / "set/a").read_bytes() == content
    (tmp_path / "b.zip").write_bytes(b"no zip")
    with pytest.raises(zipfile.BadZipFile), opened_zip(tmp_path / "b.zip"):
        pass
