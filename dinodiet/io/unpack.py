"""Archives from elsewhere: all members are checked before one is written. Imports no torch.

What is checked takes no memory of its own either: a header may be as long as a set, and members may be millions.
"""

from __future__ import annotations

import gzip
import lzma
import re
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from dinodiet.io.room import check_room
from dinodiet.io.units import byte_size
from dinodiet.io.zips import opened_zip

if TYPE_CHECKING:
    from typing_extensions import Self

RATIO, SMALL = 200, 2**28  # images shrink by far less; bytes that are unpacked whatever the ratio
SPECIAL = stat.S_ISUID | stat.S_ISGID
BLOCK = 4096  # what a member takes on a disk at least, whatever its size
MOST_HEADER = 2**20  # bytes of a long name, or of what else is said of a member
PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE, tarfile.DIRTYPE)
SAYING = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
BROKEN = (
    *(EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error, gzip.BadGzipFile, lzma.LZMAError),
    *(NotImplementedError, struct.error, ValueError, RecursionError),  # unknown packing, wrong numbers, endless headers
)


class UnsafeArchive(Exception):  # noqa: N818 - a statement about a file from elsewhere
    """What an archive holds must not be unpacked; the message names the member."""


class Member(NamedTuple):
    """A file or folder of an archive: its name as given, its size in bytes unpacked, what is wrong with its kind."""

    name: str
    size: int
    folder: bool
    fault: str | None
    entry: tarfile.TarInfo | zipfile.ZipInfo

    @property
    def path(self) -> str:
        """Return the name without `.` and repeated slashes."""
        return "/".join(part for part in self.name.split("/") if part not in ("", "."))


class _Header(tarfile.TarInfo):
    """A header of a tar archive that is looked at before what follows it is read into memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Return the header of 512 bytes."""
        entry = super().frombuf(buf, encoding, errors)
        if entry.type in SAYING and not 0 <= entry.size <= MOST_HEADER:
            raise UnsafeArchive(f"its member {entry.name[:200]!r} has a header of {byte_size(entry.size)}")
        return entry

    def _proc_sparse(self, *_: object) -> NoReturn:
        raise UnsafeArchive(f"its member {self.name[:200]!r} has holes, whose list may be of any length")

    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _proc_sparse


def unpack(archive: Path, folder: Path, holds: str | None = None) -> None:
    """Unpack a downloaded .tar, .tar.gz or .zip in an empty folder: plain files and folders with ordinary permissions.

    An archive that is broken, or not to be trusted, or has no content named `holds`, is removed: the next attempt
    downloads it anew.

    Raises:
        UnsafeArchive: a member leaves the folder, is a link or device, comes twice, or all are absurdly large.
        OSError: there is no room.
        One of BROKEN: the file is cut short or no archive.
    """
    try:
        _unpack(archive, folder)
        if holds is not None and not (folder / holds).exists():
            raise tarfile.ReadError(f"the archive holds no {holds}")
    except (UnsafeArchive, *BROKEN):
        archive.unlink()
        raise


def _unpack(archive: Path, folder: Path) -> None:
    with archive.open("rb") as stream:
        if re.match(rb"\s*<(!doctype|html|\?xml)", stream.read(100), re.IGNORECASE):
            raise tarfile.ReadError("a web page came in place of the archive")
    with _opened(archive) as opened:
        members = _checked(opened, archive.stat().st_size)
        check_room(folder, sum(member.size + BLOCK for member in members))
        for member in members:
            _write(opened, member, folder / member.path)
        if isinstance(opened, tarfile.TarFile) and opened.fileobj is not None:
            _read_on(opened.fileobj, archive.stat().st_size)


def _read_on(stream: Any, packed: int) -> None:
    """Read what is behind the last member: at its end gzip compares the checksum."""
    total = 0
    while chunk := stream.read(2**20):
        total += len(chunk)
        if fault := expansion_fault(total, packed):
            raise UnsafeArchive(f"what is behind its members {fault}")


def gunzip(packed: Path, target: Path) -> None:
    """Unpack one file that was packed alone.

    Raises:
        UnsafeArchive: it becomes absurdly large.
        OSError: there is no room.
        One of BROKEN: the file is cut short, or not packed so.
    """
    size, total = packed.stat().st_size, 0
    with gzip.open(packed) as source, target.open("wb") as file:
        while chunk := source.read(2**20):
            total += len(chunk)
            if fault := expansion_fault(total, size):
                raise UnsafeArchive(f"it {fault}")
            check_room(target.parent, len(chunk))
            file.write(chunk)


def _opened(archive: Path) -> AbstractContextManager[tarfile.TarFile | zipfile.ZipFile]:
    return opened_zip(archive) if archive.suffix == ".zip" else tarfile.open(archive, tarinfo=_Header)


def _members(opened: tarfile.TarFile | zipfile.ZipFile) -> Iterator[Member]:
    if isinstance(opened, zipfile.ZipFile):
        for entry in opened.infolist():
            yield Member(entry.filename, entry.file_size, entry.is_dir(), _zip_fault(entry), entry)
    else:
        for item in opened:
            yield Member(item.name, item.size, item.isdir(), _tar_fault(item), item)


def _zip_fault(entry: zipfile.ZipInfo) -> str | None:
    mode = entry.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or device"
    if entry.flag_bits & 1:
        return "is encrypted"
    return "runs as another user" if mode & SPECIAL and not entry.is_dir() else None


def _tar_fault(entry: tarfile.TarInfo) -> str | None:
    if not (entry.isfile() or entry.isdir()):
        return "is a link or device"
    return "runs as another user" if entry.mode & SPECIAL and entry.isfile() else None


def _checked(opened: tarfile.TarFile | zipfile.ZipFile, packed: int) -> list[Member]:
    members, files, total = [], set[str](), 0
    for member in _members(opened):
        total += max(member.size, 0) + BLOCK
        fault = member.fault or _name_fault(member)
        if fault is None and not member.folder and member.path in files:
            fault = "comes twice"
        fault = fault or expansion_fault(total if member.size >= 0 else -1, packed)
        if fault is not None:
            raise UnsafeArchive(f"its member {member.name[:200]!r} {fault}")
        members.append(member)
        files |= set() if member.folder else {member.path}
    for member in members:
        above = [str(parent) for parent in Path(member.path).parents]
        if files.intersection([*above, member.path] if member.folder else above):
            raise UnsafeArchive(f"its member {member.name[:200]!r} lies below a file")
    return members


def expansion_fault(unpacked: int, packed: int) -> str | None:
    """Return what is wrong with bytes that become absurdly many; None: nothing."""
    whole = 0 <= unpacked <= max(SMALL, RATIO * packed)
    return None if whole else f"would make {byte_size(unpacked)} of {byte_size(packed)}"


def _name_fault(member: Member) -> str | None:
    name = member.name
    if name.startswith(("/", "\\")) or re.match("[A-Za-z]:", name) or ".." in re.split(r"[/\\]", name):
        return "leaves the folder"
    return None if member.path or member.folder else "has no name"


def _write(opened: tarfile.TarFile | zipfile.ZipFile, member: Member, path: Path) -> None:
    if member.folder:
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    entry: Any = member.entry
    source = opened.open(entry) if isinstance(opened, zipfile.ZipFile) else opened.extractfile(entry)
    assert source is not None
    with source, path.open("xb") as target:
        shutil.copyfileobj(source, target, 2**20)
