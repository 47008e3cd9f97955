"""What the methods are for: features that get better, over three seeds, on real pictures with real weights."""

import json
import math
import statistics
from pathlib import Path
from typing import Any

import pytest
import torch

from dinodiet.data.dataset import open_dataset
from dinodiet.data.digits import digits
from dinodiet.evals.knn import KNN
from dinodiet.types import Embeddings, Images
from tests.running import launch, results_in

pytestmark = pytest.mark.slow
SEEDS = (0, 1, 2)


def trained(tmp_path: Path, *overrides: str) -> tuple[float, float, list[dict[str, Any]]]:
    """Return k-NN accuracy on test before and after, and the rows of metrics.jsonl."""
    done = launch(tmp_path, *overrides, "eval=knn", "device=cpu", timeout=900)
    assert done.returncode == 0, done.stderr
    results = results_in(tmp_path)
    (path,) = tmp_path.glob("*/*/metrics.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return results["initial"]["knn/accuracy"], results["final"]["knn/accuracy"], rows


def told(name: str, initial: list[float], final: list[float]) -> None:
    changes = [after - before for before, after in zip(initial, final, strict=True)]
    shown = ", ".join(f"{before:.3f} -> {after:.3f}" for before, after in zip(initial, final, strict=True))
    print(f"\n{name}: k-NN {shown}; change {statistics.mean(changes):+.3f} ± {statistics.stdev(changes):.3f}")


def test_diet_lifts_knn_on_digits_by_eight_points(tmp_path: Path) -> None:
    initial, final = [], []
    for seed in SEEDS:
        before, after, rows = trained(tmp_path / str(seed), f"seed={seed}")
        initial.append(before)
        final.append(after)
        assert rows[-1]["effective_rank"] > 5  # of 32 embeddings
    told("DIET, efficientnet_lite0, digits", initial, final)
    assert all(after - before >= 0.08 for before, after in zip(initial, final, strict=True))


def raw_pixels(images: Images) -> Embeddings:
    features = torch.stack([images[i][0].flatten().float() for i in range(len(images))])
    assert images.labels is not None
    return Embeddings(features, images.labels, 10)


def test_dino_from_scratch_beats_the_untrained_transformer(tmp_path: Path) -> None:
    initial, final = [], []
    model = ("model=vit_tiny", "model.patch_size=4", "model.feature=mean_patch", "+model.model_args.depth=4")
    for seed in SEEDS:
        before, after, rows = trained(tmp_path / str(seed), "method=dino", *model, f"seed={seed}")
        initial.append(before)
        final.append(after)
        entropy, out_dim = rows[-1]["teacher_entropy"], 1024
        assert 0.1 < entropy < 0.97 * math.log(out_dim), "the teacher is a point or uniform: collapse"
        assert rows[-1]["kl"] > 0.01
        assert rows[-1]["effective_rank"] > 2
    told("DINO, vit_tiny of 4 blocks from scratch, digits", initial, final)
    data = open_dataset(digits())
    raw = KNN()(raw_pixels(data.train), raw_pixels(data.test))["accuracy"]
    print(f"raw pixels: k-NN {raw:.3f}")
    assert all(after > before for before, after in zip(initial, final, strict=True))
