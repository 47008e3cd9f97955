"""With `deterministic=true` a training gives the same losses twice; in the slow suite the CPU runs it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dinodiet.training.deterministic import deterministic

from .test_options import CONVOLUTIONS
from .training import losses

SMALL_CROPS = ("method.views.crops=2x32+2x16",)  # position embeddings are resized
CASES = {
    "convolutions": ("diet", CONVOLUTIONS),
    "convolutions in fp16": ("diet", (*CONVOLUTIONS, "precision=fp16")),
    "dino": ("dino", SMALL_CROPS),
    "dino in bf16": ("dino", (*SMALL_CROPS, "precision=bf16")),
    "simclr": ("simclr", ()),
    "lejepa": ("lejepa", ()),
    "mae": ("mae", ()),
}


@pytest.mark.parametrize("case", CASES)
def test_losses_are_the_same_twice(case: str, device: torch.device, tmp_path: Path) -> None:
    method, words = CASES[case]
    with deterministic(True):
        first, second = (losses(tmp_path / name, method, device, *words) for name in ("first", "second"))
    assert first == second
