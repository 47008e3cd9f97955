"""The picture of attention: which cell shows what; networks without are left out by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dinodiet.config.settings import settings_of
from dinodiet.data.preprocess import preprocess
from dinodiet.evals.measures.rows import evenly
from dinodiet.evals.pictures.attention import PICTURE, spread
from dinodiet.evals.pictures.sheet import MARGIN, NAMES, WIDTH
from dinodiet.evals.scorer import Scored
from dinodiet.features.attention_maps import class_attention, largest_mass
from dinodiet.run.parts import Parts, build_parts
from tests.contracts.choices import settings
from tests.running import CHOICES, composed

EVAL = ("eval=attention", "eval.attention.images=3", "eval.validation=false")


def scored(folder: Path, *words: str) -> tuple[Parts, Scored]:
    parts = build_parts(settings(folder, *EVAL, *words))
    return parts, parts.scorer(parts.method.encoder, folder=folder)["attention"]


def cell(sheet: Any, row: int, column: int) -> Any:
    """Return the pixels of a cell without its margin."""
    top, left = NAMES + row * WIDTH + MARGIN, column * WIDTH + MARGIN
    return sheet[top : top + WIDTH - 2 * MARGIN, left : left + WIDTH - 2 * MARGIN]


def middles(pixels: Any, side: int) -> Any:
    """Return the pixels in the middle of each patch of a square of side x side."""
    places = ((np.arange(side) + 0.5) * len(pixels) / side).astype(int)
    return pixels[places][:, places]


def test_each_cell_shows_its_map_patch_by_patch(tmp_path: Path) -> None:
    parts, found = scored(tmp_path)
    assert found.skipped is None and found.artefacts == [f"attention/test/{PICTURE}"]
    encoder, images = parts.method.encoder.eval(), parts.data.test
    positions = evenly(len(images), 3)
    shown = preprocess(torch.stack([images[int(position)] for position in positions]), parts.backbone.input)
    maps = class_attention(encoder, shown)
    with Image.open(tmp_path / found.artefacts[0]) as picture:
        sheet = np.asarray(picture)
    assert sheet.shape[1] == (3 + maps.shape[1]) * WIDTH
    side = maps.shape[-1]

    def coloured(weights: Tensor) -> Any:
        colours = np.asarray(matplotlib.colormaps["viridis"]((weights / weights.max()).numpy()))
        return np.round(colours[..., :3] * 255)

    for row in range(3):
        for column, weights in ((1, maps[row].mean(0)), *enumerate(maps[row], start=3)):
            assert np.abs(middles(cell(sheet, row, column), side) - coloured(weights)).max() <= 1
        mask = largest_mass(maps[row].mean(0).flatten(), 0.6).view(side, side)
        bright, dimmed = (middles(cell(sheet, row, place), side).astype(float) for place in (0, 2))
        assert (
            np.abs(dimmed - bright * np.where(mask, 1.0, 0.2)[..., None]).max() <= 4
        )  # pixels are rounded and resized


def test_scores_say_how_attention_is_spread(tmp_path: Path) -> None:
    equal, one = torch.full((2, 3, 4, 4), 0.05), torch.zeros(2, 3, 4, 4)
    one[:, :, 1, 2] = 0.4
    assert spread(equal) == pytest.approx(1.0)
    assert spread(one) == 0
    assert spread(torch.ones(1, 1, 1, 1)) == 0
    _, found = scored(tmp_path)
    assert 0 < found.test["spread"].value <= 1
    assert 0 < found.test["patches"].value < 1  # the class token looks at itself too


def test_the_same_encoder_has_the_same_picture_and_keeps_its_mode(tmp_path: Path) -> None:
    parts, found = scored(tmp_path / "one")
    parts.method.encoder.train()
    again = parts.scorer(parts.method.encoder, folder=tmp_path / "two")["attention"]
    assert again == found
    assert parts.method.encoder.training
    one, two = ((tmp_path / place / found.artefacts[0]).read_bytes() for place in ("one", "two"))
    assert one == two


def test_a_network_without_attention_is_left_out_by_name(tmp_path: Path) -> None:
    words = (*EVAL, "dataset.limit=64", "model=resnet_tiny", "model.size=20", "dataset.image_size=32")
    parts = build_parts(settings_of(composed(tmp_path, *words, base=("dataset=digits", "method=diet")), CHOICES))
    found = parts.scorer(parts.method.encoder, folder=tmp_path)["attention"]
    assert found.skipped is not None and found.skipped.startswith("needs the tokens of a transformer; TinyResNet")
