"""mode=views: a picture of a method's views, before any training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dinodiet.errors import UserError
from dinodiet.evals.pictures.sheet import MARGIN, NAMES, SIDE, WIDTH
from dinodiet.run.views import GREY, seen
from dinodiet.types import ShownView
from tests.running import CHOICES, composed, run


def test_the_picture_has_a_row_an_image_and_no_run_is_left(tmp_path: Path) -> None:
    done = run(composed(tmp_path, "mode=views", "views.images=3", "method=dino", "method.views.crops=2+3"))
    assert done["images"] == 3
    assert done["views"] == [*(f"global {n} (both)" for n in (1, 2)), *(f"local {n} (student)" for n in (1, 2, 3))]
    with Image.open(done["file"]) as picture:
        assert picture.size == (6 * WIDTH, NAMES + 3 * WIDTH)
        first = np.asarray(picture)[NAMES + MARGIN :, MARGIN:][:SIDE, :SIDE]
    assert len({tuple(pixel) for pixel in first.reshape(-1, 3).tolist()}) <= 17  # a digit as loaded, pixel by pixel
    assert [path.name for path in tmp_path.iterdir()] == ["default"]
    assert [path.name for path in (tmp_path / "default").iterdir()] == ["views"]


def test_hidden_patches_are_grey() -> None:
    hidden = torch.tensor([[[True, False], [False, False]]])
    shown = seen(ShownView("visible", torch.ones(1, 3, 4, 4), hidden), 0)
    assert torch.equal(shown[0], torch.tensor([[GREY, GREY, 1, 1]] * 2 + [[1.0] * 4] * 2))


def test_a_method_without_views_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^method: frozen makes no views; choose a method that trains$"):
        run(composed(tmp_path, "mode=views", "method=frozen"), {**CHOICES, "method": "frozen"})


def test_every_part_of_an_accumulated_batch_is_shown(tmp_path: Path) -> None:
    done = run(composed(tmp_path, "mode=views", "views.images=100", "schedule.accumulate=4"))
    assert done["images"] == 16
