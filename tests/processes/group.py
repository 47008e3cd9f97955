"""Trainings of several real processes (gloo), for tests: one group of them goes through many cases."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from dinodiet.processes.group import Place, joined
from dinodiet.run.parts import Parts, build_parts, trained_images
from dinodiet.training.loop import fit
from dinodiet.training.strategy import strategy_of
from dinodiet.types import Clock
from tests.contracts.choices import settings

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

    state = parts.state
    parts.method.prepare(trained_images(parts.data, parts.method), state.clock, parts.runtime)
    batches = parts.loader.batches(state.clock.step)
    strategy = strategy_of(parts.method, accumulate=parts.optimisation.accumulate)
    with contextlib.suppress(Enough):
        fit(
            parts.method,
            batches,
            state.optimizer,
            state.scaler,
            parts.optimisation,
            state.clock,
            parts.runtime.world,
            on_step=on_step,
            strategy=strategy,
        )
    return losses


def train(words: Sequence[str], folder: Path, steps: int) -> dict[str, Any]:
    """Return the losses, the state after them and the diagnostics of a tiny run; or why it failed."""
    try:
        parts = build_parts(settings(folder, *words))
        losses = trained(parts, steps)
        return {"losses": losses, "state": parts.method.state_dict(), "diagnostics": parts.method.diagnostics()}
    except Exception:
        return {"error": traceback.format_exc()}


def each_case(cases: Cases, folder: Path, steps: int) -> dict[str, dict[str, Any]]:
    """Train every case in the processes that there are."""
    return {name: train(words, folder, steps) for name, words in cases.items()}


def in_group(number: int, work: Callable[..., Any], folder: Path, *arguments: Any) -> list[Any]:
    """Call work in so many processes; return what each returned."""
    spawn(_enter, (number, work, folder, arguments), number)
    return [torch.load(folder / f"{number}_{rank}.pt", weights_only=False) for rank in range(number)]


def _enter(rank: int, number: int, work: Callable[..., Any], folder: Path, arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    with joined(Place(rank, number, rank, f"file://{folder}/meeting{number}")):
        torch.save(work(*arguments), folder / f"{number}_{rank}.pt")
