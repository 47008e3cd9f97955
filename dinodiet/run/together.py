"""In how many processes a run is done: those that torchrun started, those that it is to start, or this one."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from dinodiet.config.identity import trains
from dinodiet.config.settings import Settings
from dinodiet.config.several import check_several
from dinodiet.errors import UserError
from dinodiet.processes.gathering import is_shared
from dinodiet.processes.group import joined
from dinodiet.processes.heartbeat import Silent
from dinodiet.processes.place import place_in
from dinodiet.run.rows_apart import check_rows_apart
from dinodiet.run.spawn import given_up, in_processes, log_of, print_to
from dinodiet.store.rundir import RunDir
from dinodiet.store.status import record_ending


def in_group(work: Callable[[Settings], Any], settings: Settings, folder: Path) -> Any:
    """Do work in the processes of a run; return what the first of them returns.

    Raises:
        UserError: the settings ask for other processes than there are.
        Exception: as the work.
    """
    place = place_in(os.environ)
    if place is not None and not is_shared():
        _check_number(settings, place.size)
        _check_several(settings, place.size)
        if place.rank:
            folder.mkdir(parents=True, exist_ok=True)
            print_to(log_of(folder, place.rank))
        with joined(place, partial(_give_up, folder)):
            return work(settings)
    number = processes_of(settings)
    _check_gpus(settings, number)
    if number == 1 or is_shared():
        return work(settings)
    _check_several(settings, number)
    try:
        return in_processes(work, settings, number, folder)
    except Exception as error:
        record_ending(RunDir(folder), error)
        raise


def _give_up(folder: Path, silent: Silent) -> None:
    """Leave because of a silent process: torchrun then ends all."""
    lost = given_up(silent)
    record_ending(RunDir(folder), lost)
    print(f"\nerror: {lost}", file=sys.stderr, flush=True)
    os._exit(1)  # the main thread waits for the silent one


def processes_of(settings: Settings) -> int:
    """Return how many processes a run asks for; null: one for each GPU of this machine."""
    if settings.processes is not None:
        return settings.processes
    return max(torch.cuda.device_count(), 1) if settings.device in ("auto", "cuda") else 1


def _check_several(settings: Settings, number: int) -> None:
    """Refuse what so many processes cannot do before any is started; see `check_several`.

    Raises:
        UserError: also where FSDP of this torch, or the optimiser, cannot split weights.
    """
    check_several(settings.plain, number)
    if settings.strategy == "fsdp" and trains(settings):
        from dinodiet.training.fsdp import check_torch  # noqa: PLC0415 - imports much of torch

        check_torch()
        check_rows_apart(settings.schedule.optimizer, "all weights", "strategy=ddp")


def _check_gpus(settings: Settings, number: int) -> None:
    """Refuse more processes than GPUs: two cannot train one run on the same.

    Raises:
        UserError: there are fewer, and the run is not for the CPU.
    """
    there = torch.cuda.device_count() if settings.device != "cpu" else 0
    if there and number > there:
        raise UserError(
            f"processes: {number}, but this machine has {there} GPUs, one for each; give so many, or device=cpu"
        )


def _check_number(settings: Settings, started: int) -> None:
    if settings.processes not in (None, 1, started):
        raise UserError(
            f"processes: {settings.processes}, but torchrun started {started}; leave it out, torchrun says how many"
        )
