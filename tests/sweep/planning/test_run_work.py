"""The operations of a tiny transformer, counted by hand."""

from pathlib import Path

import pytest

from dinodiet.sweep.planning.estimate import Estimator
from dinodiet.sweep.planning.run_work import RunWork

from .cells import cell

WIDTH, PATCH, BATCH, IMAGES, STEPS = 24, 8, 16, 64, 12
VAL, TEST = 200, 597  # of the digits


NO_WARMUP = "method.head.warmup_fraction=0"


def work(tmp_path: Path, *words: str) -> RunWork:
    found = Estimator()(cell(tmp_path, *words).settings())
    assert found.work is not None
    return found.work


def linears(tokens: int) -> int:
    """Return the operations of a block's linear layers on an image: qkv, projection, and two of the MLP."""
    return 2 * tokens * WIDTH * WIDTH * (3 + 1 + 4 + 4)


def attention(tokens: int) -> int:
    return 2 * (2 * tokens * tokens * WIDTH)


def patches(number: int) -> int:
    return 2 * number * WIDTH * 3 * PATCH**2


def forward(side: int) -> tuple[int, int]:
    """Return the operations of a block, and of the whole network of two, on an image."""
    tokens = (side // PATCH) ** 2 + 1
    block = linears(tokens) + attention(tokens)
    return block, patches(tokens - 1) + 2 * block


SIDE = "dataset.image_size=32"
TRAINED = (SIDE, NO_WARMUP, "method.trainable=last_1_blocks")
HEAD = 2 * BATCH * WIDTH * IMAGES  # of all images' classes, on a batch


def test_training_and_scores_are_what_one_counts(tmp_path: Path) -> None:
    found = work(tmp_path, *TRAINED)
    _, image = forward(32)
    tokens = 17
    backward = 2 * linears(tokens) + 5 * attention(tokens) // 2  # which computes its weights once more
    step = BATCH * (image + backward) + 3 * HEAD  # the head's backward pass is two products
    scores = (IMAGES + VAL + TEST) * image
    assert found.frozen == {"train": IMAGES * image, "val": VAL * image, "test": TEST * image}
    assert found.own == STEPS * step + scores
    assert found.alone == found.without_caches == found.own + scores


def test_while_the_backbone_waits_nothing_passes_back_through_it(tmp_path: Path) -> None:
    whole, waits = work(tmp_path, *TRAINED), work(tmp_path, *TRAINED, "method.head.warmup_fraction=0.5")
    tokens = 17
    assert whole.own - waits.own == STEPS // 2 * BATCH * (2 * linears(tokens) + 5 * attention(tokens) // 2)


def test_a_trunk_cache_computes_each_view_once(tmp_path: Path) -> None:
    whole, kept = work(tmp_path, *TRAINED), work(tmp_path, *TRAINED, "method.trunk.views=2")
    block, image = forward(32)
    trunk = image - block
    assert (kept.views, kept.view) == (2, IMAGES * trunk)
    assert whole.own - kept.own == kept.drawn == STEPS * BATCH * trunk
    assert kept.without_caches == whole.alone
    assert work(tmp_path, *TRAINED, "method.trunk.views=9").views == 3  # no more than there are epochs


def test_a_batch_in_parts_and_validations_count(tmp_path: Path) -> None:
    whole, parts = work(tmp_path, *TRAINED), work(tmp_path, *TRAINED, "schedule.accumulate=4")
    assert parts == whole
    every = work(tmp_path, *TRAINED, "eval.every_epochs=1")
    assert every.own - whole.own == 3 * VAL * forward(32)[1]


def test_frozen_runs_are_scored_once(tmp_path: Path) -> None:
    found = work(tmp_path, SIDE, "method=frozen")
    assert found.own == 0
    assert found.alone == pytest.approx((IMAGES + VAL + TEST) * forward(32)[1])


def test_of_sets_whose_size_is_unknown_nothing_is_told(tmp_path: Path) -> None:
    words = ("dataset=folder", "dataset.source.root=nowhere", "dataset.limit=64")
    assert Estimator()(cell(tmp_path, *words).settings()).work is None
