"""Contact sheets: whole images, and captions of any text."""

from __future__ import annotations

import numpy as np
import torch

from dinodiet.data.images import TensorImages
from dinodiet.evals.pictures.sheet import SIDE, contact_sheet, short, thumbnail


def test_an_image_is_shown_whole_and_what_is_small_pixel_by_pixel() -> None:
    image = torch.zeros(3, 2, 4, dtype=torch.uint8)
    image[0, :, :2] = 200
    shown = np.asarray(thumbnail(image))
    assert shown.shape == (SIDE, SIDE, 3)
    assert shown[SIDE // 2, 5].tolist() == [200, 0, 0] and shown[SIDE // 2, -5].tolist() == [0, 0, 0]
    assert shown[5, 5].tolist() == [230, 230, 230]  # above and below it
    wide = np.asarray(thumbnail(torch.full((3, 400, 1000), 9, dtype=torch.uint8)))
    assert (wide == 9).all(-1).any(1).sum() == round(SIDE * 0.4)


def test_a_sheet_has_a_cell_an_image_and_takes_any_caption() -> None:
    images = TensorImages(torch.zeros(9, 3, 5, 5, dtype=torch.uint8))
    sheet = contact_sheet(images, torch.arange(9), ["", "a\nb\nc", "\x00\x1b[31m", "日本", *["x" * 300] * 5])
    assert sheet.size == (8 * 128, 2 * 156)
    assert contact_sheet(images, torch.arange(0), []).size == (8 * 128, 156)


def test_of_long_texts_the_end_is_shown() -> None:
    assert short("folder/of/many/images/0001.png") == "../images/0001.png"
    assert len(short("x" * 40)) == 18
    assert short("a\nb") == "a?b"
