"""The contract of backbones that other programs can load."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from torch import Tensor

Embed = Callable[[Tensor], Tensor]  # images (B, 3, size, size) in 0..1 -> embeddings (B, embed_dim)


@dataclass(frozen=True)
class ExportTarget:
    """How a backbone is written into a folder, and what loads it from there.

    Attributes:
        write: writes its files into a folder that exists.
        read: loads them with the program that they are for, and that alone.
        usage: lines of Python that set `embedding` (1, embed_dim) for `image.jpg`; the folder is the working directory.
        library: what loads it, as model cards name it; None: they have no name for it.
        takes: what the written network expects of its input, in words.
        gives: which of its outputs is the embedding, in words; nothing where there is one alone.
        tolerance: how far embeddings may differ from the backbone's own, relative to the largest number.
    """

    write: Callable[[Path], object]
    read: Callable[[Path], Embed]
    usage: str
    library: str | None
    takes: str
    gives: str = ""
    tolerance: float = 1e-5


@dataclass(frozen=True)
class Unexportable:
    """A target that other backbones have; `why` this one has not, as a clause: "it has ..., and the library ..."."""

    why: str


@runtime_checkable
class Exportable(Protocol):
    """A backbone that a library besides torch can load, from files of that library's own format."""

    def export_targets(self) -> Mapping[str, ExportTarget | Unexportable]:
        """Return how, by the name of the target, or why not."""
        ...
