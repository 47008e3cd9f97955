"""Bring a sweep to its end: what is done stays done, what is missing is run, what others work on is waited for."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

from dinodiet.io.files import read_json, write_json
from dinodiet.store.grid import read_jobs, write_grid
from dinodiet.store.queue import active_jobs
from dinodiet.store.rundir import RunDir
from dinodiet.store.scores import lacks
from dinodiet.store.states import IN_WORK, OPEN, CellState, CellStatus, state_of
from dinodiet.store.status import State, read_status
from dinodiet.sweep.inputs import check_inputs as check_inputs_of
from dinodiet.sweep.progress import Progress
from dinodiet.sweep.task import Task


@runtime_checkable
class Launcher(Protocol):
    """Brings tasks to an end; how they ended is read from their directories, never from a return value.

    A launcher is named by `_target_` in `hydra/launcher/<choice>.yaml` and built with the values of that file.

    Attributes:
        in_process: True where tasks are run by the process of the command itself: then the modes that keep no run
            directory (sanity, evaluate) work with it too.
    """

    in_process: bool

    def run(self, tasks: Sequence[Task], progress: Progress) -> None:
        """Run the tasks. Each failure costs one task; none is raised.

        Raises:
            Preempted: the user or the system asked to stop.
            UserError: nothing can be run, such as a partition that does not exist.
        """
        ...


@runtime_checkable
class CheckingLauncher(Launcher, Protocol):
    """A launcher that cannot do every run."""

    def check(self, tasks: Sequence[Task]) -> None:
        """Refuse runs before any of them is started or planned.

        Raises:
            UserError: names the key, what was found, and what would do.
        """
        ...


@runtime_checkable
class SpreadingLauncher(Launcher, Protocol):
    """A launcher that may start several processes of a run itself.

    Attributes:
        run_processes: of each run; None: as many as its settings say.
    """

    run_processes: int | None


@runtime_checkable
class RemoteLauncher(Protocol):
    """A launcher that starts runs on other machines.

    Attributes:
        elsewhere: the kind of device that they have there: cuda or cpu.
    """

    elsewhere: str


def elsewhere(launcher: Launcher) -> str | None:
    """Return the kind of device that runs have on other machines; None: they are started on this one."""
    return launcher.elsewhere if isinstance(launcher, RemoteLauncher) else None


def as_started(tasks: Sequence[Task], launcher: Launcher) -> Sequence[Task]:
    """Return tasks whose settings name as many processes as a launcher starts of a run."""
    if not isinstance(launcher, SpreadingLauncher) or launcher.run_processes is None:
        return tasks
    return [replace(task, config={**task.config, "processes": launcher.run_processes}) for task in tasks]


def drive(
    tasks: Sequence[Task], launcher: Launcher, *, retry_failed: bool, check_inputs: bool = False
) -> list[CellStatus]:
    """Run what is missing of a grid and return the state of every cell. All tasks lie in one study.

    With `check_inputs` runs whose weights or data cannot be had are not started; see `dinodiet.sweep.inputs`.

    Raises:
        Preempted, UserError: as `Launcher.run`.
    """
    study = tasks[0].study
    write_grid(study, list({task.cell.run_id: task.cell for task in tasks}.values()))
    before = statuses_of(tasks)
    again = (CellState.FAILED,) if retry_failed else ()
    open_states = (*OPEN, *IN_WORK, *again)
    todo = [task for task, status in zip(tasks, before, strict=True) if status.state in open_states]
    closed = [status for status in before if status.state not in open_states]
    for task in todo:
        _forget_failure(task.run_dir)
    if check_inputs and todo:
        todo, blocked = _with_inputs(todo, {status.run_id for status in before if status.state in IN_WORK})
        closed += blocked
    if todo:
        with Progress(len(tasks), closed) as progress:
            for one_each in _rounds(todo):
                launcher.run(one_each, progress)
    return statuses_of(tasks)


def _with_inputs(todo: Sequence[Task], begun: Collection[str]) -> tuple[list[Task], list[CellStatus]]:
    """Return the tasks that can be started, or were, and the states of the others.

    What has come some way may need less: of a run with a checkpoint or results its own process finds out.
    """
    fresh = [task for task in todo if not (task.run_dir.results.exists() or task.run_dir.checkpoint.exists())]
    checked = check_inputs_of([task for task in fresh if task.cell.run_id not in begun])
    blocked = [status_on_disk(task) for task in todo if task.cell.run_id in checked.blocked]
    for status in blocked:
        print(f"blocked {status.run_id}: {status.reason}", flush=True)
    return [task for task in todo if task.cell.run_id not in checked.blocked], blocked


def _rounds(tasks: Sequence[Task]) -> list[list[Task]]:
    """Return the tasks in lists that name every run once: two tasks of one run differ in what they score."""
    rounds: list[dict[str, Task]] = []
    for task in tasks:
        free = next((one for one in rounds if task.cell.run_id not in one), None)
        if free is None:
            rounds.append(free := {})
        free[task.cell.run_id] = task
    return [list(one.values()) for one in rounds]


def statuses_of(tasks: Sequence[Task]) -> list[CellStatus]:
    """Return the states of a grid's cells; SLURM is asked where one of them was submitted."""
    jobs = read_jobs(tasks[0].study)
    submitted = any(task.cell.run_id in jobs for task in tasks)
    active = active_jobs() if submitted else None
    return [
        _readable(
            task,
            state_of(task.run_dir, job=jobs.get(task.cell.run_id), active=active, settings=task.settings_hash),
        )
        for task in tasks
    ]


def status_on_disk(task: Task) -> CellStatus:
    """Return the state of a cell by its directory alone, for the job that it was handed to."""
    return _readable(task, state_of(task.run_dir, settings=task.settings_hash))


def _readable(task: Task, status: CellStatus) -> CellStatus:
    """Return the status, or `stopped` where results cannot be read or lack scores: the run is then taken up again."""
    if status.state is not CellState.DONE:
        return status
    results = read_json(task.run_dir.results)
    if results is None:
        return replace(status, state=CellState.STOPPED, reason=f"{task.run_dir.results} cannot be read")
    if lacks(results, task.wanted, validation=task.validation):
        return replace(status, state=CellState.STOPPED, reason="trained; scores are missing")
    return status


def note_death(run_dir: RunDir, reason: str) -> None:
    """Write into a run directory that its process died without recording why; where that is possible."""
    status = read_status(run_dir) or {"state": State.KILLED.value}
    with contextlib.suppress(OSError):  # a full disk may be what it died of: the other cells go on
        write_json(run_dir.status, {**status, "state": State.KILLED.value, "reason": reason})


def _forget_failure(run_dir: RunDir) -> None:
    """Take back a recorded failure: the cell is about to run again."""
    status = read_status(run_dir)
    if status is not None and status["state"] == State.FAILED.value:
        note_death(run_dir, f"to be retried after: {status.get('reason')}")
