"""The devices that a run holds in all its processes, and their energy."""

from __future__ import annotations

import os

import torch

from dinodiet.config.settings import Settings
from dinodiet.errors import UserError
from dinodiet.io.energy import EnergyCounters
from dinodiet.processes.group import of_all
from dinodiet.processes.place import machine_name, runs_per_gpu
from dinodiet.run.parts import device_of
from dinodiet.store.spent import Devices

Held = tuple[str, str | None]  # a machine, and the UUID of a GPU of it; None: a process without a GPU


def devices_of(settings: Settings) -> Devices:
    """Return what a run holds; all its processes have to ask.

    Energy is known of GPUs of one machine that no other run of the launcher shares.
    """
    return counted(of_all(_held(settings)), runs_per_gpu(os.environ))


def counted(held: list[Held], runs: int) -> Devices:
    """Return what processes hold together, `runs` runs of which share each GPU."""
    gpus = sorted({(machine, gpu) for machine, gpu in held if gpu is not None})
    if len(gpus) == 0:
        return Devices(len(held))
    if runs > 1 or len({machine for machine, _ in gpus}) > 1:
        return Devices(len(gpus) / runs)
    return Devices(len(gpus), EnergyCounters([gpu for _, gpu in gpus]))


def _held(settings: Settings) -> Held:
    """Return what this process holds; a device that is not there is refused where the run is built."""
    try:
        device = device_of(settings)
    except UserError:
        return machine_name(), None
    if device.type != "cuda":
        return machine_name(), None
    return machine_name(), str(torch.cuda.get_device_properties(device).uuid)
