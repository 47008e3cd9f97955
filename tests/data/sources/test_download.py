"""Archives of datasets: continued where a download was cut off, unpacked aside, and left as little else as possible."""

import hashlib
import io
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dinodiet.data.sources.download import ensure, local_assets, published_assets
from dinodiet.errors import UserError
from tests.web import Web, serving


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        entry = tarfile.TarInfo("images/one.txt")
        entry.size = 3
        archive.addfile(entry, io.BytesIO(b"one"))
    with serving(tmp_path / "caches", monkeypatch) as found:
        found.files["/images.tar.gz"] = packed.getvalue()
        yield found


def test_a_download_is_continued_and_what_it_needed_is_removed(web: Web, tmp_path: Path) -> None:
    url, target = f"{web.address}/images.tar.gz", tmp_path / "data" / "images"
    web.cuts = [50, 0]
    with pytest.raises(UserError, match=r"images not found, .*download failed .*closed after 50"):
        ensure(url, target, "images", allowed=True)
    (asset,) = published_assets(url, target, "images", True)
    assert asset.find() is None
    asset.get()  # type: ignore[misc]
    assert web.gets()[-1] == ("/images.tar.gz", "bytes=50-")
    assert (target / "one.txt").read_bytes() == b"one"
    assert asset.find() == target
    assert {path.name for path in target.parent.iterdir()} == {"images", "images.tar.gz.sha256"}


def test_what_has_no_published_checksum_is_told_and_has_to_come_again_as_it_was(
    web: Web, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url, target, packed = f"{web.address}/images.tar.gz", tmp_path / "images", web.files["/images.tar.gz"]
    sha256, kept = hashlib.sha256(packed).hexdigest(), tmp_path / "images.tar.gz.sha256"
    for _ in range(2):
        ensure(url, target, "images", allowed=True)
        shutil.rmtree(target)
    (told,) = caplog.messages
    assert told == f"images: {url} has no published checksum: its SHA-256 is {sha256}, kept in {kept}"
    assert kept.read_text() == f"{sha256}  images.tar.gz\n"
    other = io.BytesIO()
    with tarfile.open(fileobj=other, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("images/other.txt"))
    web.files["/images.tar.gz"] = other.getvalue()
    with pytest.raises(UserError, match=rf"expected is {sha256}.*published anew, remove {kept}") as caught:
        ensure(url, target, "images", allowed=True)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("images")] == [kept.name]
    kept.unlink()
    ensure(url, target, "images", allowed=True)
    assert (target / "other.txt").is_file() and len(caplog.messages) == 2


@pytest.mark.parametrize("digests", [{"md5": "0" * 32}, {"sha256": "0" * 64}])
def test_a_published_checksum_is_held_against_what_came(web: Web, tmp_path: Path, digests: dict[str, str]) -> None:
    with pytest.raises(UserError, match="expected is 000"):
        ensure(f"{web.address}/images.tar.gz", tmp_path / "images", "images", allowed=True, **digests)
    assert [path.name for path in tmp_path.iterdir()] == []


def test_an_archive_whose_unpacking_was_interrupted_is_not_fetched_again(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, target = f"{web.address}/images.tar.gz", tmp_path / "images"

    def full(*_: object, **__: object) -> None:
        raise OSError("No space left")

    with monkeypatch.context() as patched:
        patched.setattr("dinodiet.data.sources.download.unpack", full)
        with pytest.raises(UserError, match="No space left"):
            ensure(url, target, "images", allowed=True)
    ensure(url, target, "images", allowed=True)
    assert (target / "one.txt").is_file()
    assert len(web.gets()) == 1


def test_a_broken_archive_is_not_kept(web: Web, tmp_path: Path) -> None:
    url, target, sound = f"{web.address}/images.tar.gz", tmp_path / "images", web.files["/images.tar.gz"]
    for broken in (b"not an archive", sound[:-20]):
        web.files["/images.tar.gz"] = broken
        with pytest.raises(UserError, match=r"images not found, .*download failed .*; get http") as caught:
            ensure(url, target, "images", allowed=True)
        assert "\n" not in str(caught.value)
        assert not list(tmp_path.iterdir())
    web.files["/images.tar.gz"] = sound
    ensure(url, target, "images", allowed=True)
    assert (target / "one.txt").is_file()


def test_an_archive_that_writes_elsewhere_is_refused_and_removed(web: Web, tmp_path: Path) -> None:
    url, target, packed = f"{web.address}/images.tar.gz", tmp_path / "data" / "images", io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("images/../../../out"))
    web.files["/images.tar.gz"] = packed.getvalue()
    with pytest.raises(UserError, match=r"is not unpacked: its member 'images/\.\./\.\./\.\./out' leaves the folder"):
        ensure(url, target, "images", allowed=True)
    assert not target.parent.exists()


def test_what_is_got_by_hand_alone_says_how(tmp_path: Path) -> None:
    (asset,) = local_assets(tmp_path / "set", "my_set", "ask its authors")
    assert asset.find() is None
    with pytest.raises(UserError, match=rf"^my_set: {tmp_path}/set not found; ask its authors$"):
        asset.get()  # type: ignore[misc]
    (tmp_path / "set").mkdir()
    assert asset.find() == tmp_path / "set"
