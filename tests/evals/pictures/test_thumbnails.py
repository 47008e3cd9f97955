"""Small tiles of many images: each at its place, and no file too large."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dinodiet.data.images import TensorImages
from dinodiet.evals.pictures.thumbnails import COLUMNS, TILE, write_thumbnails


def test_tiles_lie_row_by_row_in_the_order_of_places(tmp_path: Path) -> None:
    shades = torch.arange(60, dtype=torch.uint8).mul(4)
    images = TensorImages(shades.view(60, 1, 1, 1).expand(60, 3, 6, 4).contiguous())
    places = torch.arange(59, 6, -1)  # 53 of them, backwards
    write_thumbnails(tmp_path / "sheet.jpg", images, places)
    with Image.open(tmp_path / "sheet.jpg") as sheet:
        assert sheet.size == (COLUMNS * TILE, 2 * TILE) == (2000, 80)
        pixels = np.asarray(sheet).astype(int)
    for number, place in enumerate(places.tolist()):
        row, column = divmod(number, COLUMNS)
        middle = pixels[TILE * row + TILE // 2, TILE * column + TILE // 2]
        assert np.abs(middle - 4 * place).max() <= 3
        assert np.abs(pixels[TILE * row + 2, TILE * column + 1] - 230).max() <= 12  # whole, on grey
    assert pixels[TILE:, 3 * TILE :].min() >= 250


def test_2000_images_of_noise_take_less_than_3_mb(tmp_path: Path) -> None:
    noise = torch.randint(0, 256, (2000, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    noise = noise.repeat_interleave(5, 2).repeat_interleave(5, 3) // 2 + torch.randint(0, 128, (2000, 3, 40, 40))
    write_thumbnails(tmp_path / "sheet.jpg", TensorImages(noise.to(torch.uint8)), torch.arange(2000))
    assert 2**20 < (tmp_path / "sheet.jpg").stat().st_size < 3_000_000
