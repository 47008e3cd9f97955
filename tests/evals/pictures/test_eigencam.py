"""The picture of EigenCAM and its table; networks without maps are left out by name."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dinodiet.data.preprocess import preprocess
from dinodiet.evals.pictures.eigencam import PICTURE, TABLE
from dinodiet.evals.pictures.sheet import MARGIN, NAMES, SIDE, WIDTH
from dinodiet.features.eigen_maps import first_component, last_maps
from dinodiet.run.parts import build_parts
from tests.contracts.choices import settings
from tests.running import CONVOLUTIONS

EVAL = ("eval=eigencam", "eval.eigencam.images=2", "eval.validation=false")


def test_table_and_picture_show_the_component_of_each_image(tmp_path: Path) -> None:
    parts = build_parts(settings(tmp_path, *EVAL, base=CONVOLUTIONS))
    found = parts.scorer(parts.method.encoder, folder=tmp_path)["eigencam"]
    assert found.skipped is None
    assert found.artefacts == [f"eigencam/test/{name}" for name in (TABLE, PICTURE)]
    with (tmp_path / "eigencam/test" / TABLE).open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    places = sorted({int(row["image"]) for row in rows})
    shown = preprocess(torch.stack([parts.data.test[place] for place in places]), parts.backbone.input)
    along, share = first_component(last_maps(parts.method.encoder.eval(), shown))
    values = np.array([float(row["value"]) for row in rows]).reshape(along.shape)
    assert np.allclose(values, along.numpy(), rtol=1e-4)
    assert found.test["explained"].value == float(share.mean())
    assert 0 < found.test["spread"].value < 1
    with Image.open(tmp_path / "eigencam/test" / PICTURE) as picture:
        assert picture.size == (3 * WIDTH, NAMES + 2 * WIDTH)
        cell = np.asarray(picture)[NAMES + MARGIN :, WIDTH + MARGIN :][:SIDE, :SIDE].astype(int)
    row, column = divmod(int(along[0].argmax()), 8)
    brightest = cell[row * 14 + 7, column * 14 + 7]
    assert brightest.tolist() == [253, 231, 37]  # the last colour of viridis, where the component is largest


def test_a_transformer_is_left_out_by_name(tmp_path: Path) -> None:
    parts = build_parts(settings(tmp_path, *EVAL))
    found = parts.scorer(parts.method.encoder, folder=tmp_path)["eigencam"]
    assert found.skipped == "needs maps of features, as convolutions make them; VisionTransformer has none"
