"""The training of a run: from its settings, or a checkpoint, to the last step, in as many processes as there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor

from dinodiet.config.settings import Settings
from dinodiet.errors import MachineLimit
from dinodiet.processes.gathering import rank
from dinodiet.processes.group import first_says, wait_for_all
from dinodiet.run.backbone import rebuilding
from dinodiet.run.monitor import Pace
from dinodiet.run.parts import Parts, build_parts, trained_images
from dinodiet.run.scoring import missing_scores
from dinodiet.run.weights import stored_in
from dinodiet.store.rundir import RunDir
from dinodiet.training.loop import fit
from dinodiet.types import Batch, Clock


def continued_parts(settings: Settings, run_dir: RunDir, content: Mapping[str, Any] | None) -> Parts:
    """Build the parts of a run; of a checkpoint where all initial scores are there, which alone need other weights."""
    if content is None or not (stored := stored_in(content, run_dir.checkpoint, content["encoder"])).rebuilds:
        return build_parts(settings)
    whole = rebuilding(settings, stored)
    return build_parts(whole, None if missing_scores(settings, run_dir, "initial") else stored)


def _check_alike(step: int) -> None:
    """Refuse to go on from another step than the first process: it read another checkpoint.

    Raises:
        MachineLimit: it did.
    """
    first = first_says(step)
    if first != step:
        raise MachineLimit(f"checkpoint: process {rank()} read that of step {step}, the first one that of step {first}")


def begin(parts: Parts, content: Mapping[str, Any] | None = None) -> None:
    """Prepare a training, and restore what a checkpoint holds; all processes call it.

    What is prepared depends on frozen weights alone, which are there before.

    Raises:
        MachineLimit: this process read another checkpoint than the first one.
    """
    state = parts.state
    clock = state.clock if content is None else state.clock.at(content["step"])
    _check_alike(clock.step)
    parts.method.prepare(trained_images(parts.data, parts.method), clock, parts.runtime)
    wait_for_all()  # until what the others prepare is there
    parts.strategy.begin()
    if content is not None:
        state.restore(dict(content))


def train(
    parts: Parts,
    on_step: Callable[[Clock, dict[str, Tensor]], None],
    on_gradients: Callable[[Clock, Batch], None] = lambda clock, batch: None,
    *,
    clock: Clock | None = None,
    batches: Iterator[Batch] | None = None,
) -> None:
    """Train from where the state is, or from a `clock`, with the batches from there on, or those that are given.

    `begin` comes before it, once.

    Raises:
        NonFiniteLossError: see `dinodiet.training.loop.fit`.
    """
    state = parts.state
    clock = clock or state.clock
    fit(
        state.method,
        parts.loader.batches(clock.step) if batches is None else batches,
        state.optimizer,
        state.scaler,
        parts.optimisation,
        clock,
        parts.runtime.world,
        on_step=on_step,
        on_gradients=on_gradients,
        strategy=parts.strategy,
    )


def pace_of(settings: Settings, parts: Parts) -> Pace:
    """Return how often a run logs, validates, keeps weights and checkpoints."""
    return Pace(
        log_every=settings.log_every,
        checkpoint_seconds=60 * settings.checkpoint_minutes,
        validate_every=_steps(settings.evaluation.every_epochs, parts),
        keep_every=_steps(settings.keep_every_epochs, parts),
    )


def _steps(epochs: float | None, parts: Parts) -> int | None:
    return None if epochs is None else max(round(epochs * parts.state.clock.steps_per_epoch), 1)
