"""Files of decoded images that are broken, or were left unfinished, are written again."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dinodiet.data.cache import pixels
from dinodiet.data.cache.decoded import keep_decoded
from tests.data.cache.decoding import files, folder, opened, same


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def _cut_in_half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _lose_pixels(path: Path) -> None:
    path.write_bytes(path.read_bytes()[1:])


def _zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _turn_the_last_image(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-32] + content[-24:-16] + content[-32:-24] + content[-16:])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _resized(path: Path, change: Callable[[Any], Any]) -> None:
    """Write other sizes with their hash, as somebody else could."""
    content, end = path.read_bytes(), -pixels.HASH_BYTES
    count = next(n for n in range(1, 99) if pixels._digest(content[end - 16 * n : end]) == content[end:])
    sizes = np.frombuffer(content[end - 16 * count : end], np.int64).reshape(-1, 2).copy()
    change(sizes)
    path.write_bytes(content[: end - 16 * count] + sizes.tobytes() + pixels._digest(sizes.tobytes()))


def _negative(path: Path) -> None:
    _resized(path, lambda sizes: np.negative(sizes, out=sizes))


def _huge(path: Path) -> None:
    def grow(sizes: Any) -> None:
        row = int(np.flatnonzero(sizes.prod(1) % 4 == 0)[0])
        sizes[row] = 2**62 + 1, sizes[row].prod()  # in 64 bits the product is the same

    _resized(path, grow)


def _borrowed(path: Path) -> None:
    def lengthen(sizes: Any) -> None:
        area = sizes.prod(1)
        sizes[0], sizes[1] = (1, 2 * (area[0] + area[1])), (-1, area[0] + area[1])

    _resized(path, lengthen)


DAMAGES = [_cut, _cut_in_half, _lose_pixels, _zeros, _turn_the_last_image, _empty, _negative, _huge, _borrowed]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_broken_file_is_written_again(tmp_path: Path, damage: Callable[[Path], None], decodings: list[str]) -> None:
    plain = opened(folder(tmp_path / "data"))
    keep_decoded(plain, tmp_path / "cache", 1)
    whole = [path.read_bytes() for path in files(tmp_path / "cache")]
    damage(files(tmp_path / "cache")[0])
    decodings.clear()
    assert same(keep_decoded(plain, tmp_path / "cache", 1), plain)
    assert [path.read_bytes() for path in files(tmp_path / "cache")] == whole
    assert decodings


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    plain = opened(folder(tmp_path / "data"))
    keep_decoded(plain, tmp_path / "cache", 1)
    for path in files(tmp_path / "cache"):
        left = path.rename(path.with_name(f".{path.name}.abc123"))
        os.utime(left, (0, 0))
    keep_decoded(plain, tmp_path / "cache", 1)
    assert {path.suffix for path in (tmp_path / "cache").iterdir()} - {".lock"} == {".pixels"}
