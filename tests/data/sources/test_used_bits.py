"""16-bit files whose images use fewer bits: scaled to those, all alike, and told once."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from dinodiet.data.images import FileImages, Subset
from dinodiet.data.sources.folder import image_folder
from dinodiet.data.sources.used_bits import scale_to_used_bits
from dinodiet.errors import UserError
from tests.data.deep_files import png, pnm, tiff

GRAY = np.arange(256, dtype=np.uint8).reshape(16, 16)


def folder(root: Path, top: int, suffix: str = "png", *, dark: bool = True) -> Path:
    """Write a set whose images have gray values up to `top`, and one that is darker."""
    for split in ("train", "test"):
        for name in ("a", "b"):
            (root / split / name).mkdir(parents=True)
            values = np.rint(GRAY * (top / 255)).astype(np.uint16)
            values += np.uint16(split == "test" and name == "b")  # no two alike
            Image.fromarray(np.minimum(values, top).astype(np.uint16)).save(root / split / name / f"0.{suffix}")
            Image.fromarray(values // 8).save(root / split / name / f"1.{suffix}")
    return root


def first(root: Path, **settings: int) -> torch.Tensor:
    return image_folder(root=str(root), **settings).train[0]  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", ["png", "tiff"])
@pytest.mark.parametrize("bits", [9, 10, 12, 14])
def test_images_are_scaled_to_the_bits_that_they_use(
    tmp_path: Path, bits: int, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    source = image_folder(root=str(folder(tmp_path, 2**bits - 1, suffix)))
    assert (source.train[0][0].int() - torch.tensor(GRAY).int()).abs().max() <= 1
    assert int(source.train[1].max()) == pytest.approx(255 / 8, abs=1.1)  # the darker one stays darker
    assert f"use {bits} bits" in caplog.text and caplog.text.count("bits=16") == 1


def test_what_uses_all_bits_is_as_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert (first(folder(tmp_path, 65535))[0].int() - torch.tensor(GRAY).int()).abs().max() == 0
    assert "16-bit" not in caplog.text


def test_a_range_that_is_no_power_of_two_is_told_and_left(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = folder(tmp_path, 3900)
    assert int(first(root).max()) == 15
    assert "end at 3900; bits=12 scales" in caplog.text
    assert int(first(root, bits=12).max()) == round(3900 * 255 / 4095)


def test_bits_can_be_chosen_and_make_other_images(tmp_path: Path) -> None:
    root = folder(tmp_path, 4095)
    found = [image_folder(root=str(root), bits=bits).train for bits in (None, 12, 16)]
    prints = [images.fingerprint() for images in found]
    assert prints[0] == prints[1] != prints[2]
    assert int(found[2][0].max()) == 16
    assert isinstance(found[0], Subset) or int(found[0][0].max()) == 255


def test_a_value_of_more_bits_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"0\.png: values up to 4095, more than the 1023 of bits=10; set bits=12"):
        first(folder(tmp_path, 4095), bits=10)


def one(root: Path, data: bytes | list[bytes], suffix: str = "png") -> Path:
    """Write a set of these files of two classes, in train alone."""
    files = data if isinstance(data, list) else [data] * 4
    for place, content in enumerate(files):
        folder = root / "train" / "ab"[place % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{place:03d}.{suffix}").write_bytes(content)
    return root


def gray(top: int, bands: int = 1, side: int = 16) -> NDArray[np.uint16]:
    values = np.rint(np.resize(GRAY, (side, side, 1)) * (top / 255)).astype(np.uint16)
    return np.repeat(values, bands, axis=2)


def bits_of(root: Path, **settings: Any) -> int:
    images = image_folder(root=str(root), test_fraction=0.5, **settings).train
    parent = images.images if isinstance(images, Subset) else images
    assert isinstance(parent, FileImages)
    return parent.bits


@pytest.mark.parametrize(("suffix", "write"), [("png", png), ("tif", tiff)])
@pytest.mark.parametrize("bands", [3, 4])
def test_colours_are_scaled_as_gray_is(tmp_path: Path, suffix: str, write: Any, bands: int) -> None:
    values = gray(4095, bands)
    values[..., 3:] = 65535
    tags = {"tags": {338: 2}} if suffix == "tif" and bands == 4 else {}
    source = image_folder(root=str(one(tmp_path, write(values, **tags), suffix)), test_fraction=0.5)
    assert (source.train[0][1].int() - torch.tensor(GRAY).int()).abs().max() <= 1


@pytest.mark.parametrize("top", [255, 200, 3])
@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_8_bit_values_in_16_are_not_black(
    tmp_path: Path, top: int, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    data = {"png": png(gray(top)), "tif": tiff(gray(top)), "pgm": pnm(gray(top), 65535)}[suffix]
    source = image_folder(root=str(one(tmp_path, data, suffix)), test_fraction=0.5)
    assert torch.equal(source.train[0][0].int(), torch.from_numpy(gray(top)[..., 0].astype(np.int32)))
    assert caplog.text.count("use 8 bits") == 1


def test_black_images_say_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert bits_of(one(tmp_path, png(gray(0)))) == 16
    assert "bit" not in caplog.text


def test_a_brighter_file_is_refused_by_name_with_what_works(tmp_path: Path) -> None:
    root = one(tmp_path, png(gray(4095)))
    image_folder(root=str(root), test_fraction=0.5)
    (root / "test" / "a").mkdir(parents=True)
    bright = root / "test" / "a" / "bright.png"
    bright.write_bytes(png(gray(9000)))
    (bright.parent / "dark.png").write_bytes(png(gray(4000)))
    for settings, more in (({"bits": 12}, 14), ({"bits": 13}, 14)):
        with pytest.raises(UserError, match=rf"bright\.png: values up to 9000, .*set bits={more}"):
            image_folder(root=str(root), **settings).test[0]  # type: ignore[arg-type]
        with pytest.raises(UserError, match=rf"bright\.png: values up to 9000, .*set bits={more}"):
            image_folder(root=str(root), broken="skip", **settings)  # type: ignore[arg-type]
    assert int(image_folder(root=str(root), bits=14).test[0].max()) == round(9000 * 255 / 16383)


def test_all_frames_are_looked_at(tmp_path: Path) -> None:
    (tmp_path / "train" / "a").mkdir(parents=True)
    (tmp_path / "train" / "b").mkdir()
    for name in ("a", "b"):
        frames = [Image.fromarray(gray(top)[..., 0]) for top in (300, 500, 1023)]
        for number in range(2):
            path = tmp_path / "train" / name / f"{number}.tif"
            frames[0].save(path, save_all=True, append_images=frames[1:])
    assert bits_of(tmp_path, frames="all") == 10
    assert bits_of(tmp_path, frames="first") == 16  # 300 is no power of two minus one: told


def test_few_bright_images_of_many_are_found(tmp_path: Path) -> None:
    dark, bright = png(gray(1000)), png(np.random.default_rng(0).permutation(gray(4095).flatten()).reshape(16, 16, 1))
    assert bits_of(one(tmp_path, [dark] * 97 + [bright] + [dark] * 602)) == 12


@pytest.mark.parametrize(
    ("suffix", "data"),
    [
        ("png", png(gray(3000), sBIT=b"\x0c")),
        ("png", png(gray(3000, 3), sBIT=b"\x0a\x0c\x0a")),
        ("png", png(gray(100), sBIT=b"\x0c")),  # too dark to tell
        ("tif", tiff(gray(3000), tags={281: 4095})),
        ("tif", tiff(gray(3000, 3), tags={281: 4095})),
    ],
)
def test_what_files_say_of_their_bits(tmp_path: Path, suffix: str, data: bytes) -> None:
    assert bits_of(one(tmp_path, data, suffix)) == 12


@pytest.mark.parametrize(
    ("suffix", "data"),
    [
        ("png", png(gray(65520), sBIT=b"\x0c")),  # as the standard has it: moved to the upper bits
        ("png", png(gray(3000), sBIT=b"\x0a")),  # fewer than there are
        ("png", png(gray(3000), sBIT=b"")),
        ("png", png(gray(3000), sBIT=b"\x00")),
        ("png", png(gray(3000), sBIT=b"\x10")),
        ("tif", tiff(gray(3000), tags={281: 3000})),  # the largest of this image, not of the camera
        ("tif", tiff(gray(3000), tags={281: 65535})),
    ],
)
def test_what_makes_no_sense_is_not_heeded(tmp_path: Path, suffix: str, data: bytes) -> None:
    assert bits_of(one(tmp_path, data, suffix)) == 16


def test_files_of_both_kinds_in_one_set(tmp_path: Path) -> None:
    root = one(tmp_path, png(gray(4095)))
    (root / "train" / "a" / "own.pgm").write_bytes(pnm(gray(1000), 1000))
    Image.fromarray(GRAY).save(root / "train" / "a" / "usual.png")
    images = image_folder(root=str(root), test_fraction=0.5, bits=None).train
    parent = images.images if isinstance(images, Subset) else images
    assert all(int(parent[position].max()) == 255 for position in range(len(parent)))


@pytest.mark.parametrize("top", [4095, 65535])
def test_large_images_cost_little(tmp_path: Path, top: int) -> None:
    one(tmp_path, [tiff(gray(top, side=1024))] * 64, "tif")
    opened: list[str] = []

    class Counting(FileImages):
        def encoded(self, position: int) -> tuple[str, int]:
            opened.append(self.paths[position])
            return super().encoded(position)

    images = Counting(sorted(map(str, tmp_path.rglob("*.tif"))))
    scale_to_used_bits([images, Subset(images, torch.arange(3)), None], None, tmp_path)
    assert images.bits == top.bit_length() and len(opened) == (1 if top == 65535 else 17)


def test_jpeg_files_are_not_opened(tmp_path: Path) -> None:
    images = FileImages([tmp_path / f"{number}.JPG" for number in range(3)])
    scale_to_used_bits([images], None, tmp_path)
    assert images.bits == 16 and images._stats is None
