from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from dinodiet.data.images import FileImages, Subset, TensorImages
from dinodiet.data.views.drafts import drafted
from dinodiet.errors import UserError


@pytest.mark.parametrize(("side", "expected"), [(100, 100), (99, 100), (101, 200), (50, 50), (300, 400), (1, 50)])
def test_drafts_keep_the_shorter_side(tmp_path: Path, side: int, expected: int) -> None:
    path = tmp_path / "a.jpg"
    pixels = np.linspace(0, 255, 400 * 600 * 3).reshape(400, 600, 3).astype(np.uint8)
    Image.fromarray(pixels).save(path, quality=95)
    whole = FileImages([path, path], torch.tensor([0, 1]))
    small = drafted(Subset(whole, torch.tensor([1])), side)
    assert small[0].shape == (3, expected, expected * 3 // 2)
    assert small.labels is not None
    assert small.labels.tolist() == [1]
    assert whole[0].shape == (3, 400, 600)
    difference = small[0].float() - F.interpolate(whole[0][None].float(), small[0].shape[1:], mode="area")[0]
    assert difference.abs().mean() < 3


def test_only_jpeg_files_have_drafts(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    assert drafted(FileImages([tmp_path / "a.png"]), 8)[0].shape == (3, 64, 64)
    with pytest.raises(UserError, match=r"^draft: true, .* no image files"):
        drafted(TensorImages(torch.zeros(1, 3, 4, 4, dtype=torch.uint8)), 8)


def test_16_bit_images_keep_their_bits(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 4095, np.uint16)).save(tmp_path / "a.png")
    images = FileImages([tmp_path / "a.png"])
    images.bits = 12
    assert int(drafted(images, 4)[0].min()) == 255
    assert drafted(images, 4).fingerprint() == images.fingerprint()
