"""One run: build everything, evaluate, train, evaluate, write the results."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.optim import Optimizer

from dinodiet.config.schema import check, identity, own_choices, resolved, settings_hash
from dinodiet.data.held_out import held_out_splits
from dinodiet.errors import UserError
from dinodiet.evals.scorer import flat, plain, values
from dinodiet.io import machine as environment
from dinodiet.io.files import read_json, write_json
from dinodiet.run import checkpoint
from dinodiet.run import console as report
from dinodiet.run.finished import finished, run_dir_of
from dinodiet.run.modes import evaluate, sanity
from dinodiet.run.monitor import SIGNALS, Monitor
from dinodiet.run.parts import Parts, build_parts, cache_folder, describe
from dinodiet.store.rundir import RunDir
from dinodiet.store.status import Preempted, Status, slurm_job
from dinodiet.training.loop import fit
from dinodiet.types import Clock, Method, Runtime, World

FORMAT = 1  # of results.json
REQUEUE_SECONDS = 300.0


def run(cfg: DictConfig, choices: Mapping[str, str]) -> dict[str, Any]:
    """Do the run that the configuration describes, or what is missing of it; return its results.

    `choices` are the names of the chosen group files (model, dataset, method). A finished run returns its results at
    once; an interrupted one goes on from its checkpoint.

    Raises:
        UserError: a mistake in the configuration, the data or the weights.
        Preempted: a signal asked the process to leave; a checkpoint is written.
        NonFiniteLossError: the training diverged.
    """
    check(cfg)
    choices = own_choices(choices)
    if cfg.mode == "sanity":
        return sanity(cfg, choices)
    what = identity(cfg)
    run_dir = run_dir_of(cfg, choices)
    if cfg.mode == "evaluate":
        return evaluate(cfg, choices, Path(cfg.checkpoint).expanduser() if cfg.checkpoint else run_dir.checkpoint)
    results = finished(cfg, choices)
    if results is None:
        with exclusive(run_dir), Status(run_dir, settings_hash(cfg)) as status, leaving_on_signals():
            results = read_json(run_dir.results) or _run(cfg, choices, what, run_dir, status)
        print(report.closing(results, run_dir.path), flush=True)
    return results


def _run(
    cfg: DictConfig, choices: dict[str, str], what: dict[str, Any], run_dir: RunDir, status: Status
) -> dict[str, Any]:
    status.update(phase="building")
    parts = build_parts(cfg)
    print(describe(cfg, choices, parts, run_dir), flush=True)
    OmegaConf.save(OmegaConf.create(resolved(cfg)), run_dir.config)
    if held_out := held_out_splits(parts.data):
        write_json(run_dir.splits, held_out)
    parts.tracker.start(run_dir.path.name, resolved(cfg), run_dir.path)
    exit_code = 1
    summary: dict[str, float] = {}
    try:
        results = _train_and_evaluate(cfg, what, run_dir, status, parts)
        results = {"format": FORMAT, "run_id": run_dir.path.name, "choices": choices, "seed": cfg.seed} | results
        results |= {"config": resolved(cfg), "finished": time.time()}
        write_json(run_dir.results, results)
        run_dir.previous_checkpoint.unlink(missing_ok=True)
        exit_code = 0
        summary = {f"{phase}/{name}": v for phase in ("initial", "final") for name, v in results[phase].items()}
    finally:
        parts.tracker.finish(summary, exit_code)
    return results


def _train_and_evaluate(
    cfg: DictConfig, what: dict[str, Any], run_dir: RunDir, status: Status, parts: Parts
) -> dict[str, Any]:
    method, scaler = parts.method, torch.amp.GradScaler(parts.device.type, enabled=cfg.precision == "fp16")
    state = checkpoint.load(run_dir, what)
    status.update(phase="initial evaluation")
    initial = plain(parts.scorer(method.encoder, cached=True)) if state is None else state["initial"]

    def save(step: int) -> None:
        content = {"identity": what, "step": step, "initial": initial, "monitor": monitor.state()}
        content |= {"method": method.state_dict(), "optimizer": parts.optimizer.state_dict()}
        content |= {"scaler": scaler.state_dict(), "encoder": _path_of(method.encoder, method)}
        checkpoint.save(run_dir, content)

    every = cfg.eval.get("every_epochs")
    monitor = Monitor(
        run_dir=run_dir,
        method=method,
        optimizer=parts.optimizer,
        tracker=parts.tracker,
        status=status,
        log_every=cfg.log_every,
        checkpoint_seconds=60 * cfg.checkpoint_minutes,
        every_steps=None if every is None else max(round(every * parts.clock.steps_per_epoch), 1),
        validate=lambda: values(flat(parts.scorer.validate(method.encoder))),
        save=save,
        batch_size=parts.loader.batch_size,
    )
    clock = parts.clock
    if state is not None:
        clock = restore(state, method, parts.optimizer, scaler, monitor, clock)
        print(f"continuing from step {clock.step} of {clock.total_steps}", flush=True)
    begun = time.monotonic()
    status.update(phase="preparing", step=clock.step)
    world = World(device=parts.device)
    runtime = Runtime(world, cfg.precision, cfg.num_workers, cfg.eval.batch_size, cache_folder(cfg))
    method.prepare(parts.data.pretext, clock, runtime)
    prepare_seconds = time.monotonic() - begun
    run_dir.keep_metrics_until(clock.step)
    status.update(phase="training", step=clock.step, total_steps=clock.total_steps)
    with monitor.watching(clock):
        batches = parts.loader.batches(clock.step)
        fit(method, batches, parts.optimizer, scaler, parts.optimisation, clock, world, on_step=monitor.on_step)
    status.update(phase="final evaluation", step=clock.total_steps)
    final = plain(parts.scorer(method.encoder, folder=run_dir.path / "artefacts"))
    results = _results(parts, run_dir, initial, final, monitor.train_seconds)
    return results | {"prepare_seconds": prepare_seconds}


class BusyError(UserError):
    """Another process works on the run."""


@contextlib.contextmanager
def exclusive(run_dir: RunDir) -> Iterator[None]:
    """Hold the run directory; two processes never work on one run.

    A requeued SLURM job waits for the process of its earlier start to end, which may outlive its node's connection.

    Raises:
        BusyError: another process holds it.
    """
    run_dir.path.mkdir(parents=True, exist_ok=True)
    owner = read_json(run_dir.status) or {}
    requeued = slurm_job() is not None and owner.get("slurm_job") == slurm_job()
    try:
        with FileLock(run_dir.lock, timeout=REQUEUE_SECONDS if requeued else 0):
            yield
    except Timeout as error:
        owner = read_json(run_dir.status) or {}
        where = f"process {owner.get('pid', '?')} on {owner.get('host', '?')}"
        raise BusyError(f"{run_dir.path.name}: {where} is working on this run; wait for it or stop it first") from error


@contextlib.contextmanager
def leaving_on_signals() -> Iterator[None]:
    """Leave at once on a signal, where there is nothing to save: while parts are built and embeddings computed."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise Preempted(signal.Signals(number).name)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, leave) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def restore(
    state: dict[str, Any],
    method: Method,
    optimizer: Optimizer,
    scaler: torch.amp.GradScaler,
    monitor: Monitor,
    clock: Clock,
) -> Clock:
    """Put everything back as the checkpoint says and return the clock at its step."""
    method.load_state_dict(state["method"])
    optimizer.load_state_dict(state["optimizer"])
    scaler.load_state_dict(state["scaler"])
    monitor.restore(state["monitor"])
    return clock.at(state["step"])


def _path_of(module: nn.Module, root: nn.Module) -> str:
    """Return the dotted name of a module below `root`: where the encoder's weights lie in the checkpoint."""
    names: list[str] = [name for name, candidate in root.named_modules() if candidate is module]
    return names[0]


def _results(
    parts: Parts, run_dir: RunDir, initial: dict[str, Any], final: dict[str, Any], seconds: float
) -> dict[str, Any]:
    images = parts.clock.total_steps * parts.loader.batch_size
    parameters = list(parts.method.towers()[0].parameters())
    return {
        "initial": initial["test"],
        "final": final["test"],
        "validation": {"initial": initial["val"], "final": final["val"]},
        "skipped": final["skipped"],
        "epochs": [row for row in run_dir.read_metrics() if any(key.startswith("val/") for key in row)],
        "steps": parts.clock.total_steps,
        "train_seconds": seconds,
        "images_per_second": images / seconds if seconds else None,
        "parameters": sum(parameter.numel() for parameter in parameters),
        "trainable_parameters": sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        "embed_dim": parts.backbone.embed_dim,
        "peak_memory_mb": environment.peak_memory_mb(parts.device),
        **environment.facts(parts.device),
    }
