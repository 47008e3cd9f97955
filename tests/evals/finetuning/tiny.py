"""A transformer of three narrow blocks and a few digits, to be fine-tuned in a second."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import torch

from dinodiet.backbones import timm_backbone
from dinodiet.data.images import TensorImages
from dinodiet.evals.finetune import FineTune
from dinodiet.evals.splits import Embedder, LazyTrainingSplits
from dinodiet.types import Data, DataSpec, Runtime, Work

SPEC = DataSpec("few", num_images=40, num_labels=4, image_size=16)
QUICK: dict[str, Any] = {"lr": 1e-3, "seeds": 1, "steps": 4}


@functools.cache
def backbone() -> Any:
    torch.manual_seed(0)
    model_args = {"depth": 3, "embed_dim": 24, "num_heads": 2}
    names: dict[str, str | None] = {"tiny": "vit_tiny_patch16_224"}
    shape: dict[str, Any] = {"patch_size": 8, "model_args": model_args}
    return timm_backbone(SPEC, size="tiny", names=names, feature="cls", weights="none", **shape)


def images(count: int, seed: int = 0, *, labelled: bool = True, multilabel: bool = False) -> TensorImages:
    """Return noise, brighter by class: something to learn."""
    generator = torch.Generator().manual_seed(seed)
    classes = torch.arange(count) % SPEC.num_labels
    pixels = torch.randint(64, (count, 3, 16, 16), generator=generator) + 40 * classes[:, None, None, None]
    labels = torch.eye(SPEC.num_labels, dtype=torch.int64)[classes] if multilabel else classes
    return TensorImages(pixels.to(torch.uint8), labels if labelled else None)


def data(train: int = 40, **kind: bool) -> Data:
    split = images(train, **kind)
    return Data(
        replace(SPEC, multilabel=kind.get("multilabel", False)),
        split,
        split,
        images(12, 1, **kind),
        images(16, 2, **kind),
    )


def splits(
    given: Data | None = None, encoder: Any = None, work: Work | None = None, **runtime: Any
) -> LazyTrainingSplits:
    encoder = encoder or backbone()
    embedder = Embedder(encoder, given or data(), encoder.input, Runtime(**runtime))
    return LazyTrainingSplits(embedder, "test", None, work or Work())


def quick(**changes: Any) -> FineTune:
    return FineTune(**QUICK | changes)
