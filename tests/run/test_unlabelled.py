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


@pytest.mark.slow
def test_what_needs_no_labels_is_scored_before_and_after(tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(0)
    (tmp_path / "images").mkdir()
    for i in range(40):
        pixels = torch.randint(0, 256, (8, 8, 3), dtype=torch.uint8, generator=draw)
        Image.fromarray(pixels.numpy()).save(tmp_path / "images" / f"{i}.png")
    own = ("dataset=folder", f"dataset.source.root={tmp_path / 'images'}", "dataset.limit=null")
    others = ("dataset@eval.reference.dataset=digits", "eval.reference.k=5", "eval.lidar.views=2")
    settings = (*own, "eval=[knn,geometry,lidar,reference]", *others, "schedule.epochs=1", "dataset.image_size=16")
    results = run(composed(tmp_path, *settings), {**CHOICES, "dataset": "folder"})
    assert list(results["skipped"]) == ["knn"]
    assert {"geometry/rankme", "lidar/rank", "reference/mmd2"} < results["initial"].keys() == results["final"].keys()
    assert all(results["initial"][name] != results["final"][name] for name in ("geometry/rankme", "lidar/rank"))
    assert results["settings"]["initial"]["geometry/rows"] == results["settings"]["final"]["geometry/rows"] == 40
    assert results["better"]["geometry/alpha_req"] == "none"
