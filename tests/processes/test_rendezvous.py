"""How processes find their place and one another: the job's variables, and a file with the first one's address."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dinodiet.errors import UserError
from dinodiet.processes.place import Place, task_in
from dinodiet.processes.rendezvous import rendezvous

PATIENCE = timedelta(seconds=60)


def test_the_place_of_a_task(tmp_path: Path) -> None:
    step = {"SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_NTASKS": "9", "SLURM_STEP_NUM_TASKS": "8"}
    assert task_in(step, tmp_path) == Place(5, 8, 1, tmp_path)
    assert task_in({**step, "SLURM_STEP_NUM_TASKS": "1"}, tmp_path) is None
    assert task_in({}, tmp_path) is None


def meet(address: Path) -> Any:
    """Return what the second of two processes hears from the first, which comes later."""
    heard: list[Any] = []

    def hear() -> None:
        heard.append(rendezvous(Place(1, 2, 1, address), address, PATIENCE).get("word"))

    second = threading.Thread(target=hear)
    second.start()
    first = rendezvous(Place(0, 2, 0, address), address, PATIENCE)
    first.set("word", str(address.parent.name))
    second.join(60)
    return heard[0].decode()


def test_processes_meet_at_a_port_of_their_own(tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert meet(tmp_path / name / "address.json") == name
    ports = {json.loads((tmp_path / name / "address.json").read_text())["port"] for name in ("one", "two")}
    assert len(ports) == 2


def test_an_address_at_which_another_run_listens_is_not_taken(tmp_path: Path) -> None:
    other, address = tmp_path / "other.json", tmp_path / "address.json"
    store = rendezvous(Place(0, 2, 0, other), other, PATIENCE)
    address.write_text(json.dumps({**json.loads(other.read_text()), "token": "of an earlier run"}))
    with pytest.raises(UserError, match=r"processes: process 1 on .* did not find process 0 within 1 s"):
        rendezvous(Place(1, 2, 1, address), address, timedelta(seconds=1))
    assert meet(address) == tmp_path.name
    del store
