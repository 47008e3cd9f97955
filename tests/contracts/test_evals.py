"""What every file of conf/eval keeps to: it states its class's defaults, and scores as its protocol says."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dinodiet.config.build import build
from dinodiet.config.precheck import signature_of
from dinodiet.errors import NotApplicable
from dinodiet.evals.scorer import Scored
from dinodiet.evals.splits import GivenSplits
from dinodiet.run.parts import Parts, build_parts
from dinodiet.types import DataSpec, EmbeddingEvaluator, EncoderEvaluator, Score, TrainingEvaluator
from tests.contracts.choices import names, node, settings
from tests.evals.synthetic import blobs, tags
from tests.kinds import kinds_nightly
from tests.places import CONF
from tests.running import CONVOLUTIONS, TINY

EVALS = names("eval")
NEEDED = {"reference": ("dataset@eval.reference.dataset=digits",)}  # words without which one is left out
# What makes an evaluator fit the backbone of a tiny run, of two blocks 24 wide, and quick.
QUICK = {
    "attentive": (
        "eval.attentive.pooling.queries=4",
        "eval.attentive.training.epochs=1",
        "eval.attentive.training.min_steps=5",
    ),
    "linear_last_blocks": ("eval.linear_last_blocks.blocks=2",),
    **{name: (f"eval.{name}.C=[1,100]",) for name in ("linear", "linear_views", "probe")},
    "map": ("eval.map.images=40",),
}
BASES = {"eigencam": CONVOLUTIONS}  # where a tiny transformer will not do


def evaluator(name: str) -> Any:
    return build(node("eval", name)[name], f"eval.{name}")()


def assert_defaults(stated: dict[str, Any]) -> None:
    """Hold a node against the signature of its target, and nodes below it against theirs."""
    signature = signature_of(stated["_target_"])
    assert signature is not None
    for key, value in stated.items():
        if isinstance(value, dict):
            assert_defaults(value)
        elif key != "_target_":
            assert value == signature[0][key].default, key


@pytest.mark.parametrize("name", EVALS)
def test_a_file_states_the_defaults_of_its_class(name: str) -> None:
    text = (CONF / "eval" / f"{name}.yaml").read_text()
    assert text.startswith(f"# @package eval.{name}\n")
    if "\ndefaults: " not in text:  # a preset says how it differs from another file
        assert_defaults(node("eval", name)[name])


def quick(name: str) -> list[str]:
    """Return the overrides that choose an evaluator; one that trains takes a few steps."""
    trains = evaluator(name).needs == "training"
    return [f"eval={name}", *QUICK.get(name, ()), *([f"eval.{name}.steps=2", f"eval.{name}.seeds=2"] if trains else [])]


def parts_for(name: str, folder: Path) -> Parts:
    return build_parts(settings(folder, *quick(name), *NEEDED.get(name, ()), base=BASES.get(name, TINY)))


@pytest.mark.parametrize("name", EVALS)
def test_an_evaluator_is_one_of_the_two_kinds_and_leaves_out_what_it_cannot_score(name: str) -> None:
    made = evaluator(name)
    kind: Any = {
        "embeddings": EmbeddingEvaluator,
        "encoder": EncoderEvaluator,
        "training": TrainingEvaluator,
    }[made.needs]
    assert isinstance(made, kind)
    if name in NEEDED:
        with pytest.raises(NotApplicable, match=NEEDED[name][0].partition("=")[0]):
            made.applies(DataSpec("set", num_images=1000, num_labels=3), 1000)
        return
    made.applies(DataSpec("set", num_images=1000, num_labels=3), 1000)
    if made.needs == "embeddings":
        unlabelled = DataSpec("set", num_images=1000, num_labels=0)
        try:
            made.applies(unlabelled, 1000)
        except NotApplicable as error:
            assert "label" in str(error)


@pytest.mark.parametrize("name", kinds_nightly("eval", EVALS))
def test_an_encoder_is_scored_alike_twice_and_random_numbers_of_others_are_left_alone(
    name: str, tmp_path: Path
) -> None:
    parts = parts_for(name, tmp_path)
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    before = _random_states()

    def scored() -> Scored:
        return parts.scorer(parts.method.encoder)[name]

    found = scored()
    assert _random_states() == before
    assert found.skipped is None and found.val is not None
    assert any(score.kind == "metric" for score in found.test.values())
    assert found.test.keys() == found.val.keys()
    assert all(isinstance(score, Score) and math.isfinite(score.value) for score in found.test.values())
    assert all("/" not in key and "@" not in key and "(" not in key for key in found.test)
    torch.rand(5), np.random.rand(5), random.random()
    assert scored() == found  # nor do scores depend on them


def _random_states() -> list[Any]:
    return [random.getstate(), repr(np.random.get_state()), torch.get_rng_state().tolist()]


def needs_labels(made: Any) -> bool:
    try:
        made.applies(DataSpec("set", num_images=1000, num_labels=0), 1000)
    except NotApplicable:
        return True
    return False


@pytest.mark.parametrize("name", EVALS)
def test_better_embeddings_score_better(name: str) -> None:
    made = evaluator(name)
    if made.needs != "embeddings" or not needs_labels(made):
        pytest.skip("knows no classes, or is not given embeddings")
    for make in (blobs, tags):
        try:
            made.applies(DataSpec("set", num_images=90, num_labels=3, multilabel=make is tags), 90)
        except NotApplicable:
            continue
        good, bad = (
            made(GivenSplits(make(90, noise=noise), make(60, noise=noise, seed=1), make(60, noise=noise, seed=2)))
            for noise in (0.1, 30.0)
        )
        for key, score in good.items():
            if score.kind == "metric" and score.value != bad[key].value:
                assert (score.value > bad[key].value) == (score.better == "higher"), key
        assert any(score.value != bad[key].value for key, score in good.items() if score.kind == "metric")
