"""What files of embeddings hold: parts of splits, each of them whole or absent. Imports no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

FORMAT = 1  # of the files; raise it when they change


@dataclass(frozen=True)
class Part:
    """The images of a split from `start` to before `stop`. `key` is a hash of all that their rows depend on."""

    split: str
    number: int
    start: int
    stop: int
    key: str

    @property
    def name(self) -> str:
        """Return the name of its file, without a suffix."""
        return f"{self.split}-{self.number:05d}"

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Rows:
    """The rows of a part, N images.

    `index` is the position of each image in its set, `files` the path of each, if they are files; `labels` int64 (N,)
    or (N, L) of 0/1, if there are any; `embeddings` float32 (N, D).
    """

    index: NDArray[np.int64]
    files: Sequence[str] | None
    labels: NDArray[np.int64] | None
    embeddings: NDArray[np.float32]


@dataclass(frozen=True)
class Layout:
    """What all files of a data set have in common.

    Attributes:
        embed_dim: numbers of an embedding.
        named: whether images of a split are files.
        num_labels: classes, or the labels of a multi-label set; 0: there are none.
        multilabel: whether an image has several labels.
        classes: the names of the classes or labels, where they are known.
        about: what else is written into each file: model, weights, preprocessing.
    """

    embed_dim: int
    named: bool
    num_labels: int
    multilabel: bool = False
    classes: Sequence[str] | None = None
    about: Mapping[str, Any] = field(default_factory=dict)


class Writer(Protocol):
    """Writes embeddings in a format. A file that is there is whole; equal rows make equal bytes."""

    @property
    def layout(self) -> Layout:
        """Return what all files have in common."""
        ...

    def missing(self, parts: Sequence[Part]) -> list[Part]:
        """Return those of all parts of a split that are not there, or are broken or of another key."""
        ...

    def exists(self, part: Part) -> bool:
        """Return whether there is a file of this part, whatever it holds."""
        ...

    def write(self, part: Part, rows: Rows) -> None:
        """Write a part.

        Raises:
            OSError: it cannot be written; nothing is left of it.
        """
        ...

    def finish(self, parts: Sequence[Part]) -> list[Path]:
        """Return the files of a split whose parts are all written, and remove what else there is of it."""
        ...


def key_of(parts: Iterable[object]) -> str:
    """Return a hash of values by what Python writes of them."""
    return hashlib.blake2b(repr(tuple(parts)).encode(), digest_size=16).hexdigest()
