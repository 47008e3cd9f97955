"""Arrays from elsewhere: objects, sizes that are not true and bombs are refused before memory is taken."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib import format as npy

from dinodiet.data.sources.arrays import BROKEN, check_array, read_array
from tests.payload import Payload, has_run

ARRAY = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


def write(path: Path, content: bytes, *, packing: int = zipfile.ZIP_DEFLATED) -> Path:
    """Write a .npz file with one member, `x`."""
    with zipfile.ZipFile(path, "w", packing) as archive:
        archive.writestr("x.npy", content)
    return path


def header(shape: Any, kind: str = "|u1", numbers: bytes = b"") -> bytes:
    stream = io.BytesIO()
    npy.write_array_header_1_0(stream, {"descr": kind, "fortran_order": False, "shape": shape})
    return stream.getvalue() + numbers


@pytest.mark.parametrize("array", [ARRAY, np.asfortranarray(ARRAY), np.zeros((0, 3)), np.float32(3)])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_plain_array_is_read(tmp_path: Path, array: Any, save: Any) -> None:
    save(tmp_path / "a.npz", x=array)
    np.testing.assert_array_equal(read_array(tmp_path / "a.npz", "x"), array)


def test_objects_are_refused_and_do_not_run(tmp_path: Path) -> None:
    payload = Payload(tmp_path)
    structure = np.array([(payload, 1)], dtype=[("a", object), ("b", int)])
    for array in (np.array([payload], dtype=object), structure):
        np.savez(tmp_path / "a.npz", x=array)
        with pytest.raises(ValueError, match="objects of Python"):
            read_array(tmp_path / "a.npz", "x")
    assert not has_run(tmp_path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (header((10**12,)), "declares 1,000,000,000,128 bytes and has 128"),
        (header((2**40, 2**40), "<f8"), "declares"),
        (header((-1, -24), numbers=bytes(24)), "shape"),
        (header((5,), numbers=bytes(4)), "declares 133 bytes and has 132"),
        (header((5,), numbers=bytes(6)), "declares"),
        (b"", "magic"),
        (b"\x93NUMPY\x09\x00", "version|magic"),
        (b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 60000, "header"),
        (b"\x80\x04cos\nsystem\n", "magic"),
    ],
    ids=range(9),
)
def test_what_is_not_as_declared_is_refused(tmp_path: Path, content: bytes, told: str) -> None:
    with pytest.raises(BROKEN, match=told):
        read_array(write(tmp_path / "a.npz", content), "x")


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dinodiet.io.unpack.SMALL", 2**20)
    write(tmp_path / "a.npz", header((2**22,), numbers=bytes(2**22)))
    with zipfile.ZipFile(tmp_path / "a.npz") as archive, pytest.raises(ValueError, match="x would make 4"):
        check_array(archive, "x")
    with pytest.raises(ValueError, match="x would make 4"):
        read_array(tmp_path / "a.npz", "x")


def test_any_damage_is_one_of_the_known_errors(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=np.random.default_rng(0).integers(0, 255, 400, dtype=np.uint8))
    whole = (tmp_path / "a.npz").read_bytes()
    for position in range(0, len(whole), 3):
        for damaged in (whole[:position], whole[:position] + bytes([whole[position] ^ 255]) + whole[position + 1 :]):
            (tmp_path / "a.npz").write_bytes(damaged)
            try:
                read_array(tmp_path / "a.npz", "x")
            except (OSError, *BROKEN):
                continue
