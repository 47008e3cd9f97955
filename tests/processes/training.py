"""Trainings of several real processes (gloo), for tests: one group of them goes through many cases."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from dinodiet.config.settings import settings_of
from dinodiet.run.parts import Parts, build_parts
from dinodiet.run.train import begin, train
from dinodiet.training.shards import whole_method
from dinodiet.types import Clock
from tests.running import CHOICES, TINY, composed

Cases = Mapping[str, Sequence[str]]  # words of a command line by a name


class Enough(Exception):  # noqa: N818
    """Ends a training after a step."""


def trained(parts: Parts, steps: int) -> list[float]:
    """Train so many steps in the processes that there are; return the losses."""
    losses = []

    def on_step(clock: Clock, logs: dict[str, Tensor]) -> None:
        losses.append(logs["loss"].item())
        if len(losses) == steps:
            raise Enough

    begin(parts)
    with contextlib.suppress(Enough):
        train(parts, on_step)
    return losses


def train_tiny(words: Sequence[str], folder: Path, steps: int) -> dict[str, Any]:
    """Return the losses, the state after them and the diagnostics of a tiny run; or why it failed."""
    try:
        own = any(word.startswith("model=") for word in words)
        base = [word for word in TINY if not (own and "model" in word)]
        parts = build_parts(settings_of(composed(folder, *words, base=base), CHOICES))
        losses = trained(parts, steps)
        return {"losses": losses, "state": dict(whole_method(parts.method)), "diagnostics": parts.method.diagnostics()}
    except Exception:
        return {"error": traceback.format_exc()}


def each_case(cases: Cases, folder: Path, steps: int) -> dict[str, dict[str, Any]]:
    """Train every case in the processes that there are."""
    return {name: train_tiny(words, folder, steps) for name, words in cases.items()}


def same_scores(found: Mapping[str, float], expected: Mapping[str, float]) -> None:
    """Hold scores against those of one process: to 1e-5, but AUROC, in which rounding may swap two images, to 1e-4."""
    assert found.keys() == expected.keys()
    far = {name: abs(found[name] - value) for name, value in expected.items()}
    assert {name: gap for name, gap in far.items() if gap > (1e-4 if name.endswith("auroc") else 1e-5)} == {}
