"""One run: build everything, score, train, score, write the results."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from types import FrameType
from typing import Any

from filelock import FileLock, Timeout
from torch import Tensor

from dinodiet.config.identity import settings_hash, training_identity, wanted_scores
from dinodiet.config.parent import parent_of
from dinodiet.config.settings import Settings, write_settings
from dinodiet.config.teacher import teacher_of
from dinodiet.data.held_out import held_out_splits
from dinodiet.data.record import dataset_record
from dinodiet.errors import MachineLimit, UserError
from dinodiet.io import machine
from dinodiet.io.files import write_json
from dinodiet.io.leaving import signals_to
from dinodiet.io.limits import limits_told
from dinodiet.processes.gathering import alone, rank
from dinodiet.processes.group import first_says
from dinodiet.processes.place import place_in
from dinodiet.run import checkpoint, console, learning
from dinodiet.run.backbone import rebuilding
from dinodiet.run.described import describe
from dinodiet.run.embed import embed_images
from dinodiet.run.evaluate import evaluate, score_what_is_missing
from dinodiet.run.export import export
from dinodiet.run.finished import finished, run_dir_of
from dinodiet.run.follower import Follower
from dinodiet.run.landscape.landscape import landscape
from dinodiet.run.monitor import Monitor, Pace
from dinodiet.run.parts import Parts, build_parts, trained_images
from dinodiet.run.recording import Recorder
from dinodiet.run.sanity import sanity
from dinodiet.run.scoring import Scoring, metrics_of, missing_scores, on_validation, towers_of
from dinodiet.run.together import in_group
from dinodiet.run.tracked_budgets import write_budget_table
from dinodiet.run.trackers import UNTRACKED, final_scores, show_artefacts
from dinodiet.run.weights import places_of, rebuilds_of, stored_in, write_weights, write_whole
from dinodiet.store.rundir import RunDir
from dinodiet.store.scores import lacks, read_results, write_results
from dinodiet.store.status import Preempted, Status, read_status, slurm_job
from dinodiet.training.loop import fit
from dinodiet.training.shards import whole_method
from dinodiet.training.strategy import strategy_of
from dinodiet.types import Batch, Clock

REQUEUE_SECONDS = 300.0
# Modes that leave no run behind.
ALONE: dict[str, Callable[[Settings], dict[str, Any]]] = {
    "sanity": sanity,
    "evaluate": evaluate,
    "export": export,
    "embed": embed_images,
    "landscape": landscape,
}


@limits_told()
def run(settings: Settings) -> dict[str, Any]:
    """Do the run that the settings describe, or what is missing of it; return its results.

    A finished run returns its results at once, or scores what they lack; an interrupted one goes on from its
    checkpoint.

    Raises:
        UserError: a mistake in the settings, the data or the weights.
        MachineLimit: the machine cannot give something, such as room on a disk; the same command continues.
        Preempted: a signal asked the process to leave; a checkpoint is written.
        NonFiniteLossError: the training diverged.
    """
    if settings.mode in ALONE:
        if (place := place_in(os.environ)) is not None and place.rank:  # the first process does it
            return {}
        with leaving_on_signals():
            return ALONE[settings.mode](settings)
    results: dict[str, Any] = in_group(_do_or_follow, settings, run_dir_of(settings).path)
    return results


def _do_or_follow(settings: Settings) -> dict[str, Any]:
    """Do the run, as its first process; as another one, train with it."""
    if rank():
        with leaving_on_signals(), limits_told():
            _follow(settings)
        return {}
    results = finished(settings)
    if results is not None:
        first_says(False)
        return results
    run_dir, hashed = run_dir_of(settings), settings_hash(settings)
    with exclusive(run_dir), Status(run_dir, hashed) as status, leaving_on_signals(), limits_told():
        results = _do(settings, run_dir, status)
    print(console.closing(results, run_dir.path), flush=True)
    console.warn(learning.worsens(results))
    return results


def _do(settings: Settings, run_dir: RunDir, status: Status) -> dict[str, Any]:
    results = read_results(run_dir)  # another process may have been first
    first_says(results is None)
    if results is None:
        return _train(settings, run_dir, status)
    if lacks(results, wanted_scores(settings), validation=settings.evaluation.validation):
        status.update(phase="scoring")
        with alone():
            return score_what_is_missing(settings, run_dir)
    return results


def _follow(settings: Settings) -> None:
    """Train with the first process, where there is something to train; write nothing."""
    if not first_says(None):
        return
    run_dir = run_dir_of(settings)
    content = checkpoint.load(run_dir, training_identity(settings))
    parts = _parts(replace(settings, tracker=UNTRACKED), run_dir, content)
    first_says(None)  # the initial scores are there
    if content is not None:
        parts.state.restore(dict(content))
    elif settings.keep_every_epochs is not None:
        whole_method(parts.method)
    _check_alike(parts.state.clock.step)
    parts.method.prepare(trained_images(parts.data, parts.method), parts.state.clock, parts.runtime)
    follower = Follower(parts.state, _pace(settings, parts))
    with follower.watching():
        _fit(parts, follower.on_step)
    whole_method(parts.method)


def _check_alike(step: int) -> None:
    """Refuse to go on from another step than the first process: it read another checkpoint.

    Raises:
        MachineLimit: it did.
    """
    first = first_says(step)
    if first != step:
        raise MachineLimit(f"checkpoint: process {rank()} read that of step {step}, the first one that of step {first}")


def _train(settings: Settings, run_dir: RunDir, status: Status) -> dict[str, Any]:
    status.update(phase="building")
    content = checkpoint.load(run_dir, training_identity(settings))
    parts = _parts(settings, run_dir, content)
    print(describe(settings, parts, run_dir), flush=True)
    write_settings(settings, run_dir.config)
    if held_out := held_out_splits(parts.data):
        write_json(run_dir.splits, held_out)
    write_json(run_dir.dataset, dataset_record(parts.data, parts.backbone.input))
    parts.tracker.start(run_dir.path.name, settings.plain, run_dir.path)
    exit_code, scores = 1, {}
    try:
        results = _train_and_score(settings, run_dir, status, parts, content)
        exit_code = 0
        scores = final_scores(results)
    finally:
        parts.tracker.finish(scores, exit_code)
    return results


def _parts(settings: Settings, run_dir: RunDir, content: Mapping[str, Any] | None) -> Parts:
    """Build the parts of a run; of a checkpoint where all initial scores are there, which alone need other weights."""
    if content is None or not (stored := stored_in(content, run_dir.checkpoint, content["encoder"])).rebuilds:
        return build_parts(settings)
    whole = rebuilding(settings, stored)
    return build_parts(whole, None if missing_scores(settings, run_dir, "initial") else stored)


def _train_and_score(
    settings: Settings, run_dir: RunDir, status: Status, parts: Parts, content: Mapping[str, Any] | None
) -> dict[str, Any]:
    method, state, scoring = parts.method, parts.state, Scoring(settings, run_dir, parts.scorer)
    status.update(phase="initial evaluation")
    with alone():
        for tower, encoder in towers_of(settings, method).items():
            scoring.of(tower).ensure("initial", encoder, shared=True)
    first_says(True)
    recorder = Recorder(parts.records, run_dir, parts.tracker)
    monitor = _monitor(settings, run_dir, status, parts, recorder)
    if content is not None:
        state.restore(dict(content))
        monitor.restore(content["monitor"])
        print(f"continuing from step {state.clock.step} of {state.clock.total_steps}", flush=True)
    elif settings.keep_every_epochs is not None:
        write_whole(run_dir.kept(0), method)
    begun = time.monotonic()
    _check_alike(state.clock.step)
    status.update(phase="preparing", step=state.clock.step)
    method.prepare(trained_images(parts.data, method), state.clock, parts.runtime)
    prepare_seconds = time.monotonic() - begun
    run_dir.keep_metrics_until(state.clock.step)
    recorder.begin(state.clock, None if content is None else content.get("records", {}))
    with monitor.watching(state.clock):
        _fit(parts, recorder.before(monitor.on_step), recorder.on_gradients)
    status.update(phase="final evaluation", step=state.clock.total_steps)
    with alone():
        _score_finally(scoring, settings, parts)
    write_budget_table(run_dir)
    show_artefacts(parts.tracker, run_dir.artefacts)
    write_weights(run_dir, method, settings.model, parts.backbone)
    cost = {**_cost(parts, monitor.train_seconds), "prepare_seconds": prepare_seconds}
    epochs = [row for row in run_dir.read_metrics() if any(key.startswith("val/") for key in row)]
    what: dict[str, Any] = {"run_id": run_dir.path.name, "choices": settings.choices, "seed": settings.seed}
    if (parent := parent_of(settings.model)) is not None:
        what["parent"] = parent
    if (taught_by := parent_of(teacher_of(settings.method) or {})) is not None:
        what["teacher"] = taught_by
    if parts.starts:
        what["starts"] = parts.starts
    results = write_results(run_dir, {**what, "epochs": epochs, **cost, "config": settings.plain})
    checkpoint.drop(run_dir)
    return results


def _score_finally(scoring: Scoring, settings: Settings, parts: Parts) -> None:
    if parts.method.trains:
        for tower, encoder in towers_of(settings, parts.method).items():
            scoring.of(tower).ensure("final", encoder)
    else:
        scoring.repeat("final", of="initial")
    scoring.ensure_classifier("final", parts.method, parts.data)


def _validated(settings: Settings, parts: Parts) -> dict[str, float]:
    with alone():
        return metrics_of(on_validation(settings, parts.scorer, parts.method, parts.data))


def _fit(
    parts: Parts,
    on_step: Callable[[Clock, dict[str, Tensor]], None],
    on_gradients: Callable[[Clock, Batch], None] = lambda clock, batch: None,
) -> None:
    """Train from where the state is, in as many processes as there are."""
    state = parts.state
    fit(
        state.method,
        parts.loader.batches(state.clock.step),
        state.optimizer,
        state.scaler,
        parts.optimisation,
        state.clock,
        parts.runtime.world,
        on_step=on_step,
        on_gradients=on_gradients,
        strategy=strategy_of(state.method, accumulate=parts.optimisation.accumulate),
    )


def _pace(settings: Settings, parts: Parts) -> Pace:
    return Pace(
        log_every=settings.log_every,
        checkpoint_seconds=60 * settings.checkpoint_minutes,
        validate_every=_steps(settings.evaluation.every_epochs, parts),
        keep_every=_steps(settings.keep_every_epochs, parts),
    )


def _monitor(settings: Settings, run_dir: RunDir, status: Status, parts: Parts, recorder: Recorder) -> Monitor:
    identity = training_identity(settings)

    def save(clock_step: int, seen: dict[str, Any]) -> None:
        parts.state.clock = parts.state.clock.at(clock_step)
        method = parts.method
        towers = places_of(method)
        content = {
            "identity": identity,
            "model": settings.model,
            **towers,
            "monitor": seen,
            "records": recorder.flush(),
        }
        content |= {"input": asdict(parts.backbone.input), **rebuilds_of(parts.backbone)}
        checkpoint.save(run_dir, {**content, **parts.state.content()})

    return Monitor(
        run_dir,
        parts.state,
        parts.tracker,
        status,
        _pace(settings, parts),
        batch_size=parts.loader.batch_size,
        validate=lambda: _validated(settings, parts),
        save=save,
        keep=lambda step: write_whole(run_dir.kept(step), parts.method),
    )


def _steps(epochs: float | None, parts: Parts) -> int | None:
    return None if epochs is None else max(round(epochs * parts.state.clock.steps_per_epoch), 1)


class BusyError(UserError):
    """Another process works on the run."""


@contextlib.contextmanager
def exclusive(run_dir: RunDir) -> Iterator[None]:
    """Hold the run directory; two processes never work on one run.

    A requeued SLURM job waits for the process of its earlier start to end, which may outlive its node's connection.

    Raises:
        BusyError: another process holds it.
        OSError: it cannot be made or locked.
    """
    run_dir.path.mkdir(parents=True, exist_ok=True)
    owner = read_status(run_dir) or {}
    requeued = slurm_job() is not None and owner.get("slurm_job") == slurm_job()
    lock = FileLock(run_dir.lock, timeout=REQUEUE_SECONDS if requeued else 0)
    try:
        lock.acquire()
    except NotImplementedError as error:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK), str(run_dir.lock)) from error
    except Timeout as error:
        owner = read_status(run_dir) or {}
        where = f"process {owner.get('pid', '?')} on {owner.get('host', '?')}"
        raise BusyError(f"{run_dir.path.name}: {where} is working on this run; wait for it or stop it first") from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def leaving_on_signals() -> Iterator[None]:
    """Leave at once on a signal, where there is nothing to save: while parts are built and embeddings computed.

    Another one does not disturb the leaving, except Ctrl-C.
    """
    left: list[int] = []

    def leave(number: int, frame: FrameType | None) -> None:
        if left and number != signal.SIGINT:
            return
        left.append(number)
        raise Preempted(signal.Signals(number).name)

    with signals_to(leave):
        try:
            yield
        except Exception as error:
            if not left:
                raise
            # A library that was broken off cleans up what is half done, and that may fail.
            raise Preempted(signal.Signals(left[0]).name) from error


def _cost(parts: Parts, seconds: float) -> dict[str, Any]:
    steps, parameters = parts.state.clock.total_steps, list(parts.method.towers()[0].parameters())
    return {
        "steps": steps,
        "train_seconds": seconds,
        "images_per_second": steps * parts.loader.batch_size / seconds if seconds else None,
        "parameters": sum(parameter.numel() for parameter in parameters),
        "trainable_parameters": sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        "embed_dim": parts.backbone.embed_dim,
        "peak_memory_mb": machine.peak_memory_mb(parts.runtime.device),
        **machine.facts(parts.runtime.device),
    }
