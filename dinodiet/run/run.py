"""One run: build everything, score, train, score, write the results."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from typing import Any

import torch

from dinodiet.config.identity import settings_hash, training_identity, wanted_scores
from dinodiet.config.parent import parent_of
from dinodiet.config.saved import write_settings
from dinodiet.config.settings import Settings
from dinodiet.config.teacher import teacher_of
from dinodiet.data.held_out import held_out_splits
from dinodiet.data.record import dataset_record
from dinodiet.io import machine
from dinodiet.io.files import write_json
from dinodiet.io.limits import limits_told
from dinodiet.processes.gathering import alone, rank
from dinodiet.processes.group import first_says, wait_for_all
from dinodiet.processes.helping import helped
from dinodiet.processes.place import place_in
from dinodiet.run import checkpoint, console, learning
from dinodiet.run.before_after import put_beside
from dinodiet.run.described import describe
from dinodiet.run.devices import devices_of
from dinodiet.run.embed import embed_images
from dinodiet.run.embedding_tasks import known_of
from dinodiet.run.evaluate import evaluate, score_what_is_missing
from dinodiet.run.exclusive import exclusive
from dinodiet.run.export import export
from dinodiet.run.finished import finished, run_dir_of
from dinodiet.run.follower import follow
from dinodiet.run.landscape.landscape import landscape
from dinodiet.run.leaving import leaving_on_signals
from dinodiet.run.lost import others_told
from dinodiet.run.monitor import Monitor
from dinodiet.run.movement import checked, sums
from dinodiet.run.parts import Parts
from dinodiet.run.recording import Recorder
from dinodiet.run.sanity import sanity
from dinodiet.run.scoring import Scoring, metrics_of, on_validation, towers_of
from dinodiet.run.together import in_group
from dinodiet.run.tracked import tracked_config
from dinodiet.run.tracked_budgets import write_budget_table
from dinodiet.run.trackers import final_scores, show_artefacts
from dinodiet.run.train import begin, continued_parts, pace_of, train
from dinodiet.run.training_artefacts import write_training_artefacts
from dinodiet.run.views import show_views
from dinodiet.run.weights import places_of, rebuilds_of, write_weights, write_whole
from dinodiet.store.code import code_record, codes_before
from dinodiet.store.rundir import RunDir
from dinodiet.store.scores import lacks, read_results, write_results
from dinodiet.store.spent import KEY as SPENT
from dinodiet.store.spent import as_content
from dinodiet.store.status import Status
from dinodiet.training.deterministic import deterministic

# Modes that leave no run behind.
ALONE: dict[str, Callable[[Settings], dict[str, Any]]] = {
    "views": show_views,
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
        with leaving_on_signals(), _as_asked(settings):
            return ALONE[settings.mode](settings)
    results: dict[str, Any] = in_group(take_part, settings, run_dir_of(settings).path)
    return results


def take_part(settings: Settings) -> dict[str, Any]:
    """Do the run, as its first process; as another one, train with it.

    Raises:
        OthersLost: another process of the run is gone.
        Exception: as `run`.
    """
    devices = devices_of(settings)
    if rank():
        with leaving_on_signals(), others_told(rank()), limits_told(), _as_asked(settings):
            follow(settings)
        return {}
    results = finished(settings)
    if results is not None:
        first_says(False)
        return results
    run_dir, hashed = run_dir_of(settings), settings_hash(settings)
    recorded = Status(run_dir, hashed, devices)
    with exclusive(run_dir), recorded as status, leaving_on_signals(), others_told(0), limits_told():
        results = _do(settings, run_dir, status)
    print(console.closing(results, run_dir.path), flush=True)
    console.warn(learning.worsens(results))
    return results


def _as_asked(settings: Settings) -> AbstractContextManager[None]:
    """Return what has a GPU give the same numbers every time, where that is asked for. A CPU always does."""
    return deterministic(settings.deterministic and settings.device != "cpu" and torch.cuda.is_available())


def _do(settings: Settings, run_dir: RunDir, status: Status) -> dict[str, Any]:
    results = read_results(run_dir)  # another process may have been first
    first_says(results is None)
    if results is None:
        with _as_asked(settings):
            return _train(settings, run_dir, status)
    if lacks(results, wanted_scores(settings), validation=settings.evaluation.validation):
        status.update(phase="scoring")
        with alone(), _as_asked(settings):
            return score_what_is_missing(settings, run_dir, lambda: as_content(status.spent))
    return results


def _train(settings: Settings, run_dir: RunDir, status: Status) -> dict[str, Any]:
    status.update(phase="building")
    content = checkpoint.load(run_dir, training_identity(settings))
    console.warn(_other_code(content))
    parts = continued_parts(settings, run_dir, content)
    print(describe(settings, parts, run_dir), flush=True)
    write_settings(settings, run_dir.config)
    if held_out := held_out_splits(parts.data):
        write_json(run_dir.splits, held_out)
    write_json(run_dir.dataset, dataset_record(parts.data, parts.backbone.input))
    parts.tracker.start(run_dir.path.name, tracked_config(settings.plain, settings.choices), run_dir.path)
    exit_code, scores = 1, {}
    try:
        results = _train_and_score(settings, run_dir, status, parts, content)
        exit_code = 0
        scores = final_scores(results)
    finally:
        parts.tracker.finish(scores, exit_code)
    return results


def _train_and_score(
    settings: Settings, run_dir: RunDir, status: Status, parts: Parts, content: Mapping[str, Any] | None
) -> dict[str, Any]:
    method, state, scoring = parts.method, parts.state, Scoring(settings, run_dir, parts.scorer)
    status.update(phase="initial evaluation")
    known = known_of(settings, parts)
    with helped(known.task_of):
        for tower, encoder in towers_of(settings, method).items():
            scoring.of(tower).ensure("initial", encoder, shared=True)
    recorder = Recorder(parts.records, run_dir, parts.tracker)
    start = sums(method.towers()[0]) if content is None else content.get("sums")  # older versions keep none
    before = {"code_before": codes} if (codes := codes_before(content)) else {}
    monitor = _monitor(
        settings, run_dir, status, parts, recorder, {"sums": start, "code": code_record()["code"], **before}
    )
    if content is not None:
        monitor.restore(content["monitor"])
        print(f"continuing from step {content['step']} of {state.clock.total_steps}", flush=True)
    elif settings.keep_every_epochs is not None:
        write_whole(run_dir.kept(0), method)
    begun = time.monotonic()
    status.update(phase="preparing", step=0 if content is None else content["step"])
    begin(parts, content)
    prepare_seconds = time.monotonic() - begun
    run_dir.keep_metrics_until(state.clock.step)
    recorder.begin(state.clock, None if content is None else content.get("records", {}))
    with monitor.watching(state.clock):
        train(parts, recorder.before(monitor.on_step), recorder.on_gradients)
    status.update(phase="final evaluation", step=state.clock.total_steps)
    with parts.strategy.whole() as whole, helped(known.task_of):
        moved = checked(start, whole, parts.optimisation.lr, state.clock)
        _score_finally(scoring, settings, replace(parts, method=whole))
    write_budget_table(run_dir)
    write_training_artefacts(run_dir, trained=method.trains, figures=settings.figures)
    put_beside(run_dir.artefacts)
    show_artefacts(parts.tracker, run_dir.artefacts)
    wait_for_all()
    write_weights(run_dir, method, settings.model, parts.backbone)
    cost = {**_cost(parts, monitor.train_seconds), **before, "prepare_seconds": prepare_seconds, **moved}
    epochs = [row for row in run_dir.read_metrics() if any(key.startswith("val/") for key in row)]
    what: dict[str, Any] = {"run_id": run_dir.path.name, "choices": settings.choices, "seed": settings.seed}
    if (parent := parent_of(settings.model)) is not None:
        what["parent"] = parent
    if (taught_by := parent_of(teacher_of(settings.method) or {})) is not None:
        what["teacher"] = taught_by
    if parts.starts:
        what["starts"] = parts.starts
    cost[SPENT] = as_content(status.spent)
    results = write_results(run_dir, {**what, "epochs": epochs, **cost, "config": settings.plain})
    checkpoint.drop(run_dir)
    return results


def _other_code(content: Mapping[str, Any] | None) -> list[str]:
    """Return the warning that a checkpoint is of other code than this, if it is."""
    if not (codes := codes_before(content)):
        return []
    return [f"checkpoint: written by other code ({', '.join(codes)}; this is {code_record()['code']}); results say so"]


def _score_finally(scoring: Scoring, settings: Settings, parts: Parts) -> None:
    if parts.method.trains:
        for tower, encoder in towers_of(settings, parts.method).items():
            scoring.of(tower).ensure("final", encoder)
    else:
        scoring.repeat("final", of="initial")
    scoring.ensure_classifier("final", parts.method, parts.data)


def _validated(settings: Settings, parts: Parts) -> dict[str, float]:
    with parts.strategy.whole() as method, helped(known_of(settings, parts).task_of):
        return metrics_of(on_validation(settings, parts.scorer, method, parts.data))


def _monitor(
    settings: Settings, run_dir: RunDir, status: Status, parts: Parts, recorder: Recorder, begun: Mapping[str, Any]
) -> Monitor:
    """Return what hears of every step; `begun` is what checkpoints keep of where the training and its code are from."""
    identity = training_identity(settings)

    def save(clock_step: int, seen: dict[str, Any]) -> None:
        parts.state.clock = parts.state.clock.at(clock_step)
        method = parts.method
        towers = places_of(method)
        content = {
            "identity": identity,
            "model": settings.model,
            **begun,
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
        pace_of(settings, parts),
        batch_size=parts.loader.batch_size,
        validate=lambda: _validated(settings, parts),
        save=save,
        keep=lambda step: write_whole(run_dir.kept(step), parts.method),
    )


def _cost(parts: Parts, seconds: float) -> dict[str, Any]:
    steps, parameters = parts.state.clock.total_steps, list(parts.method.towers()[0].parameters())
    return {
        "steps": steps,
        "train_seconds": seconds,
        "images_per_second": steps * parts.loader.batch_size / seconds if seconds else None,
        "parameters": sum(parameter.numel() for parameter in parameters),
        "trainable_parameters": sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        "processes": parts.runtime.world.size,
        "embed_dim": parts.backbone.embed_dim,
        "peak_memory_mb": machine.peak_memory_mb(parts.runtime.device),
        **machine.facts(parts.runtime.device),
        **code_record(),
    }
