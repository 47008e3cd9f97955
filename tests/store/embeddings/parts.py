"""Rows of two parts of a split, as tests write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dinodiet.store.embeddings.parts import Layout, Part, Rows, Writer

CLASSES = ("cat", "dog", "owl")
LAYOUT = Layout(embed_dim=4, named=True, num_labels=3, classes=CLASSES, about={"model": "tiny"})
PARTS = [Part("test", 0, 0, 3, "k0"), Part("test", 1, 3, 5, "k1")]


def rows(part: Part, *, labelled: bool = True, several: bool = False, named: bool = True) -> Rows:
    """Return rows that tell where they are: image i is `x<i>.png` with label i modulo 3."""
    index = np.arange(part.start, part.stop)
    labels = np.eye(3, dtype=np.int64)[index % 3] + np.eye(3, dtype=np.int64)[0] * (index == 4)[:, None]
    files = [f"{'deep/' * i}x{i}.png" for i in index.tolist()]
    embeddings = np.random.default_rng(part.start).normal(size=(len(part), 4)).astype(np.float32)
    return Rows(index, files if named else None, (labels if several else index % 3) if labelled else None, embeddings)


def written(writer: Writer) -> list[Path]:
    """Write both parts."""
    for part in PARTS:
        writer.write(part, rows(part))
    return writer.finish(PARTS)


def whole() -> np.ndarray:
    """Return the embeddings of both parts."""
    return np.concatenate([rows(part).embeddings for part in PARTS])
