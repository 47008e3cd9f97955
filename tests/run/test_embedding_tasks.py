"""Splits that the first process scores are embedded by all: the rows are those of one process, bit for bit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dinodiet.config.settings import Settings, settings_of
from dinodiet.data.images import Subset
from dinodiet.evals.classifier import Logits
from dinodiet.features.embed import embedded
from dinodiet.features.tokens import TokenReader
from dinodiet.processes.gathering import alone, rank, size
from dinodiet.processes.helping import help_first, helped
from dinodiet.processes.rows import Share
from dinodiet.run.embedding_tasks import EmbeddingTask, known_of
from dinodiet.run.parts import Parts, build_parts
from dinodiet.types import Images
from tests.kinds import after_nightly
from tests.processes.started import on_processes
from tests.running import CHOICES, composed

WORDS = (
    "method=supervised",
    "schedule.batch_size=12",
    "eval.batch_size=50",
)  # val: 4 batches, test: 12, the last one not full


def parts_in(folder: Path) -> tuple[Settings, Parts]:
    settings = settings_of(composed(folder, *WORDS), CHOICES)
    return settings, build_parts(settings)


def sets(parts: Parts) -> dict[str, tuple[nn.Module, Images]]:
    """Return networks and images that are embedded, by a name; of the last ones the others know nothing."""
    data, encoder = parts.scorer.data, parts.method.encoder
    return {
        "test": (encoder, data.test),
        "val": (encoder, data.val),
        "tokens": (TokenReader(encoder), data.val),
        "classifier": (Logits(parts.method), data.test),
        "own": (encoder, Subset(data.test, torch.arange(0, 300))),
    }


def rows_of(parts: Parts, module: nn.Module, images: Images, take: int | None = None) -> Tensor:
    """Return what a network makes of images; of the first batches alone, where `take` says so."""
    scorer, rows = parts.scorer, list[Tensor]()
    with contextlib.closing(embedded(module, images, scorer.input, scorer.runtime)) as batches:
        for batch in batches:
            rows.append(batch)
            if len(rows) == take:
                break
    return torch.cat(rows)


def all_embed(folder: Path) -> dict[str, Tensor]:
    settings, parts = parts_in(folder / str(rank()))
    known, own = known_of(settings, parts), list[int]()

    def pieces(task: EmbeddingTask, share: Share) -> Iterator[Tensor]:
        own.append(0)
        for piece in known.pieces(task, share):
            own[-1] += 1
            yield piece

    if rank():
        help_first(pieces)
        return {"pieces": torch.tensor(own)}
    with helped(known.task_of):
        found = {name: rows_of(parts, *one) for name, one in sets(parts).items()}
        found["few"] = rows_of(parts, *sets(parts)["test"], take=2)
        found["after"] = rows_of(parts, *sets(parts)["val"])
    return found


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("processes", after_nightly(1, [3, 2]))
def test_all_embed_and_the_rows_are_those_of_one_process(processes: int, tmp_path: Path) -> None:
    found, *others = on_processes(processes, tmp_path / "meeting", all_embed, tmp_path)
    _, parts = parts_in(tmp_path / "alone")
    for name, (module, images) in sets(parts).items():
        assert torch.equal(found[name], rows_of(parts, module, images)), name
    assert torch.equal(found["few"], found["test"][:100])
    assert torch.equal(found["after"], found["val"])
    for place, one in enumerate(others, start=1):  # all but the images that are no split
        batches = [12, 4, 4, 12, 12, 4]
        assert one["pieces"].tolist() == [len(range(place, count, processes)) for count in batches]


def test_one_process_asks_nobody_and_others_know_splits_and_networks_of_a_run(tmp_path: Path) -> None:
    settings, parts = parts_in(tmp_path)
    known, scorer = known_of(settings, parts), parts.scorer
    modules, named = sets(parts), dict[str, EmbeddingTask | None]()
    for name, (module, images) in modules.items():
        named[name] = known.task_of(module, images, scorer.input, scorer.runtime)
    assert named.pop("own") is None
    assert [(task.module, task.reader, task.images) for task in named.values() if task is not None] == [
        ("evaluated", None, "trained/test"),
        ("evaluated", None, "trained/val"),
        ("evaluated", "tokens", "trained/val"),
        ("method", "classifier", "trained/test"),
    ]
    assert known.task_of(nn.Linear(2, 2), scorer.data.test, scorer.input, scorer.runtime) is None
    with helped(known.task_of), alone():
        assert size() == 1
        assert len(rows_of(parts, *modules["val"])) == len(scorer.data.val)


def test_pieces_are_every_other_batch_of_the_size_that_was_asked_for(tmp_path: Path) -> None:
    settings, parts = parts_in(tmp_path)
    known, scorer = known_of(settings, parts), parts.scorer
    runtime = replace(scorer.runtime, batch_size=30)
    whole = rows_of(parts, parts.method.encoder, scorer.data.val)
    task = known.task_of(parts.method.encoder, scorer.data.val, scorer.input, runtime)
    assert task is not None
    first, second = (list(known.pieces(task, Share(place, 2))) for place in range(2))
    assert list(map(len, first)) == [30, 30, 30, 20]
    assert list(map(len, second)) == [30, 30, 30]
    torch.testing.assert_close(second[0], whole[30:60])
    torch.testing.assert_close(first[-1], whole[-20:])
