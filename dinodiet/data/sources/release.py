"""A published set: the archives and files it comes in, the lists that it is described by, the images that they name."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from dinodiet.data.dataset import RawSplits
from dinodiet.data.images import FileImages
from dinodiet.data.sources.broken import Broken, handle_broken
from dinodiet.data.sources.download import by_hand, download
from dinodiet.data.sources.mat_lists import FAULTS
from dinodiet.data.sources.planned import counted
from dinodiet.data.sources.published import check_published, listed_files, require
from dinodiet.data.sources.walk import subfolders
from dinodiet.errors import NotOnDisk, UserError, printable
from dinodiet.io.assets import Asset, needs, planned
from dinodiet.io.declare import Factory
from dinodiet.io.mistaken import why_broken, why_unreadable


def released(
    name: str, release: Callable[[str], Release], counts: Callable[[str, dict[str, int] | None], RawSplits] = counted
) -> Callable[[Factory], Factory]:
    """Mark a set's source with what it needs, and with what was published of it: see `needs` and `planned`.

    `release` returns the set below its setting `root`; `counts` what planning knows of it by `name` and `published`.
    """

    def assets(*, root: str, download: bool = False) -> list[Asset]:
        return release(root).assets(download)

    def published_counts(*, published: dict[str, int] | None) -> RawSplits:
        return counts(name, published)

    return lambda source: needs(assets)(planned(counts=published_counts)(source))


@dataclass(frozen=True)
class Part:
    """An archive or file of a set.

    Attributes:
        url: where it is published.
        place: what it makes in the set's folder: a file, or the folder that an archive holds.
        md5: as published; None: not published.
        also: other places that are taken for it, where copies of the set have them.
        loose: the archive holds files and not one folder: they are put into `place`.
        sha256: as published; empty: not published.
    """

    url: str
    place: str
    md5: str | None = None
    also: tuple[str, ...] = ()
    loose: bool = False
    sha256: str = ""

    def find(self, folder: Path) -> Path | None:
        """Return where it lies in the set's folder; None: it is not there."""
        return next((folder / place for place in (self.place, *self.also) if (folder / place).exists()), None)

    def by_hand(self, folder: Path) -> str:
        """Return how it is got without this package."""
        return by_hand(self.url, folder / self.place, self.loose)


@dataclass(frozen=True)
class Release:
    """A set in its folder, and how it gets there.

    Attributes:
        name: of the set, in messages.
        folder: where its parts have their places.
        parts: what is fetched, or got by hand.
        hint: what else there is to say of getting it by hand.
        online: whether its parts can be fetched at all; their `url` is the name of a file otherwise.
    """

    name: str
    folder: Path
    parts: tuple[Part, ...] = ()
    hint: str = ""
    online: bool = True

    @property
    def how(self) -> str:
        """Return how all of it is got by hand."""
        return "; ".join([*(part.by_hand(self.folder) for part in self.parts), *filter(None, [self.hint])])

    def assets(self, allowed: bool) -> list[Asset]:
        """Return what `ensure` will need."""
        return [
            Asset(
                self.name if len(self.parts) == 1 else f"{self.name}/{Path(part.place).name}",
                str(self.folder / part.place),
                partial(part.find, self.folder),
                partial(self._have, part, allowed),
            )
            for part in self.parts
        ]

    def ensure(self, allowed: bool) -> None:
        """Have every part in its place: it is there, or it is downloaded where that is allowed.

        Raises:
            NotOnDisk: neither; one line that says how to get it.
        """
        for part in self.parts:
            self._have(part, allowed)

    def _have(self, part: Part, allowed: bool) -> None:
        if part.find(self.folder) is not None:
            return
        target = self.folder / part.place
        if not (allowed and self.online):
            how = "; ".join([part.by_hand(self.folder), *filter(None, [self.hint])])
            raise NotOnDisk(f"{self.name}: {target} not found; {how}{', or set download=true' if self.online else ''}")
        download(part.url, target, self.name, part.md5, part.sha256, loose=part.loose)

    def first(self, *places: str) -> Path:
        """Return the first of several places that is there, else the first."""
        paths = [self.folder / place for place in places]
        return next((path for path in paths if path.exists()), paths[0])

    def fault(self, path: Path, what: str) -> UserError:
        """Return the error that a file of the set is not what was published."""
        return UserError(f"{self.name}: {path}: {what}; {self.how}")

    @contextlib.contextmanager
    def reading(self, path: Path) -> Iterator[None]:
        """Raise what a reader says of a file as an error of the set.

        Raises:
            NotOnDisk: there is no such file.
            UserError: it is empty, a web page, or not what the reader expects.
        """
        if not path.exists() and not path.is_symlink():
            raise NotOnDisk(f"{self.name}: {path} not found; {self.how}")
        if (told := why_unreadable(path)) is not None:
            raise self.fault(path, f"it is broken ({told})")
        try:
            yield
        except UserError:
            raise
        except FAULTS as error:
            raise self.fault(path, f"it is broken ({why_broken(path, error)})") from error

    def rows(self, path: Path, fields: int, separator: str | None = None) -> list[list[str]]:
        """Return the lines of a list, each of so many fields; the last one takes the rest of its line.

        Empty lines, and those that begin with #, are left out.

        Raises:
            NotOnDisk: there is no such file.
            UserError: it is no text, or a line has fewer fields.
        """
        with self.reading(path):
            lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        rows = [line.split(separator, fields - 1) for line in lines if line and not line.startswith("#")]
        if short := [row for row in rows if len(row) < fields]:
            raise self.fault(path, f"{' '.join(short[0])!r} found where {fields} fields are expected")
        return rows

    def lines(self, path: Path) -> list[str]:
        """Return the lines of a list; raises as `rows`."""
        return [row[0] for row in self.rows(path, 1, "\n")]

    def numbers(self, path: Path, words: Sequence[str]) -> list[int]:
        """Return whole numbers that were read from a file.

        Raises:
            UserError: a word is none.
        """
        if wrong := [word for word in words if not (word.isascii() and word.isdigit() and len(word) < 10)]:
            raise self.fault(path, f"{wrong[0]!r} found where a number is expected")
        return [int(word) for word in words]

    def class_folders(self, folder: Path) -> list[str]:
        """Return the names of the folders of classes, in alphabetical order.

        Raises:
            NotOnDisk: there is no such folder.
        """
        return subfolders(require(folder, self.name, self.how))

    def labels(self, path: Path, names: Sequence[str], classes: Sequence[str]) -> list[int]:
        """Return the positions of classes that a list names.

        Raises:
            UserError: one is not known.
        """
        known = {name: position for position, name in enumerate(classes)}
        if unknown := [name for name in names if name not in known]:
            raise self.fault(path, f"no class {unknown[0]!r} is known")
        return [known[name] for name in names]

    def images(self, folder: Path, relative: Sequence[str], labels: Sequence[int]) -> FileImages:
        """Return the images that a list names, with their labels.

        Raises:
            NotOnDisk: some are missing.
        """
        paths = listed_files(self.name, folder, list(relative), self.how)
        return FileImages(paths, torch.tensor(list(labels), dtype=torch.int64))

    def checked(self, source: RawSplits, published: dict[str, int] | None, broken: Broken) -> RawSplits:
        """Return the splits of image files as `handle_broken` leaves them.

        Raises:
            UserError: counts are not the published ones, or an image is listed twice.
        """
        check_published(source, self.folder, published, self.how)
        seen = set[str]()
        for images in (source.train, source.val, source.test):
            for path in images.paths if isinstance(images, FileImages) else ():
                if path in seen:
                    raise UserError(f"{self.name}: {path} is listed twice; {self.how}")
                seen.add(path)
        names = None if source.classes is None else tuple(map(printable, source.classes))
        return handle_broken(replace(source, classes=names), broken, self.folder)
