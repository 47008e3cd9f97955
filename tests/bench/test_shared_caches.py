"""What runs of a study share, measured: the study with one folder of caches against each of its runs with its own."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.bench.rows import Note
from tests.running import CHOICES, composed, run, scores

RUNS = [f"method.loss.label_smoothing=0.{number}" for number in range(6)]
NETWORK = (
    *("model=vit_tiny", "+model.model_args={depth: 12, embed_dim: 96, num_heads: 3}", "model.patch_size=16"),
    *("dataset=folder", "dataset.image_size=64", "method=diet", "tuned=none", "method.trainable=last_1_blocks"),
    *("method.trunk.views=4", "schedule.epochs=8", "schedule.batch_size=50", "eval=knn", "figures=false"),
    *("device=cpu", "log_every=100"),
)
IMAGES = {"train": 300, "val": 50, "test": 150}


def write_photographs(root: Path) -> None:
    """Write JPEG files of noise, 256 pixels wide, in two classes."""
    draw = np.random.default_rng(0)
    for split, count in IMAGES.items():
        for number in range(count):
            folder = root / split / f"class{number % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            pixels = draw.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((256, 256)).save(folder / f"{number}.jpg")


def cpu_seconds(folder: Path, images: Path, caches: Path, words: str) -> tuple[float, object]:
    """Return the CPU seconds of a run in this process, and its scores."""
    cfg = composed(folder, words, f"dataset.source.root={images}", f"cache_dir={caches}", base=NETWORK)
    before = time.process_time()
    results = run(cfg, {**CHOICES, "dataset": "folder"})
    return time.process_time() - before, scores(results)


@pytest.mark.bench
@pytest.mark.usefixtures("one_thread")
def test_a_study_with_shared_caches_takes_at_most_six_tenths(tmp_path: Path, note: Note) -> None:
    write_photographs(tmp_path / "images")
    (tmp_path / "first").mkdir()
    cpu_seconds(tmp_path / "first", tmp_path / "images", tmp_path / "unused", RUNS[0])  # libraries load
    took, found = {"alone": 0.0, "shared": 0.0}, []
    for number, words in enumerate(RUNS):
        both = {"alone": tmp_path / f"caches{number}", "shared": tmp_path / "caches"}
        pair = {name: cpu_seconds(tmp_path / name, tmp_path / "images", place, words) for name, place in both.items()}
        took = {name: seconds + pair[name][0] for name, seconds in took.items()}
        found.append(pair["alone"][1] == pair["shared"][1])
    ratio = took["shared"] / took["alone"]
    words = f"{ratio:.2f} ({took['shared']:.0f} of {took['alone']:.0f} CPU seconds)"
    print(words)
    note("a study of 6 runs with shared caches, over each alone", words)
    assert all(found)  # the scores are the same
    assert ratio <= 0.6
