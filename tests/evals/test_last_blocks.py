from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dinodiet.errors import NotApplicable, UserError
from dinodiet.evals.knn import KNN
from dinodiet.evals.last_blocks import LastBlocks
from dinodiet.evals.linear import Linear
from dinodiet.evals.scorer import Scorer
from dinodiet.evals.splits import Embedder, GivenSplits
from dinodiet.types import Runtime
from tests.backbones.toy import Toy
from tests.evals.tokened import WIDTH, Squares, data

PROBE = LastBlocks(blocks=2, evaluator=Linear(C=1.0, normalize="none"))


def scorer(folder: Path | None = None, evaluator: LastBlocks = PROBE) -> Scorer:
    encoder = Squares()
    runtime = Runtime(batch_size=32, cache=folder)
    return Scorer({"last": evaluator}, data(), encoder.input, runtime, validation=True, backbone=encoder)


def test_the_class_tokens_of_the_last_blocks_are_scored_as_embeddings_are() -> None:
    embedder = Embedder(Squares(), data(), Squares().input, Runtime())
    # The toy's class tokens are its embedding, and twice that.
    means = {name: embedder.embeddings(name) for name in ("train", "val", "test")}
    both = {name: replace(embeddings, features=embeddings.features.repeat(1, 2)) for name, embeddings in means.items()}
    for embeddings in both.values():
        embeddings.features[:, WIDTH:] *= 2
    found = scorer()(Squares())["last"]
    assert found.test == PROBE.evaluator(GivenSplits(both["train"], both["test"], both["val"]))
    assert found.val == PROBE.evaluator(GivenSplits(both["train"], both["val"]))


def test_each_split_is_embedded_once_and_those_of_a_frozen_encoder_are_kept(tmp_path: Path) -> None:
    encoder = Squares()
    expected = scorer(tmp_path)(encoder, cached=True)
    assert encoder.seen == 160 + 60 + 60
    assert scorer(tmp_path)(encoder, cached=True) == expected
    scorer(tmp_path, LastBlocks(blocks=2, evaluator=KNN(k=3)))(encoder, cached=True)
    assert encoder.seen == 160 + 60 + 60
    scorer(tmp_path, LastBlocks(blocks=1, evaluator=KNN(k=3)))(encoder, cached=True)
    assert encoder.seen == 2 * (160 + 60 + 60)
    again = Squares()
    assert scorer()(again) == expected
    assert again.seen == 160 + 60 + 60


def test_what_has_no_class_token_is_left_out_and_too_many_blocks_are_refused() -> None:
    for encoder, words in ((Toy(3, 8), "Toy shows none"), (Squares(class_token=False), "needs a class token")):
        with pytest.raises(NotApplicable, match=words):
            PROBE.suits(encoder)
    with pytest.raises(UserError, match=r"^eval\.last\.blocks: 3; the model has 2$"):
        scorer(evaluator=LastBlocks(blocks=3, evaluator=KNN(k=3)))
