"""What is kept of a frozen encoder's scores, and when it is computed again."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dinodiet.data.images import TensorImages
from dinodiet.evals import score_cache
from dinodiet.evals.knn import KNN
from dinodiet.evals.score_cache import ScoreCache, score_key
from dinodiet.types import Score, Splits

IMAGES = torch.zeros(3, 3, 1, 1, dtype=torch.uint8)
LABELS = torch.tensor([0, 1, 2])


def key(evaluator: KNN | None = None, embeddings: str = "a", labels: torch.Tensor | None = LABELS) -> str | None:
    return score_key(evaluator or KNN(k=3), [(embeddings, TensorImages(IMAGES, labels))], num_labels=3)


CHANGES: dict[str, Callable[[], str | None]] = {
    "k": lambda: key(KNN(k=4)),
    "temperature": lambda: key(KNN(k=3, temperature=0.1)),
    "embeddings": lambda: key(embeddings="b"),
    "labels": lambda: key(labels=LABELS.flip(0)),
    "no labels": lambda: key(labels=None),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_scores_depend_on_is_part_of_their_key(change: Callable[[], str | None]) -> None:
    assert key() == key() != change()


def test_other_code_finds_no_scores_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key()
    monkeypatch.setattr(score_cache, "_code", lambda: "another version")
    assert key() != before


def test_an_evaluator_from_elsewhere_has_no_key() -> None:
    class Own(KNN):
        def __call__(self, splits: Splits) -> dict[str, Score]:
            return {}

    assert key(Own()) is None


ENTRY = '{"loss": {"value": %s, "better": %s, "kind": "metric", "interval": %s, "note": null}}'


@pytest.mark.parametrize(
    "damage",
    [
        *("", "[]", '{"loss": {"value": 0.', '{"loss": 0.7}', '{"loss": {"worth": 1}}'),
        *(ENTRY % (value, '"lower"', "null") for value in ('"x"', "true", "[1]", "{}", "1e999")),
        *(ENTRY % ("1", better, "null") for better in ('"x"', "[]", "null")),
        *(ENTRY % ("1", '"lower"', interval) for interval in ("1", "[2, 1]", "[1]")),
    ],
)
def test_a_broken_file_is_replaced(tmp_path: Path, damage: str) -> None:
    cache, scores = (
        ScoreCache(tmp_path),
        {"loss": Score(0.7, "lower", "diagnostic", (0.6, 0.8), "clipped"), "k": Score(3)},
    )
    cache.get("key", dict)
    (tmp_path / "key.json").write_text(damage)
    assert cache.get("key", lambda: scores) == scores
    assert cache.get("key", dict) == scores


def test_what_is_undefined_stays_so(tmp_path: Path) -> None:
    cache = ScoreCache(tmp_path)
    cache.get("key", lambda: {"auroc": Score(math.nan)})
    assert math.isnan(cache.get("key", dict)["auroc"].value)


def test_a_folder_that_cannot_be_made_costs_the_cache_and_not_the_result(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    scores = {"accuracy": Score(0.5)}
    assert ScoreCache(tmp_path / "file" / "scores").get("key", lambda: scores) == scores
    assert "not cached" in caplog.text
