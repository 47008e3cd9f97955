"""A folder of images without labels: self-supervised training runs, and what needs labels is left out by name."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.running import CHOICES, composed, run


@pytest.mark.parametrize("evaluators", ["[knn,linear]", "[]"])
def test_unlabelled_images_train(evaluators: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw = torch.Generator().manual_seed(0)
    for i in range(6):
        pixels = torch.randint(0, 256, (8, 8, 3), dtype=torch.uint8, generator=draw)
        (tmp_path / "images" / str(i % 2)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.numpy()).save(tmp_path / "images" / str(i % 2) / f"{i}.png")
    own = ("dataset=folder", f"dataset.source.root={tmp_path / 'images'}", "dataset.limit=null")
    settings = (*own, f"eval={evaluators}", "schedule.epochs=1", "dataset.image_size=16", "schedule.batch_size=3")
    results = run(composed(tmp_path, *settings), {**CHOICES, "dataset": "folder"})
    assert results["steps"] == 2
    assert results["initial"] == results["final"] == {}
    left_out = [] if evaluators == "[]" else ["knn", "linear"]
    assert list(results["skipped"]) == left_out
    assert all("needs labels" in reason for reason in results["skipped"].values())
    printed = capsys.readouterr().out
    assert "6 images to train on, no labels" in printed
    assert all(f"{name} is left out: " in printed for name in left_out)
