"""Image files below folders: every folder once, links followed; what systems and programs put beside is left out."""

from __future__ import annotations

import functools
import logging
import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from dinodiet.errors import UserError, one_line, printable
from dinodiet.io.limits import raise_limit

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp")
# Thumbnails, copies and waste bins of archives and file servers, in small letters; others begin with a dot.
SERVERS = ("@eadir", "@__thumb", "@recycle", "@recently-snapshot", "@tmp", "#recycle", "#snapshot")
SYSTEMS = ("__macosx", "$recycle.bin", "recycler", "system volume information", "lost+found", "thumbs.db")
PROGRAMS = ("thumbnails", "_thumbnails", "thumbs", "_thumbs", "__pycache__")
BESIDE = frozenset((*SERVERS, *SYSTEMS, *PROGRAMS))
SAVED = re.compile(r"found\.\d{3}")  # by a check of a disk
SHOWN = 3

HIDDEN = "hidden files and folders, thumbnails and the like"
LOOP = "links to a folder above them"
AGAIN = "folders that were there already"
GONE = "links to nothing"
OTHER = "named as images, but no files"
NO_CLASS = "images in no class folder"

ONE = {
    HIDDEN: "hidden file or folder, thumbnails and the like",
    LOOP: "link to a folder above it",
    AGAIN: "folder that was there already",
    GONE: "link to nothing",
    OTHER: "named as an image, but no file",
    NO_CLASS: "image in no class folder",
}

Identity = tuple[int, int] | str

log = logging.getLogger(__name__)


def is_beside(name: str) -> bool:
    """Return whether a file or folder of this name is none of a set's: hidden, thumbnails, a waste bin."""
    return name.startswith(".") or name.lower() in BESIDE or SAVED.fullmatch(name.lower()) is not None


def subfolders(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted, without those that are left out.

    Raises:
        UserError: one is a link to nothing.
    """
    with _listing(folder) as entries:
        found = sorted((entry.name, entry.path) for entry in entries if not is_beside(entry.name))
    for name, path in found:
        if _is_dangling(path) and not name.lower().endswith(EXTENSIONS):
            raise UserError(f"{path} is a link to {Path(path).readlink()}, which is not there; mend or remove it")
    return [name for name, path in found if os.path.isdir(path) and not _leads_up(path)]  # noqa: PTH112


def image_files(folders: Sequence[Path], split: Path | None = None) -> list[list[str]]:
    """Return the images at any depth below each of a split's folders, sorted.

    Folders come before links to them, so that a link from one class to another's folder takes nothing from that one.
    What is left out is counted in one warning, with what lies beside the folders in that of the split.

    Raises:
        UserError: two of the folders are the same one, or one cannot be read.
    """
    walk = _Walk(folders)
    walk.run()
    if split is not None:
        walk.look_beside(split)
    walk.tell()
    return [sorted(paths) for paths in walk.found]


class _Walk:
    """A walk below several folders that enters none twice."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.found: list[list[str]] = [[] for _ in folders]
        self.left: dict[str, list[str]] = {reason: [] for reason in (HIDDEN, LOOP, AGAIN, GONE, OTHER, NO_CLASS)}
        self.folders = [os.fspath(folder) for folder in folders]
        self.links: list[tuple[str, int]] = []
        self.seen: dict[Identity, str] = {}
        for path in self.folders:
            other = self.seen.setdefault(_identity(path), path)
            if other != path:
                raise UserError(f"{path} and {other} are the same folder; its images cannot be of two classes")

    def run(self) -> None:
        for number, path in enumerate(self.folders):
            self._enter(number, path)
        while self.links:
            links, self.links = sorted(self.links), []
            for path, number in links:
                if self._is_new(path):
                    self._enter(number, path)

    def _enter(self, number: int, folder: str) -> None:
        waiting = [folder]
        while waiting:
            with _listing(waiting.pop()) as entries:
                waiting += [path for entry in entries if (path := self._take(number, entry)) is not None]

    def _take(self, number: int, entry: os.DirEntry[str]) -> str | None:
        """Keep a file or a link; return a folder that is to be entered."""
        is_image = entry.name.lower().endswith(EXTENSIONS)
        if is_beside(entry.name):
            if is_image or _is_folder(entry):
                self.left[HIDDEN].append(entry.path)
        elif entry.is_dir(follow_symlinks=False):
            return entry.path if self._is_new(entry.path) else None
        elif _is_folder(entry):
            if _leads_up(entry.path):
                self.left[LOOP].append(entry.path)
            else:
                self.links.append((entry.path, number))
        elif is_image and (entry.is_file(follow_symlinks=False) or is_file_or_gone(entry.path)):
            self.found[number].append(entry.path)
        elif is_image or _is_dangling(entry.path):
            self.left[OTHER if is_image else GONE].append(entry.path)
        return None

    def look_beside(self, split: Path) -> None:
        """Note what in a split's folder is no class of it."""
        with _listing(split) as entries:
            for entry in entries:
                is_image = entry.name.lower().endswith(EXTENSIONS)
                if is_beside(entry.name) and (is_image or _is_folder(entry)):
                    self.left[HIDDEN].append(entry.path)
                elif _is_folder(entry):
                    if _leads_up(entry.path):
                        self.left[LOOP].append(entry.path)
                elif is_image:
                    self.left[NO_CLASS].append(entry.path)

    def _is_new(self, folder: str) -> bool:
        new = self.seen.setdefault(_identity(folder), folder) == folder
        if not new:
            self.left[AGAIN].append(folder)
        return new

    def tell(self) -> None:
        parts = [
            f"{len(paths)} {_counted(reason, len(paths))} ({_some(paths)})"
            for reason, paths in self.left.items()
            if paths
        ]
        if parts:
            log.warning("%s", printable(f"{os.path.commonpath(self.folders)}: left out: {'; '.join(parts)}"))


def _counted(reason: str, count: int) -> str:
    return ONE[reason] if count == 1 else reason


def _some(paths: list[str]) -> str:
    return ", ".join(sorted(paths)[:SHOWN]) + (", ..." if len(paths) > SHOWN else "")


def _listing(folder: str | Path) -> _Entries:
    return _Entries(os.fspath(folder))


class _Entries:
    """`os.scandir` whose errors are those of people: a folder that cannot be read is not an empty one."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __enter__(self) -> Iterator[os.DirEntry[str]]:
        try:
            self.entries = os.scandir(self.folder)
        except OSError as error:
            raise_limit(error, self.folder)
            raise UserError(f"{self.folder} cannot be read ({error.strerror or one_line(error)})") from error
        return self.entries

    def __exit__(self, *_: object) -> None:
        self.entries.close()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder or a link to one; a link that leads nowhere is neither."""
    return entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(entry.path))  # noqa: PTH112


def is_file_or_gone(path: str) -> bool:
    """Return whether a path is a file's, or a link to nothing, which is treated as a broken file.

    Raises:
        MachineLimit: this machine cannot say, see `raise_limit`.
    """
    try:
        return stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116
    except OSError as error:
        raise_limit(error, path)
        return os.path.islink(path)  # noqa: PTH114


def _is_dangling(path: str) -> bool:
    return os.path.islink(path) and not os.path.exists(path)  # noqa: PTH110, PTH114


def _identity(folder: str) -> Identity:
    """Return what tells a folder from all others, by whatever path it is reached."""
    found = os.stat(folder)  # noqa: PTH116
    return (found.st_dev, found.st_ino) if found.st_ino else os.path.realpath(folder)


_kept_identity = functools.lru_cache(10_000)(_identity)


def _leads_up(link: str) -> bool:
    """Return whether a link leads to a folder that it lies in, by its path or by the real one."""
    if not os.path.islink(link):  # noqa: PTH114
        return False
    here = Path(link).absolute()
    return _identity(link) in {_kept_identity(str(above)) for above in (*here.parents, *_real_parents(here.parent))}


def _real_parents(folder: Path) -> list[Path]:
    real = folder.resolve()
    return [real, *real.parents]
