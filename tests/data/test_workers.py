"""Worker processes that are killed, stopped, hang or leave: one line, in time, and no process is left."""

import errno
import faulthandler
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from dinodiet.data import workers as module
from dinodiet.data.images import FileImages
from dinodiet.data.loader import TrainLoader
from dinodiet.data.workers import prepare_worker, watched
from dinodiet.errors import MachineLimit, UserError, one_line
from dinodiet.io.limits import limits_told
from tests.places import ROOT

Act = Callable[[], object]
PATIENT = 40.0  # seconds


class Numbers(Dataset[int]):
    """Numbers, one of which is not given: something is done in its place."""

    def __init__(self, act: Act, at: int) -> None:
        self._act, self._at = act, at

    def __len__(self) -> int:
        return 40

    def __getitem__(self, number: int) -> int:
        if number == self._at:
            self._act()
        return number


def loaded(act: Act, at: int, seconds: float = 0.0) -> list[int]:
    """Return what two workers load; at each number something is waited for."""
    loader = DataLoader(Numbers(act, at), batch_size=None, num_workers=2, worker_init_fn=prepare_worker)
    found = []
    with limits_told():
        for number in watched(loader):
            found.append(int(number))
            time.sleep(seconds)
    return found


def by(number: signal.Signals) -> Act:
    def act() -> None:
        faulthandler.disable()  # pytest's, which would print where it was
        os.kill(os.getpid(), number)

    return act


def hang() -> None:
    time.sleep(1000)


def fail() -> None:
    raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), "/far/a.png")


def use_up() -> None:
    raise MemoryError


def no_thread() -> None:
    raise RuntimeError("can't start new thread")


def many_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (8, 8))
    [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]


DEATHS: dict[str, tuple[Act, str]] = {
    "killed": (by(signal.SIGKILL), "a worker process was killed .*SIGKILL"),
    "aborted": (by(signal.SIGABRT), "a worker process was ended by SIGABRT"),
    "crashed": (by(signal.SIGSEGV), "SIGSEGV"),
    "no room": (by(signal.SIGBUS), "shared memory"),
    "stopped": (by(signal.SIGSTOP), "was stopped for 0 s .SIGSTOP"),
    "hung": (hang, "gave no batch for 1 s"),
    "left": (lambda: os._exit(3), "a worker process left without a word"),
    "server gone": (fail, "Stale file handle"),
    "memory": (use_up, "memory is used up"),
    "threads": (no_thread, "ulimit -u"),
    "files": (many_files, "ulimit -n"),
}


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait briefly for stopped workers; as long for others as a busy machine takes to start them."""
    monkeypatch.setattr(module, "HANG_SECONDS", PATIENT)
    monkeypatch.setattr(module, "STOPPED_SECONDS", 0.4)
    monkeypatch.setattr(module, "POLL_SECONDS", 0.1)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("how", "at"), [(how, place * 20 % 40) for place, how in enumerate(DEATHS)])
def test_a_worker_that_does_not_answer_is_one_line(how: str, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    act, said = DEATHS[how]
    if how == "hung":  # the others are known without waiting
        monkeypatch.setattr(module, "HANG_SECONDS", 1.0)
    since = time.monotonic()
    with pytest.raises(UserError, match=said) as caught:
        loaded(act, at)
    assert time.monotonic() - since < PATIENT
    assert "\n" not in one_line(caught.value)
    assert not multiprocessing.active_children()


def test_a_worker_that_dies_while_its_batches_are_used() -> None:
    with pytest.raises(MachineLimit, match="SIGKILL"):
        loaded(by(signal.SIGKILL), 6, seconds=0.3)
    assert not multiprocessing.active_children()


def test_workers_that_are_slow_are_waited_for() -> None:
    assert loaded(lambda: time.sleep(0.6), 5) == list(range(40))


def stop_for_a_while() -> None:
    later = "import os, signal, sys, time; time.sleep(0.4); os.kill(int(sys.argv[1]), signal.SIGCONT)"
    subprocess.Popen([sys.executable, "-c", later, str(os.getpid())])
    os.kill(os.getpid(), signal.SIGSTOP)


def test_a_worker_that_is_stopped_for_a_while_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STOPPED_SECONDS", PATIENT)
    assert loaded(stop_for_a_while, 5) == list(range(40))


def test_what_is_stopped_ends_within_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert module.STOPPED_SECONDS < 60 < module.HANG_SECONDS


def test_an_image_that_this_machine_cannot_read_is_told_of_a_worker(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to("/proc/self/mem")  # whose first page gives EIO
    images = FileImages([tmp_path / "a.png"] * 4, torch.zeros(4, dtype=torch.int64))
    with pytest.raises(MachineLimit, match="Input/output error") as caught:
        next(TrainLoader(images, 2, seed=0, num_workers=1).batches(0))
    assert one_line(caught.value).startswith(f"{tmp_path}/a.png: Input/output error; the disk")


@pytest.mark.skipif(sys.platform != "linux" or os.getuid() != 0, reason="changes to a user without processes")
def test_workers_that_cannot_be_started_are_one_line() -> None:
    """As another user, whose limit of processes is reached; root has none."""
    code = os.fork()
    if code == 0:
        try:
            resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
            os.setresuid(54321, 54321, 54321)
            loaded(hang, -1)
        except MachineLimit as error:
            os._exit(0 if "ulimit -u" in str(error) else 2)
        except BaseException:
            os._exit(3)
        os._exit(4)
    assert os.waitstatus_to_exitcode(os.waitpid(code, 0)[1]) == 0


WHILE_STARTING = """
import sys, time
from multiprocessing.process import BaseProcess
from torch.utils.data import DataLoader
from dinodiet.data.workers import prepare_worker, watched

start = BaseProcess.start

def interrupted(self):
    start(self)
    time.sleep(2)  # until the worker listens to no signal
    sys.exit(75)

if __name__ == "__main__":
    BaseProcess.start = interrupted
    next(watched(DataLoader(range(40), batch_size=None, num_workers=2, worker_init_fn=prepare_worker)))
"""


@pytest.mark.slow
def test_a_process_that_leaves_while_its_workers_are_started_waits_for_none(tmp_path: Path) -> None:
    """Python ends daemons by a signal that workers do not hear, and waits for them, who wait for their parent."""
    (tmp_path / "leaves.py").write_text(WHILE_STARTING)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "leaves.py"], cwd=tmp_path, env=environment, timeout=200, check=False)
    assert done.returncode == 75


@pytest.mark.slow
def test_a_worker_prints_nothing_of_a_parent_that_left() -> None:
    code = """
import sys
from dinodiet.data.workers import prepare_worker
prepare_worker(0)
for error in (ConnectionResetError(104, "reset"), EOFError(), ValueError("news")):
    sys.excepthook(type(error), error, None)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=200)
    assert done.stderr == "ValueError: news\n"
