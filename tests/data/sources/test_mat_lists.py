"""Files of MATLAB that are broken, or made to harm the reader."""

import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dinodiet.data.sources.mat_lists import FAULTS, MOST, column, read_lists, texts, whole_numbers
from dinodiet.data.sources.release import Release
from dinodiet.errors import UserError
from tests.data import releases

HEAD = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"


def element(kind: int, content: bytes) -> bytes:
    return struct.pack("<2I", kind, len(content)) + content + b"\0" * (-len(content) % 8)


def packed(content: bytes) -> bytes:
    return struct.pack("<2I", 15, len(content)) + content


def matrix(code: int, dims: tuple[int, ...], content: bytes, name: bytes = b"") -> bytes:
    flags, sizes = struct.pack("<2I", code, 0), struct.pack(f"<{len(dims)}i", *dims)
    return element(14, element(6, flags) + element(5, sizes) + element(1, name) + content)


ONE = matrix(6, (1, 1), element(9, struct.pack("<d", 1.0)))
NAMED = matrix(6, (1, 1), element(9, struct.pack("<d", 7.0)), b"labels")


def fault(path: Path) -> str:
    release = Release("birds", path.parent, hint="get it again")
    with pytest.raises(UserError) as caught, release.reading(path):
        read_lists(path, "labels")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"birds: {path}: it is broken (") and str(caught.value).endswith("get it again")
    return str(caught.value)


def test_what_the_writer_above_makes_is_sound(tmp_path: Path) -> None:
    path = tmp_path / "x.mat"
    for content in (NAMED, packed(zlib.compress(NAMED))):
        path.write_bytes(HEAD + content)
        assert whole_numbers(read_lists(path, "labels")["labels"]) == [7]
    path.write_bytes(HEAD + matrix(1, (2, 1), ONE + ONE, b"labels"))
    assert whole_numbers(read_lists(path, "labels")["labels"]) == [1, 1]


def test_files_of_another_byte_order(tmp_path: Path) -> None:
    def element(kind: int, content: bytes) -> bytes:
        return struct.pack(">2I", kind, len(content)) + content + b"\0" * (-len(content) % 8)

    flags, sizes = struct.pack(">2I", 6, 0), struct.pack(">2i", 1, 2)
    small = struct.pack(">2H2H", 4, 4, 300, 7)  # two numbers in the tag itself
    content = element(6, flags) + element(5, sizes) + element(1, b"labels") + small
    (tmp_path / "x.mat").write_bytes(HEAD[:-4] + b"\x01\x00MI" + element(14, content))
    assert whole_numbers(read_lists(tmp_path / "x.mat", "labels")["labels"]) == [300, 7]


@pytest.mark.parametrize("one", [True, False])
def test_lists_come_back_as_they_were(one: bool, tmp_path: Path) -> None:
    names = ["a/1.jpg", "grün.jpg", "c"][: 1 if one else 3]
    rows = [{"fname": name, "class": np.uint8(i)} for i, name in enumerate(names)]
    releases.matlab(tmp_path / "x.mat", labels=names, rows=rows, numbers=np.array([[1.0, 300.0]]))
    found = read_lists(tmp_path / "x.mat", "labels", "rows", "numbers")
    assert texts(found["labels"]) == texts(column(found["rows"], "fname")) == names
    assert whole_numbers(column(found["rows"], "class")) == list(range(len(names)))
    assert whole_numbers(found["numbers"]) == [1, 300]


def nested(depth: int) -> bytes:
    """Return cells in cells, as many as end the process of a reader that follows them."""
    head = len(matrix(1, (1, 1), b""))
    sizes = [len(ONE) + head * i for i in range(depth)]
    heads = [matrix(1, (1, 1), b"")[:4] + struct.pack("<I", head - 8 + size) for size in reversed(sizes)]
    return b"".join(top + matrix(1, (1, 1), b"")[8:] for top in heads) + ONE


BAD: list[tuple[str, bytes, str]] = [
    ("depth", matrix(1, (1, 1), nested(100_000), b"labels"), "cells in each other"),
    ("depth, packed", packed(zlib.compress(matrix(1, (1, 1), nested(100_000), b"labels"))), "cells in each other"),
    ("hidden depth", matrix(1, (2, 1), ONE, b"labels") + ONE, "1 found where 2 are expected"),
    ("too many", matrix(1, (2**31 - 1, 2**31 - 1), ONE, b"labels"), "1 found where"),
    ("another end", matrix(6, (1, 1), element(9, b"\0" * 8) + element(9, b"\0" * 8), b"labels"), "something else"),
    ("complex", matrix(0x806, (1, 1), element(9, b"\0" * 8) + element(9, b"\0" * 8), b"labels"), "something else"),
    ("lines", matrix(4, (2, 1), element(16, b"ab"), b"labels"), "several lines"),
    ("no dimensions", matrix(6, (), element(9, b"\0" * 8), b"labels"), "is of size []"),
    ("negative", matrix(1, (-1, -1), ONE, b"labels"), "is of size [-1, -1]"),
    ("function", matrix(16, (1, 1), ONE, b"labels"), "objects, functions"),
    ("object", matrix(3, (1, 1), ONE, b"labels"), "objects, functions"),
    ("opaque", matrix(17, (1, 1), ONE, b"labels"), "objects, functions"),
    ("zeros", packed(zlib.compress(b"\0" * (MOST + 1))), "more than"),
    ("cut", NAMED[:-4], "cut short"),
    ("cut, packed", packed(zlib.compress(NAMED)[:-8]), "cut short"),
    ("noise", packed(b"noise"), "incorrect header"),
    ("text", element(1, b"labels42"), "where a matrix is expected"),
    ("another variable", matrix(6, (1, 1), element(9, b"\0" * 8), b"other"), "no variable 'labels'"),
    ("another shape", matrix(6, (3, 1), element(9, b"\0" * 8), b"labels"), "1 found where 3 are expected"),
    ("nothing", b"", "no variable 'labels'"),
]


@pytest.mark.parametrize(("content", "why"), [bad[1:] for bad in BAD], ids=[bad[0] for bad in BAD])
def test_a_broken_or_hostile_file_is_one_line(content: bytes, why: str, tmp_path: Path) -> None:
    (tmp_path / "x.mat").write_bytes(HEAD + content)
    assert why in fault(tmp_path / "x.mat")


@pytest.mark.parametrize(
    "start", [b"\x89HDF\r\n\x1a\n".ljust(600), b"MATLAB 7.3".ljust(124) + b"\x00\x02IM", b"x" * 99]
)
def test_another_version_is_one_line(start: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.mat").write_bytes(start)
    assert "no MATLAB file of version 5" in fault(tmp_path / "x.mat")


def test_a_page_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.mat").write_text("<html>Sign in</html>")
    assert "a web page" in fault(tmp_path / "x.mat")


class Harm:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("harm"),)


def test_nothing_in_a_file_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    harm = pickle.dumps(Harm())
    (tmp_path / "x.mat").write_bytes(harm)
    assert "no MATLAB file" in fault(tmp_path / "x.mat")
    (tmp_path / "x.mat").write_bytes(HEAD + matrix(9, (len(harm), 1), element(2, harm), b"labels"))
    assert len(whole_numbers(read_lists(tmp_path / "x.mat", "labels")["labels"])) == len(harm)
    assert not (tmp_path / "harm").exists()


def test_any_byte_may_be_another(tmp_path: Path) -> None:
    releases.matlab(tmp_path / "sound.mat", labels=["a", "b"], rows=[{"fname": "a", "class": 1}] * 2)
    sound, path = bytearray((tmp_path / "sound.mat").read_bytes()), tmp_path / "x.mat"
    generator = np.random.default_rng(0)
    for _ in range(300):
        broken = sound.copy()
        broken[generator.integers(len(sound))] = generator.integers(256)
        path.write_bytes(broken)
        try:
            found = read_lists(path, "labels", "rows")
            texts(found["labels"])
            texts(column(found["rows"], "fname"))
        except FAULTS:
            pass
