from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import torch
from torch import Tensor, nn

from dinodiet.data.images import TensorImages
from dinodiet.errors import NotApplicable, UserError
from dinodiet.evals.geometry import Geometry
from dinodiet.evals.kmeans import KMeans
from dinodiet.evals.knn import KNN
from dinodiet.evals.linear import Linear
from dinodiet.evals.scorer import Scorer
from dinodiet.types import Data, DataSpec, EncoderSplits, Evaluator, InputSpec, Runtime, Score, Splits
from tests.backbones.toy import Toy

SPEC = InputSpec(size=8, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


class Encoder(Toy):
    """Projects pixels, and counts the images it has seen."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(6, SPEC.size)
        weight = torch.randn(6, 3 * 8 * 8, generator=torch.Generator().manual_seed(seed))
        self.weight, self.seen = nn.Parameter(weight), 0

    def forward(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        return images.flatten(1) @ self.weight.T


@dataclass(frozen=True)
class Elsewhere:
    """An evaluator whose code is not this package's, and whose score is better when smaller."""

    needs: ClassVar[Literal["embeddings"]] = "embeddings"
    least: int = 0
    calls: list[int] = field(default_factory=list)

    def applies(self, spec: DataSpec, num_train: int) -> None:
        if self.least > num_train:
            raise UserError(f"least: {self.least}; there are {num_train} images")

    def __call__(self, splits: Splits) -> dict[str, Score]:
        self.calls.append(len(splits.test))
        if len(splits.test) < self.least:
            raise NotApplicable("too few images")
        return {"distance": Score(float(splits.test.features.std()), better="lower")}


@dataclass(frozen=True)
class Drawing:
    """An evaluator that sees the encoder and writes a file."""

    needs: ClassVar[Literal["encoder"]] = "encoder"

    def applies(self, spec: DataSpec, num_train: int) -> None: ...

    def __call__(self, splits: EncoderSplits) -> dict[str, Score]:
        assert isinstance(splits.encoder, Encoder)
        if splits.folder is not None:
            (splits.folder / "figure.txt").write_text(f"{len(splits.test_images)}")
        has_val = splits.val_images is not None
        return {"images": Score(len(splits.train_images)), "has_val": Score(has_val, kind="setting")}


def data(*, labelled: bool = True, multilabel: bool = False) -> Data:
    generator = torch.Generator().manual_seed(0)

    def split(count: int) -> TensorImages:
        pixels = torch.randint(256, (count, 3, 8, 8), generator=generator, dtype=torch.uint8)
        return TensorImages(pixels, torch.arange(count) % 3 if labelled else None)

    train = split(30)
    spec = DataSpec("images", 30, 3 if labelled else 0, multilabel=multilabel)
    return Data(spec, train, train, split(12), split(9))


def scorer(folder: Path | None = None, **changes: Any) -> Scorer:
    evaluators: dict[str, Evaluator] = {"knn": KNN(k=3), "kmeans": KMeans(n_init=2)}
    runtime = Runtime(batch_size=16, cache=folder)
    settings: dict[str, Any] = {
        "evaluators": evaluators,
        "data": data(),
        "input": SPEC,
        "runtime": runtime,
        "validation": True,
    }
    return Scorer(**settings | changes)


def test_every_evaluator_scores_test_and_val_with_one_embedding_of_each() -> None:
    encoder = Encoder()
    found = scorer()(encoder)
    assert encoder.seen == 30 + 12 + 9
    assert set(found) == {"knn", "kmeans"}
    assert found["knn"].val is not None and found["knn"].test.keys() == found["knn"].val.keys() > {"accuracy", "k"}
    assert found["knn"].test["k"] == Score(3.0, kind="setting")
    assert scorer().validate(Encoder()) == {name: entry.val for name, entry in found.items()}
    assert scorer(validation=False)(Encoder())["knn"] == replace(found["knn"], val=None)


def test_what_measures_train_alone_is_computed_once_for_test_and_val(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, measure = [], Geometry.__call__

    def counted(self: Geometry, splits: Splits) -> dict[str, Score]:
        calls.append(self)
        return measure(self, splits)

    monkeypatch.setattr(Geometry, "__call__", counted)
    once = scorer(evaluators={"geometry": Geometry(first_rank=1)})
    found = once(Encoder())["geometry"]
    assert found.val == found.test and "rankme" in found.test and len(calls) == 1
    assert scorer(evaluators={"geometry": Geometry()}, validation=False)(Encoder())["geometry"].val is None
    assert once.validate(Encoder())["geometry"] == found.test  # it is followed during the training


def test_only_the_named_are_called_and_only_what_they_read_is_embedded() -> None:
    encoder = Encoder()
    assert set(scorer(validation=False)(encoder, only=["kmeans"])) == {"kmeans"}
    assert encoder.seen == 9


def test_scores_of_a_frozen_encoder_are_computed_once(tmp_path: Path) -> None:
    expected = scorer()(Encoder())
    assert scorer(tmp_path)(Encoder(), cached=True) == expected
    again = Encoder()
    assert scorer(tmp_path)(again, cached=True) == expected
    assert again.seen == 0
    assert scorer(tmp_path)(Encoder(1), cached=True) != expected


def test_without_being_asked_nothing_is_kept(tmp_path: Path) -> None:
    scorer(tmp_path)(Encoder())
    assert not list(tmp_path.iterdir())


def test_an_evaluator_more_costs_its_own_scores_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer(tmp_path, evaluators={"knn": KNN(k=3), "linear": Linear(C=1.0)})(Encoder(), cached=True)
    monkeypatch.setattr(KNN, "__call__", lambda _, splits: pytest.fail("was computed again"))
    again = Encoder()
    assert scorer(tmp_path)(again, cached=True)["knn"].test["accuracy"].value >= 0
    assert again.seen == 0  # its embeddings were kept as well


def test_an_evaluator_from_elsewhere_is_always_computed(tmp_path: Path) -> None:
    own = Elsewhere()
    for _ in range(2):
        found = scorer(tmp_path, evaluators={"own": own})(Encoder(), cached=True)
        assert found["own"].test["distance"].better == "lower"
    assert own.calls == [9, 12, 9, 12]


def test_what_makes_no_sense_is_left_out_with_the_reason(tmp_path: Path) -> None:
    found = scorer(evaluators={"own": Elsewhere(least=10)})(Encoder())["own"]
    assert (found.test, found.skipped) == ({}, "too few images")
    chest = data(multilabel=True)
    refused = scorer(data=chest, evaluators={"kmeans": KMeans()})
    found = refused(Encoder())["kmeans"]
    assert found.skipped is not None and "several labels" in found.skipped
    assert refused.validate(Encoder()) == {}
    assert refused(Encoder(), only=["knn"]) == {}


def test_data_without_labels_is_scored_by_those_that_need_none() -> None:
    evaluators = {"knn": KNN(k=3), "kmeans": KMeans(), "linear": Linear(), "own": Elsewhere()}
    found = scorer(data=data(labelled=False), evaluators=evaluators)(Encoder())
    assert found["own"].test["distance"].value > 0
    for name in ("knn", "kmeans", "linear"):
        assert found[name].test == {} and "labels" in str(found[name].skipped)


def test_one_that_needs_the_encoder_is_given_images_and_a_folder(tmp_path: Path) -> None:
    encoder = Encoder()
    found = scorer(tmp_path, evaluators={"drawing": Drawing()})(encoder, cached=True, folder=tmp_path / "run")[
        "drawing"
    ]
    assert found.test == {"images": Score(30), "has_val": Score(1, kind="setting")}
    assert found.val == {"images": Score(30), "has_val": Score(0, kind="setting")}
    assert found.artefacts == ["drawing/test/figure.txt", "drawing/val/figure.txt"]
    assert [(tmp_path / "run" / name).read_text() for name in found.artefacts] == ["9", "12"]
    assert encoder.seen == 0
    assert scorer(evaluators={"drawing": Drawing()})(encoder)["drawing"].artefacts == []


def test_mistakes_are_told_under_the_evaluators_own_name() -> None:
    for wrong, words in (
        (KNN(k=50), r"^eval\.mine\.k: 50"),
        (Elsewhere(least=31), r"^eval\.mine\.least: 31"),
        (object(), r"^eval\.mine: object lacks needs"),
        (replace_needs("tokens"), r"^eval\.mine: needs 'tokens'"),
    ):
        with pytest.raises(UserError, match=words):
            scorer(evaluators={"mine": wrong})


def replace_needs(needs: str) -> Any:
    return type("Other", (Elsewhere,), {"needs": needs})()
