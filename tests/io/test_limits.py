"""What the machine cannot give is one line; what can be over later is told apart from what is wrong."""

import errno
import os
from pathlib import Path

import pytest

from dinodiet.errors import MachineLimit, UserError
from dinodiet.io.limits import LOST_BATCH, limit_of, worker_died


@pytest.mark.parametrize(
    "code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.EFBIG, errno.EMFILE, errno.EAGAIN]
)
def test_what_a_disk_refuses_can_be_over_later(tmp_path: Path, code: int) -> None:
    told = limit_of(OSError(code, os.strerror(code), str(tmp_path / "new" / "file")))
    assert isinstance(told, MachineLimit)
    if code not in (errno.EMFILE, errno.EAGAIN):
        assert f"{tmp_path}/new/file: {os.strerror(code)}" in str(told)
        assert "free" in str(told)


def test_a_path_that_cannot_be_is_a_mistake() -> None:
    told = limit_of(OSError(errno.ENAMETOOLONG, "File name too long", "x" * 300))
    assert isinstance(told, UserError)
    assert not isinstance(told, MachineLimit)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "memory is used up"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 2048 bytes"), "2.0 KiB more"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has"), "the GPU's memory .* 2.00 GiB"),
        (RuntimeError("can't start new thread"), "ulimit -u"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), "SIGKILL"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. It"), "/dev/shm"),
        (worker_died(LOST_BATCH + errno.ENOSPC), "num_workers=0"),
    ],
)
def test_memory_and_processes_are_told_with_what_to_lower(error: Exception, said: str) -> None:
    with pytest.raises(UserError, match=said):
        raise limit_of(error) or error


def test_a_fault_of_the_code_is_no_limit() -> None:
    for error in (
        RuntimeError("mat1 and mat2 shapes"),
        KeyError("x"),
        ConnectionRefusedError(errno.ECONNREFUSED, "no"),
    ):
        assert limit_of(error) is None
