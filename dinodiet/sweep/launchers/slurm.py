"""Run cells as SLURM array jobs: submit what is missing, watch the queue and the run directories, name what is lost."""

from __future__ import annotations

import shlex
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from filelock import FileLock

from dinodiet.config.ranges import AtLeastOne, NonNegative, Positive, Range
from dinodiet.config.signature import check_value
from dinodiet.errors import UserError, one_line
from dinodiet.io.files import write_json
from dinodiet.io.leaving import signals_to
from dinodiet.store import queue as slurm_queue
from dinodiet.store.grid import read_jobs, submit_lock, write_jobs
from dinodiet.store.rundir import RunDir
from dinodiet.store.states import IN_WORK, CellState
from dinodiet.store.status import Preempted, State, read_status
from dinodiet.sweep.drive import statuses_of
from dinodiet.sweep.launchers.code_copy import CodeCopies, path_for_jobs
from dinodiet.sweep.launchers.slurm_job import run_in_job
from dinodiet.sweep.launchers.slurm_limit import arrays_of, rebalance, room_for
from dinodiet.sweep.launchers.slurm_pack import run_pack_in_job
from dinodiet.sweep.launchers.slurm_sizes import check_tasks, tasks_per_node
from dinodiet.sweep.launchers.slurm_watch import SLOWEST_POLL_SECONDS, JobWatch
from dinodiet.sweep.packing import Packing, check_alone, memory_in_bytes
from dinodiet.sweep.progress import Progress
from dinodiet.sweep.task import Task

# Parameters that submitit calls the same on every cluster; it wants all others with the prefix slurm_.
COMMON = (
    *("timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes", "name"),
    "stderr_to_stdout",
)
RESOURCES: dict[str, Any] = {
    **dict.fromkeys(("cpus_per_task", "mem_gb", "cpus_per_gpu"), Annotated[int | None, Range(1)]),
    **dict.fromkeys(("gpus_per_node", "gpus_per_task"), Annotated[int | None, Range(0)]),
    "nodes": Annotated[int, Range(1)],
    "tasks_per_node": Annotated[int | None, Range(1)],
}
AUTO, LEAST_LIMIT, UNKNOWN_LIMIT = "auto", 10, 240  # minutes: the least that is expected of a run, and of one unknown
UNUSED = ("submitit_folder", "max_num_timeout")  # the plugin's keys that have no meaning here
ALONE = ("gpus_per_node", "gpus_per_task", "nodes", "tasks_per_node")  # at most one each where runs share a GPU
# A task that ends does not end the others, which record why; one that could not report does not leave them for long.
SRUN_OF_TASKS = ("--kill-on-bad-exit=0", "--wait=60")


class Slurm:
    """Submits tasks through submitit and watches them; see `conf/hydra/launcher/slurm.yaml`.

    Args:
        timeout_min: time limit of a job; `auto`: twice what the longest run of an array is expected to take by finished
            runs, and ten minutes. A run that needs longer is checkpointed, requeued and continued, as often as
            it makes progress.
        signal_delay_s: how long before the limit the run is told to write its checkpoint.
        array_parallelism: how many jobs of the study run at a time; see `dinodiet.sweep.launchers.slurm_limit`.
        on_interrupt: what Ctrl-C does to the jobs: `cancel` them, or `detach` and leave them running.
        detach: submit and return; the same command later watches the same jobs.
        poll_seconds: how often the queue is looked at, at first; the pace slows down to a minute.
        runs_per_gpu: how many runs share a job, a process each, and its one GPU, processors and memory.
        gpu_mem_gb: GiB of memory of a GPU of the cluster, which runs that share one must fit into; None: unknown.
        parameters: all others, as hydra-submitit-launcher names them. A run is an allocation of its own, with a process
            for each of its tasks on all its nodes.

    Raises:
        UserError: settings under which no job could end well.
    """

    in_process = False

    def __init__(
        self,
        *,
        timeout_min: AtLeastOne[int] | Literal["auto"] = 240,
        signal_delay_s: NonNegative[int] = 120,
        array_parallelism: AtLeastOne[int] = 256,
        on_interrupt: Literal["cancel", "detach"] = "cancel",
        detach: bool = False,
        poll_seconds: Positive[float] = 5.0,
        runs_per_gpu: Annotated[int, Range(1, 1024)] = 1,
        gpu_mem_gb: Positive[float | None] = None,
        **parameters: Any,
    ) -> None:
        for name in RESOURCES.keys() & parameters.keys():
            check_value(parameters[name], RESOURCES[name], name)
        least = LEAST_LIMIT if isinstance(timeout_min, str) else timeout_min
        if signal_delay_s + 60 >= 60 * least:
            raise UserError(
                f"signal_delay_s: {signal_delay_s} s before a limit of {least} min leaves no time "
                "to train (SLURM may signal a minute early); set it below 60 * timeout_min - 60"
            )
        if runs_per_gpu > 1:
            _check_one_gpu(parameters, runs_per_gpu)
        parameters["tasks_per_node"] = tasks_per_node(parameters)
        self._tasks = parameters["tasks_per_node"] * (parameters.get("nodes") or 1)
        self._packing = Packing(runs_per_gpu, memory_in_bytes(gpu_mem_gb))
        self._timeout, self._signal_delay = timeout_min, signal_delay_s
        self._at_a_time = array_parallelism
        self._parameters = {key: value for key, value in parameters.items() if key not in UNUSED}
        self._on_interrupt, self._detach, self._poll_seconds = on_interrupt, detach, poll_seconds
        self._copies = CodeCopies()

    @property
    def packing(self) -> Packing | None:
        """How runs share GPUs; see `dinodiet.sweep.packing.PackingLauncher`."""
        return self._packing

    @property
    def elsewhere(self) -> str:
        """The kind of device that jobs have; see `dinodiet.sweep.drive.RemoteLauncher`."""
        return "cuda" if self._parameters.get("gpus_per_node") else "cpu"

    @property
    def run_processes(self) -> int | None:
        """How many processes of a run a job starts; see `dinodiet.sweep.drive.SpreadingLauncher`."""
        return self._tasks if self._tasks > 1 else None

    def check(self, tasks: Sequence[Task]) -> None:
        """Refuse runs that could not be done so; see `dinodiet.sweep.drive.CheckingLauncher`."""
        check_alone(tasks, self._packing.runs_per_gpu)
        if self._tasks > 1:
            check_tasks(tasks, self._tasks)

    def run(self, tasks: Sequence[Task], progress: Progress) -> None:
        """Submit those tasks that no job has yet, and watch all; see `dinodiet.sweep.drive.Launcher`."""
        with signals_to(signal.default_int_handler, [signal.SIGINT]):  # jobs are to be cancelled before it leaves
            self._submit_and_watch(tasks, progress)

    def _submit_and_watch(self, tasks: Sequence[Task], progress: Progress) -> None:
        study = tasks[0].study
        with FileLock(submit_lock(study)):  # two commands at once: the second finds the first one's jobs
            todo = [
                task
                for task, status in zip(tasks, statuses_of(tasks), strict=True)
                if status.state not in (*IN_WORK, CellState.DONE, CellState.FAILED)
            ]
            size = (slurm_queue.max_array_size() - 1) * self._packing.runs_per_gpu
            for first in range(0, len(todo), size):
                self._submit(todo[first : first + size], progress)
        if self._detach:
            progress.say("detached: the same command watches these jobs again")
            return
        try:
            watch = JobWatch(self._submit, self._poll_seconds)
            watch.until_all_end(tasks, progress, lambda: rebalance(study, self._at_a_time, self._dependency))
        except KeyboardInterrupt as error:
            self._interrupted(tasks, progress)
            raise Preempted("SIGINT") from error

    def _submit(self, tasks: Sequence[Task], progress: Progress) -> None:
        study, code = tasks[0].study, self._copies.of(tasks)
        before = [read_status(task.run_dir) for task in tasks]
        for task, status in zip(tasks, before, strict=True):
            write_json(task.run_dir.status, {**(status or {}), "state": State.QUEUED.value, "reason": None})
        packs, minutes = self._packing.packs(tasks), self._minutes(tasks)
        try:
            jobs = self._sbatch(study, packs, code, minutes)
        except BaseException as error:
            for task, status in zip(tasks, before, strict=True):
                _put_back(task.run_dir, status)
            if isinstance(error, Exception):
                raise UserError(f"hydra/launcher=slurm: nothing was submitted: {_sbatch_message(error)}") from error
            raise
        write_jobs(study, {task.cell.run_id: job for pack, job in zip(packs, jobs, strict=True) for task in pack})
        shared = f", {self._packing.told(len(tasks))}" if self._packing.runs_per_gpu > 1 else ""
        spread = f", {self._tasks} processes each" if self._tasks > 1 else ""
        job = jobs[0].split("_")[0]
        limit = f", {minutes} min each" if self._timeout == AUTO else ""
        progress.say(f"submitted {len(tasks)} runs to SLURM as job {job}{shared}{spread}{limit}, code {code.name}")

    def _minutes(self, tasks: Sequence[Task]) -> int:
        """Return the time limit of jobs: as set, or for the longest run of the array; a default where it is unknown."""
        if self._timeout != AUTO:
            return int(self._timeout)
        from dinodiet.sweep.planning.expected import limit_minutes  # noqa: PLC0415 - builds models: needs torch
        from dinodiet.sweep.planning.plan import estimates_of  # noqa: PLC0415

        found = estimates_of(tasks, elsewhere=self.elsewhere)
        return limit_minutes(found) or UNKNOWN_LIMIT

    def _sbatch(self, study: Path, packs: Sequence[Sequence[Task]], code: Path, minutes: int) -> list[str]:
        import submitit  # noqa: PLC0415 - only who submits pays for it

        limits = {"timeout_min": minutes, "signal_delay_s": self._signal_delay}
        parameters = {
            key if key in COMMON else f"slurm_{key}": value
            for key, value in {**self._parameters, **limits, **self._shared(study)}.items()
            if value is not None
        }
        executor = submitit.AutoExecutor(folder=study / ".sweep" / "jobs" / "%j", cluster="slurm")
        if self._tasks > 1:
            parameters["slurm_srun_args"] = SRUN_OF_TASKS
        # Python looks for modules in the current folder first: there must be no newer code.
        parameters["slurm_setup"] = [*(parameters.get("slurm_setup") or []), f"cd {shlex.quote(str(code))} || exit 1"]
        executor.update_parameters(**parameters)
        here = [str(Path.cwd())] * len(packs)
        with path_for_jobs(code):
            if self._packing.runs_per_gpu == 1:
                return [job.job_id for job in executor.map_array(run_in_job, [task for (task,) in packs], here)]
            return [job.job_id for job in executor.map_array(run_pack_in_job, packs, here)]

    def _shared(self, study: Path) -> dict[str, Any]:
        """Return the parameters by which a new array shares the limit of its study with those that there are."""
        room = room_for(arrays_of(study), self._at_a_time)
        if room.after is None:
            return {"array_parallelism": room.throttle}
        own = self._parameters.get("additional_parameters") or {}
        after = ",".join(filter(None, [self._dependency, f"afterany:{room.after}"]))
        return {"array_parallelism": room.throttle, "additional_parameters": {**own, "dependency": after}}

    @property
    def _dependency(self) -> str:
        """What the user makes all jobs wait for."""
        return str((self._parameters.get("additional_parameters") or {}).get("dependency") or "")

    def _interrupted(self, tasks: Sequence[Task], progress: Progress) -> None:
        jobs = read_jobs(tasks[0].study)
        active = slurm_queue.active_jobs() or {}
        mine = {jobs[task.cell.run_id] for task in tasks if jobs.get(task.cell.run_id) in active}
        if self._on_interrupt == "detach":
            progress.say(f"interrupted: {len(mine)} SLURM jobs go on; the same command watches them again")
            return
        progress.say(f"interrupted: cancelling {len(mine)} SLURM jobs; the same command continues what they began")
        slurm_queue.cancel(mine)
        deadline = time.monotonic() + SLOWEST_POLL_SECONDS
        while mine & (slurm_queue.active_jobs() or {}).keys() and time.monotonic() < deadline:
            time.sleep(1)


def _check_one_gpu(parameters: dict[str, Any], runs_per_gpu: int) -> None:
    """Refuse jobs of several GPUs, nodes or tasks for runs that share a GPU."""
    for name in ALONE:
        if (parameters.get(name) or 0) > 1:
            raise UserError(
                f"runs_per_gpu: {runs_per_gpu} runs share a job with one GPU, and {name} is {parameters[name]}; "
                f"set runs_per_gpu=1 or {name}=1"
            )


def _put_back(run_dir: RunDir, status: dict[str, Any] | None) -> None:
    if status is None:
        run_dir.status.unlink(missing_ok=True)
    else:
        write_json(run_dir.status, status)


def _sbatch_message(error: Exception) -> str:
    """Return what sbatch says, without submitit's and Python's words around it."""
    lines = [line for line in str(error).splitlines() if "sbatch: error:" in line]
    return "; ".join(line.split("sbatch: error:")[1].strip() for line in lines) or one_line(error)
