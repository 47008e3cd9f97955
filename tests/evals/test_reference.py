from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from dinodiet.data.images import TensorImages
from dinodiet.errors import NotApplicable, UserError
from dinodiet.evals.knn import KNN
from dinodiet.evals.measures.reference import chance, median_squared_distance, mmd2, overlap
from dinodiet.evals.measures.rows import chosen, on_sphere
from dinodiet.evals.reference import Reference
from dinodiet.evals.scorer import Scored, Scorer
from dinodiet.types import Data, DataSpec, Runtime
from tests.evals.test_scorer import SPEC, Encoder


def pixels(count: int, seed: int, dark: bool = False) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 3, 8, 8), generator=draw, dtype=torch.uint8) // (9 if dark else 1)


def data(images: Tensor) -> Data:
    none = TensorImages(images[:0])
    return Data(DataSpec("images", len(images), 0), TensorImages(images), TensorImages(images), none, none)


TARGETS, OTHERS = pixels(60, 0), pixels(50, 1, dark=True)


def scored(made: Reference, encoder: Encoder, cache: Path | None = None) -> Scored:
    scorer = Scorer({"mine": made}, data(TARGETS), SPEC, Runtime(cache=cache), validation=True)
    return scorer(encoder, cached=cache is not None)["mine"]


def test_both_sets_are_measured_on_the_sphere() -> None:
    encoder, made = Encoder(), Reference(dataset=data(OTHERS), rows=40, k=10, pairs=100, seed=3)
    found = {name: score.value for name, score in scored(made, encoder).test.items()}
    first, second = (
        on_sphere(encoder(images[chosen(len(images), 40, 3)].float() / 255).detach().double())
        for images in (TARGETS, OTHERS)
    )
    median, _ = median_squared_distance(torch.cat([first, second]), 100, 3)
    assert found["gamma"] == pytest.approx(1 / median, rel=1e-4)
    assert found["mmd2"] == pytest.approx(mmd2(first, second, 1 / median), rel=1e-3)
    assert found["overlap"] == pytest.approx(overlap(first, second, 10), abs=0.02)
    assert found["chance"] == pytest.approx(chance(40, 40))
    assert [found[name] for name in ("pairs", "k", "rows", "reference_rows")] == [100, 10, 40, 40]


def test_each_encoder_embeds_the_reference_images_anew_and_once() -> None:
    made, before, after = Reference(dataset=data(OTHERS), k=5), Encoder(0), Encoder(1)
    first, second = scored(made, before), scored(made, after)
    assert first.test == first.val and first.test != second.test
    assert before.seen == after.seen == 60 + 50


def test_of_a_frozen_encoder_they_are_kept(tmp_path: Path) -> None:
    made = Reference(dataset=data(OTHERS), k=5)
    first, again = scored(made, Encoder(), tmp_path), Encoder()
    assert scored(made, again, tmp_path) == first and again.seen == 0


def test_neither_measure_has_a_better_direction() -> None:
    found = scored(Reference(dataset=data(OTHERS), k=5), Encoder()).test
    assert {name: score.better for name, score in found.items() if score.kind == "metric"} == {
        "mmd2": "none",
        "overlap": "none",
    }


def test_without_reference_images_it_is_left_out_with_the_reason() -> None:
    found = scored(Reference(), Encoder())
    assert found.test == {} and "name a set: dataset@eval.reference.dataset=NAME" in str(found.skipped)
    with pytest.raises(NotApplicable, match="60 and 1"):
        Reference(dataset=data(OTHERS[:1])).applies(DataSpec("images", 60, 0), 60)
    with pytest.raises(UserError, match=r"^eval\.mine\.k: 110; an image has 109 others"):
        scored(Reference(dataset=data(OTHERS), k=110), Encoder())


def test_images_all_alike_have_no_kernel() -> None:
    alike = torch.full((30, 3, 8, 8), 7, dtype=torch.uint8)
    scorer = Scorer({"mine": Reference(dataset=data(alike), k=5), "knn": KNN()}, data(alike), SPEC, Runtime(),
                    validation=False)  # fmt: skip
    found = scorer(Encoder())["mine"].test
    assert found["mmd2"].value != found["mmd2"].value and "alike" in str(found["mmd2"].note)
    assert found["overlap"].value == pytest.approx(found["chance"].value)
