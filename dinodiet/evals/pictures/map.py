"""Embeddings in the plane, coloured by class: a first look at what an encoder tells apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from sklearn.manifold import trustworthiness

from dinodiet.config.ranges import Range, Seed
from dinodiet.errors import NotApplicable
from dinodiet.evals.measures.rows import chosen, measurable, on_sphere
from dinodiet.evals.pictures.names import image_names, label_name
from dinodiet.evals.pictures.plane import Kind, Plane, check_kind, in_plane
from dinodiet.evals.pictures.sheet import short
from dinodiet.evals.pictures.thumbnails import THUMBNAILS, write_thumbnails
from dinodiet.io.files import write_csv
from dinodiet.results.figures import save
from dinodiet.types import DataSpec, EncoderSplits, Score

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURE, TABLE = "map.png", "map.csv"
FEWEST = 12  # embeddings, for `NEIGHBOURS` to mean something
NAMED = 20  # classes that have a colour each and a name in the legend
NEIGHBOURS = 5  # of trustworthiness, as scikit-learn has it
TITLES = {"tsne": "t-SNE", "umap": "UMAP", "pca": "first two principal components"}


@dataclass(frozen=True, kw_only=True)
class EmbeddingMap:
    """At most `images` L2-normalised embeddings, drawn by `seed`, in the plane: by t-SNE, UMAP or PCA.

    They are of the reported split, of sets without labels of train. Beside picture and table, `thumbnails.jpg` has the
    images in the order of the table's rows, see `dinodiet.evals.pictures.thumbnails`.

    t-SNE (van der Maaten and Hinton 2008) begins at the first two principal components, with perplexity 30; UMAP
    (McInnes et al. 2018) has 15 neighbours and a least distance of 0.1. Both use the same seed before and after a
    training. `trustworthiness` (Venna and Kaski 2001) says how many of the 5 nearest
    in the plane are near in truth, 1: all; distances between groups of t-SNE or UMAP say nothing.

    Raises:
        UserError: UMAP is asked for, and umap-learn is not installed.
    """

    needs: ClassVar[Literal["encoder"]] = "encoder"
    fits_labels: ClassVar[bool] = False
    kind: Kind = "tsne"
    images: Annotated[int, Range(FEWEST, 20_000)] = 2000
    seed: Seed[int] = 42

    def __post_init__(self) -> None:
        check_kind(self.kind)

    def applies(self, spec: DataSpec, num_train: int) -> None:
        """Accept any data; labels only colour it."""

    def __call__(self, splits: EncoderSplits) -> dict[str, Score]:
        """Return how trustworthy the plane is, and write picture and table.

        Raises:
            NotApplicable: there are fewer than 12 images, or an embedding is zero or not finite.
        """
        whole = len(splits.test) == 0  # of sets without labels
        embeddings, images = (splits.train, splits.train_images) if whole else (splits.test, splits.test_images)
        places = chosen(len(embeddings), self.images, self.seed)
        if len(places) < FEWEST:
            raise NotApplicable(f"needs {FEWEST} embeddings or more; there are {len(places)}")
        features = on_sphere(measurable(embeddings.features[places], torch.device("cpu"))).numpy()
        plane = in_plane(features, self.kind, self.seed)
        labelled = embeddings.labels_or_none is not None and not embeddings.multilabel
        labels = embeddings.labels[places] if labelled else None
        if splits.folder is not None:
            names = [label_name(labels, place, splits.spec.classes) for place in range(len(plane))]
            save(figure_of(plane, None if labels is None else names, self.kind), splits.folder / PICTURE)
            files = image_names(images, places.tolist(), "train" if whole else "image")
            points = ([f"{x:.6g}", f"{y:.6g}"] for x, y in plane.tolist())
            rows = ([*row, *point] for *row, point in zip(places.tolist(), files, names, points, strict=True))
            write_csv(splits.folder / TABLE, ("image", "file", "label", "x", "y"), rows)
            write_thumbnails(splits.folder / THUMBNAILS, images, places)
        return {
            "trustworthiness": Score(float(trustworthiness(features, plane, n_neighbors=NEIGHBOURS))),
            "images": Score(len(plane), kind="setting"),
        }


def figure_of(plane: Plane, names: Sequence[str] | None, kind: str) -> Figure:
    """Return a scatter plot; the legend names classes with their shape and colour, up to 20 of them."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - for those who draw

    figure = Figure(figsize=(7.5, 5.5), layout="constrained")
    axes = figure.subplots()
    groups = list(dict.fromkeys(sorted(names))) if names is not None else []
    if names is None or len(groups) > NAMED:
        numbers = {group: number for number, group in enumerate(groups)}
        colours: Any = "C0" if names is None else [numbers[name] for name in names]
        axes.scatter(plane[:, 0], plane[:, 1], s=8, c=colours, cmap=None if names is None else "turbo")
    else:
        marks, own = "osv^D", np.array(names, dtype=object)
        for place, group in enumerate(groups):
            at = plane[own == group]
            label = short(group or "no name").replace("$", r"\$")
            mark, colour = marks[place % len(marks)], f"C{place % 10}"
            axes.scatter(at[:, 0], at[:, 1], s=12, marker=mark, color=colour, label=label, alpha=0.8)
        figure.legend(loc="outside right upper", frameon=False)
    axes.set(xticks=[], yticks=[], title=TITLES[kind])
    return figure
