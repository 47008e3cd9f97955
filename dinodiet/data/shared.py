"""Images that are in two splits: the same file by a link, or a copy of it."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from os import cpu_count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dinodiet.data.cache.place import cache_folder
from dinodiet.data.images import FileImages, Subset
from dinodiet.errors import printable
from dinodiet.io.files import read_json, write_json
from dinodiet.io.locks import read_or_compute
from dinodiet.types import Images

READ = 10_000  # files that are opened for two splits: in a large set many are equally long by chance
PART = 4096  # bytes from the middle of a file that are compared first; heads are alike
VERSION = 1  # raise it when other images count as shared
PAIRS = (("train", "val"), ("train", "test"), ("val", "test"), ("pretext", "val"), ("pretext", "test"))
SPLITS = {split for pair in PAIRS for split in pair}

Group = tuple[list[int], list[int]]  # positions in the first split and in the second

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Files:
    """The files of a split with `stats` (N, 4): size, time of the last change, device and inode."""

    paths: list[str]
    stats: NDArray[np.int64]

    @property
    def sizes(self) -> NDArray[np.int64]:
        return self.stats[:, 0]

    @property
    def places(self) -> NDArray[np.int64]:
        return self.stats[:, 2:]


@dataclass(frozen=True)
class _Found:
    """How many images of the split `second` are in `first` too, one of these, and whether there may be more."""

    first: str
    second: str
    count: int
    example: tuple[str, str]
    all_compared: bool


def tell_shared(name: str, splits: Mapping[str, Images | None], new: str | None = None) -> None:
    """Warn of files of val or test that are in another split too, byte by byte; of a large set a part is compared.

    Args:
        name: of the set.
        splits: its images by split.
        new: the split that the others are compared with; None: all are compared with each other.
    """
    files = {split: found for split, images in splits.items() if (found := _files(images)) is not None}
    wanted = [pair for pair in PAIRS if (new is None or new in pair) and {*pair} <= files.keys()]
    for one in _kept(files, wanted) if wanted else ():
        count = f"{'' if one.all_compared else 'at least '}{one.count} of {len(files[one.second].paths)}"
        example = printable(f"{one.example[1]} = {one.example[0]}")
        log.warning("%s: %s images of split %s are also in %s: %s", name, count, one.second, one.first, example)


def _kept(files: Mapping[str, _Files], wanted: Sequence[tuple[str, str]]) -> list[_Found]:
    """Return what the wanted pairs of splits share; one process compares them, and others read it from the cache."""
    folder = cache_folder()
    if folder is None:
        return _compared(files, wanted)
    path = folder / "shared" / f"{_key(files, wanted)}.json"
    return read_or_compute(
        path,
        lambda: _read(path),
        lambda: _compared(files, wanted),
        lambda found: write_json(path, {"found": [asdict(one) for one in found]}),
    )


def _key(files: Mapping[str, _Files], wanted: Sequence[tuple[str, str]]) -> str:
    """Return a hash of what a comparison depends on; a file that changes has another size, time or inode."""
    digest = hashlib.blake2b(f"{VERSION} {READ} {PART} {wanted}".encode(), digest_size=16)
    for split in sorted({split for pair in wanted for split in pair}):
        digest.update("\0".join([split, *files[split].paths]).encode(errors="surrogateescape"))
        digest.update(np.ascontiguousarray(files[split].stats).tobytes())
    return digest.hexdigest()


def _read(path: Path) -> list[_Found] | None:
    """Return what a file holds; None where it is missing or broken."""
    stored = read_json(path) or {}
    try:
        found = [_Found(**entry) for entry in stored["found"]]
        good = all(one.count > 0 and len(one.example) == 2 and {one.first, one.second} <= SPLITS for one in found)
        return found if good else None
    except (KeyError, TypeError):
        return None


def _compared(files: Mapping[str, _Files], wanted: Sequence[tuple[str, str]]) -> list[_Found]:
    found = []
    for first, second in wanted:
        pairs, all_compared = _shared(files[first], files[second])
        if pairs:
            found.append(_Found(first, second, len(pairs), pairs[0], all_compared))
    return found


def _files(images: Images | None) -> _Files | None:
    whole, chosen = (images.images, images.positions.numpy()) if isinstance(images, Subset) else (images, slice(None))
    if not isinstance(whole, FileImages):
        return None
    numbers = np.arange(len(whole.paths))[chosen]
    return _Files([whole.paths[number] for number in numbers.tolist()], whole.stats()[chosen])


def _shared(first: _Files, second: _Files) -> tuple[list[tuple[str, str]], bool]:
    """Return pairs of paths with the same content, and whether all files were compared that could be the same."""
    linked = _linked(first, second)
    groups, all_compared = _same_size(first, second, list(linked))
    copies = _copies(first.paths, second.paths, groups)
    found = sorted((second_at, first_at) for second_at, first_at in {**linked, **copies}.items())
    return [(first.paths[first_at], second.paths[second_at]) for second_at, first_at in found], all_compared


def _linked(first: _Files, second: _Files) -> dict[int, int]:
    """Return for each file of the second split that is one of the first, by whatever path, the position of that."""
    at_first = np.flatnonzero(np.isin(first.places[:, 1], second.places[:, 1]) & (first.sizes >= 0)).tolist()
    at_second = np.flatnonzero(np.isin(second.places[:, 1], first.places[:, 1]) & (second.sizes >= 0)).tolist()
    known = {tuple(first.places[at].tolist()): at for at in at_first}
    return {at: known[place] for at in at_second if (place := tuple(second.places[at].tolist())) in known}


def _same_size(first: _Files, second: _Files, known: list[int]) -> tuple[list[Group], bool]:
    """Return the positions of files of equal size in both splits, small groups first, `READ` files at most."""
    rest = np.setdiff1d(np.flatnonzero(np.isin(second.sizes, first.sizes) & (second.sizes > 0)), known)
    others = np.flatnonzero(np.isin(first.sizes, second.sizes[rest]))
    groups: defaultdict[int, Group] = defaultdict(lambda: ([], []))
    for side, (files, positions) in enumerate(((first, others), (second, rest))):
        for at, size in zip(positions.tolist(), files.sizes[positions].tolist(), strict=True):
            groups[size][side].append(at)
    ranked = sorted(groups.values(), key=lambda group: len(group[0]) + len(group[1]))
    taken = list(_within(READ, ranked))
    return taken, sum(map(_count, taken)) == sum(map(_count, ranked))


def _within(left: int, groups: list[Group]) -> Iterator[Group]:
    for ones, twos in groups:
        if left < 2:
            return
        ones, twos = ones[: left // 2], twos[: left // 2]  # noqa: PLW2901 - of one large group, a part of both
        left -= len(ones) + len(twos)
        yield ones, twos


def _count(group: Group) -> int:
    return len(group[0]) + len(group[1])


def _copies(first: list[str], second: list[str], groups: list[Group]) -> dict[int, int]:
    """Return for each file of the second split with a copy in the first the position of that."""
    for digest in (_part, _whole):
        groups = _with_equal(digest, first, second, groups)
    return {at: ones[0] for ones, twos in groups for at in twos}


def _with_equal(
    digest: Callable[[str], bytes], first: list[str], second: list[str], groups: list[Group]
) -> list[Group]:
    """Return the groups of files divided by a digest of them, where both splits have some."""
    divided: defaultdict[tuple[int, bytes], Group] = defaultdict(lambda: ([], []))
    with ThreadPoolExecutor(cpu_count()) as pool:
        for number, group in enumerate(groups):
            for side, paths in enumerate((first, second)):
                digests = pool.map(digest, [paths[at] for at in group[side]])
                for at, found in zip(group[side], digests, strict=True):
                    divided[number, found][side].append(at)
    return [(ones, twos) for (_, found), (ones, twos) in divided.items() if ones and twos and found]


def _part(path: str) -> bytes:
    """Return some bytes from the middle of a file; none of one that cannot be read."""
    try:
        with Path(path).open("rb", buffering=0) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size // 2 - PART // 2))
            return file.read(PART)
    except OSError:
        return b""


def _whole(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            digest = hashlib.blake2b()
            while chunk := file.read(1 << 20):
                digest.update(chunk)
            return digest.digest()
    except OSError:
        return b""
