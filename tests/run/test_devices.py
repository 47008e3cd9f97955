"""What a run holds, and what real runs say that they spent."""

from pathlib import Path

import pytest

from dinodiet.config.gate import gate
from dinodiet.io.energy import EnergyCounters
from dinodiet.io.files import read_json
from dinodiet.run.devices import Held, counted, devices_of
from dinodiet.store.rundir import RunDir
from dinodiet.store.spent import Spent, spent_in
from tests.running import CHOICES, TINY, composed, killed_after, launch, results_in, run

GPUS: list[Held] = [("one", "a"), ("one", "b")]


@pytest.mark.parametrize(
    ("held", "runs", "number"),
    [
        ([("one", None)], 1, 1),
        ([("one", None), ("two", None)], 3, 2),  # without GPUs each process counts
        (GPUS, 1, 2),
        ([*GPUS, ("two", "c"), ("two", "d")], 1, 4),
        ([("one", "a"), ("one", "a")], 1, 1),  # two processes on one GPU
        ([("one", "a")], 4, 0.25),
    ],
)
def test_what_processes_hold_together(held: list[Held], runs: int, number: float) -> None:
    assert counted(held, runs).number == number


@pytest.mark.parametrize(("held", "runs"), [([("one", None)], 1), ([*GPUS, ("two", "c")], 1), ([("one", "a")], 2)])
def test_energy_is_unknown_of_several_machines_of_shared_gpus_and_without(held: list[Held], runs: int) -> None:
    devices = counted(held, runs)
    assert not isinstance(devices.joules, EnergyCounters)
    assert devices.joules() is None


def test_energy_is_read_of_the_gpus_of_one_machine() -> None:
    assert isinstance(counted(GPUS, 1).joules, EnergyCounters)


def test_a_device_that_is_not_there_is_refused_elsewhere(tmp_path: Path) -> None:
    assert devices_of(gate(composed(tmp_path, "device=cuda:99"), CHOICES)).number == 1


def spent_of(tmp_path: Path) -> Spent:
    found = spent_in(results_in(tmp_path))
    assert found is not None
    return found


def test_scores_added_later_add_to_what_a_run_spent(tmp_path: Path) -> None:
    run(composed(tmp_path, "schedule.epochs=0"))
    first = spent_of(tmp_path)
    assert first.seconds > 0
    assert first.device_seconds == first.seconds
    assert (first.joules, first.starts) == (None, 1)
    run(composed(tmp_path, "schedule.epochs=0", "eval.knn.k=3"))
    assert spent_of(tmp_path).seconds > first.seconds
    assert spent_of(tmp_path).starts == 2


def test_of_a_run_of_an_older_version_nothing_is_claimed(tmp_path: Path) -> None:
    run(composed(tmp_path, "schedule.epochs=0"))
    (folder,) = (tmp_path / "default").iterdir()
    status = RunDir(folder).status
    status.write_text(status.read_text().replace('"spent"', '"other"'))
    run(composed(tmp_path, "schedule.epochs=0", "eval.knn.k=3"))
    assert results_in(tmp_path)["spent"] is None


@pytest.mark.slow
def test_lost_work_is_part_of_what_a_run_spent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with killed_after(5, monkeypatch):
        run(composed(tmp_path))
    (folder,) = (tmp_path / "default").iterdir()
    lost = spent_in(read_json(RunDir(folder).status) or {})
    assert lost is not None
    run(composed(tmp_path))
    assert spent_of(tmp_path).starts == 2
    assert spent_of(tmp_path).seconds > lost.seconds + results_in(tmp_path)["train_seconds"]


@pytest.mark.slow
def test_each_process_of_a_run_counts(tmp_path: Path) -> None:
    assert launch(tmp_path, *TINY, "processes=2").returncode == 0
    found = spent_of(tmp_path)
    assert found.device_seconds == pytest.approx(2 * found.seconds)
