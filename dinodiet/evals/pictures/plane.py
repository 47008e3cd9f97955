"""Embeddings in the plane: by t-SNE, UMAP, or their first two principal components."""

from __future__ import annotations

import importlib.util
import warnings
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from dinodiet.errors import UserError

PERPLEXITY = 30.0  # of t-SNE, for sets that are large enough: it is at most a third of the others
NEIGHBOURS, LEAST = 15, 0.1  # of UMAP: neighbours of a point, at most all others, and its distance to the nearest one

Plane = NDArray[np.float64]
Kind = Literal["tsne", "umap", "pca"]


def check_kind(kind: Kind) -> None:
    """Refuse a kind that needs a library which is not installed.

    Raises:
        UserError: it is UMAP, without umap-learn.
    """
    if kind == "umap" and importlib.util.find_spec("umap") is None:
        raise UserError("kind: umap needs umap-learn: pip install 'dinodiet[umap]', or choose tsne or pca")


def in_plane(features: NDArray[np.float64], kind: Kind, seed: int) -> Plane:
    """Return features (n, D) in the plane (n, 2); equal ones and an equal seed give an equal plane."""
    if kind == "pca":
        made: Plane = PCA(2, svd_solver="full").fit_transform(features)
        return made
    maker = _umap(len(features), seed) if kind == "umap" else _tsne(len(features), seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"umap|numba|pynndescent")
        placed: Plane = maker.fit_transform(features.astype(np.float32)).astype(np.float64)
    return placed


def _tsne(number: int, seed: int) -> Any:
    perplexity = min(PERPLEXITY, (number - 1) / 3)
    return TSNE(2, perplexity=perplexity, init="pca", learning_rate="auto", random_state=seed)


def _umap(number: int, seed: int) -> Any:
    """Return UMAP on one thread, without which a seed does not make it the same again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of extras that are not installed
        from umap import UMAP  # noqa: PLC0415 - an extra, and seconds of compiling
    return UMAP(n_neighbors=min(NEIGHBOURS, number - 1), min_dist=LEAST, random_state=seed, n_jobs=1)
