"""16-bit files whose images use fewer bits: scaled to those, all alike, and told once."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dinodiet.data.images import Subset
from dinodiet.data.sources.folder import image_folder
from dinodiet.errors import UserError

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
    assert "end at 3900; bits=12" in caplog.text
    assert int(first(root, bits=12).max()) == round(3900 * 255 / 4095)


def test_bits_can_be_chosen_and_make_other_images(tmp_path: Path) -> None:
    root = folder(tmp_path, 4095)
    found = [image_folder(root=str(root), bits=bits).train for bits in (None, 12, 16)]
    prints = [images.fingerprint() for images in found]
    assert prints[0] == prints[1] != prints[2]
    assert int(found[2][0].max()) == 16
    assert isinstance(found[0], Subset) or int(found[0][0].max()) == 255


def test_a_value_of_more_bits_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"0\.png: .*values 0 to 4095, not 0 to 1023 \(10 bits\)"):
        first(folder(tmp_path, 4095), bits=10)
