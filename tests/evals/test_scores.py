"""What is kept of a frozen encoder's scores, and when it is computed again."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dinodiet.data.images import TensorImages
from dinodiet.errors import NotApplicable
from dinodiet.evals import score_cache
from dinodiet.evals.kmeans import KMeans
from dinodiet.evals.knn import KNN
from dinodiet.evals.score_cache import ScoreCache
from dinodiet.evals.scores import Scorer
from dinodiet.types import Data, DataSpec, Embeddings, Evaluator, InputSpec

SPEC = InputSpec(size=8, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


class Encoder(nn.Module):
    """Projects pixels, and counts the batches it has seen."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        weight = torch.randn(6, 3 * 8 * 8, generator=torch.Generator().manual_seed(seed))
        self.weight, self.batches = nn.Parameter(weight), 0

    def forward(self, images: Tensor) -> Tensor:
        self.batches += 1
        return images.flatten(1) @ self.weight.T


@dataclass(frozen=True)
class Elsewhere:
    """An evaluator whose code is not this package's."""

    calls: list[int]

    def __call__(self, train: Embeddings, test: Embeddings, val: Embeddings | None = None) -> dict[str, float]:
        self.calls.append(len(test))
        return {"mean": float(test.features.mean())}


def data(seed: int = 0) -> Data:
    generator = torch.Generator().manual_seed(seed)

    def split(count: int) -> TensorImages:
        pixels = torch.randint(256, (count, 3, 8, 8), generator=generator, dtype=torch.uint8)
        return TensorImages(pixels, torch.arange(count) % 3)

    train = split(30)
    return Data(DataSpec("pictures", 30, 3), train, train, split(12), split(9))


def scorer(folder: Path | None, evaluators: dict[str, Evaluator] | None = None, **changes: Any) -> Scorer:
    settings: dict[str, Any] = {"device": torch.device("cpu"), "batch_size": 16, "precision": "fp32"}
    settings |= {"num_workers": 0, "validation": True, "cache": folder}
    chosen = evaluators or {"knn": KNN(k=3), "kmeans": KMeans(n_init=2)}
    return Scorer(chosen, changes.pop("data", data()), SPEC, **settings | changes)


def test_scores_of_a_frozen_encoder_are_computed_once(tmp_path: Path) -> None:
    expected = scorer(None)(Encoder())
    assert scorer(tmp_path)(Encoder(), cached=True) == expected
    again = Encoder()
    assert scorer(tmp_path)(again, cached=True) == expected
    assert again.batches == 0


def test_without_being_asked_nothing_is_kept(tmp_path: Path) -> None:
    scorer(tmp_path)(Encoder())
    assert not list(tmp_path.iterdir())


def test_an_evaluator_more_costs_its_own_scores_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer(tmp_path, {"knn": KNN(k=3)})(Encoder(), cached=True)
    monkeypatch.delattr(KNN, "__call__")
    again = Encoder()
    found = scorer(tmp_path)(again, cached=True)
    assert found == scorer(tmp_path)(Encoder(), cached=True)
    assert {name.split("/")[0] for name in found.test} == {"knn", "kmeans"}
    assert again.batches == 0  # its embeddings were kept as well


LABELS = data().test.labels
assert LABELS is not None


@pytest.mark.parametrize(
    ("encoder", "changes"),
    [
        (Encoder(1), {}),
        (Encoder(), {"evaluators": {"knn": KNN(k=4)}}),
        (Encoder(), {"evaluators": {"knn": KNN(k=3, temperature=0.1)}}),
        (Encoder(), {"data": data(1)}),
        (Encoder(), {"data": replace(data(), test=TensorImages(data().test.images, LABELS.flip(0)))}),  # type: ignore[attr-defined]
        (Encoder(), {"precision": "bf16"}),
    ],
    ids=["weights", "k", "temperature", "images", "labels", "precision"],
)
def test_what_scores_depend_on_is_part_of_their_key(tmp_path: Path, encoder: Encoder, changes: dict[str, Any]) -> None:
    scorer(tmp_path, {"knn": KNN(k=3)})(Encoder(), cached=True)
    before = set((tmp_path / "scores").glob("*.json"))
    found = scorer(tmp_path, **{"evaluators": {"knn": KNN(k=3)}} | changes)(encoder, cached=True)
    assert found == scorer(None, **{"evaluators": {"knn": KNN(k=3)}} | changes)(encoder)
    assert set((tmp_path / "scores").glob("*.json")) > before


def test_other_code_finds_no_scores_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer(tmp_path, {"knn": KNN(k=3)})(Encoder(), cached=True)
    monkeypatch.setattr(score_cache, "_code", lambda: "another version")
    scorer(tmp_path, {"knn": KNN(k=3)})(Encoder(), cached=True)
    assert len(list((tmp_path / "scores").glob("*.json"))) == 4


def test_an_evaluator_from_elsewhere_is_always_computed(tmp_path: Path) -> None:
    calls: list[int] = []
    for _ in range(2):
        scorer(tmp_path, {"own": Elsewhere(calls)})(Encoder(), cached=True)
    assert calls == [9, 12, 9, 12]


def test_what_makes_no_sense_is_left_out_each_time(tmp_path: Path) -> None:
    class Never(KMeans):
        def __call__(self, train: Embeddings, test: Embeddings, val: Embeddings | None = None) -> dict[str, float]:
            raise NotApplicable("no sense")

    for _ in range(2):
        found = scorer(tmp_path, {"kmeans": Never()})(Encoder(), cached=True)
        assert (found.test, found.skipped) == ({}, {"kmeans": "no sense"})


@pytest.mark.parametrize("damage", ["", "[]", '{"accuracy": 0.'])
def test_a_broken_file_is_replaced(tmp_path: Path, damage: str) -> None:
    cache = ScoreCache(tmp_path)
    assert cache.get("key", lambda: {"accuracy": 0.5, "auroc": math.nan})["accuracy"] == 0.5
    (tmp_path / "key.json").write_text(damage)
    assert cache.get("key", lambda: {"accuracy": 0.7}) == {"accuracy": 0.7}
    assert cache.get("key", dict) == {"accuracy": 0.7}


def test_what_is_undefined_stays_so(tmp_path: Path) -> None:
    cache = ScoreCache(tmp_path)
    cache.get("key", lambda: {"auroc": math.nan})
    assert math.isnan(cache.get("key", dict)["auroc"])


def test_a_folder_that_cannot_be_made_costs_the_cache_and_not_the_result(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    assert ScoreCache(tmp_path / "file" / "scores").get("key", lambda: {"accuracy": 0.5}) == {"accuracy": 0.5}
    assert "not cached" in caplog.text
