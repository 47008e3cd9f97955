"""What a machine cannot give, in one line: room, rights, files, processes, memory, shared memory. Imports no torch."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import resource
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

from dinodiet.errors import MachineLimit, UserError, one_line
from dinodiet.io.files import refused
from dinodiet.io.units import byte_size

SHARED_MEMORY = Path("/dev/shm")
LOST_BATCH = 100  # a worker that cannot hand over a batch leaves with this exit code plus the number of the error
AGAIN = "then the same command continues"
FULL = (errno.ENOSPC, errno.EDQUOT)
PATHS = (errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP, errno.EINVAL)
OF_THE_FILE = PATHS  # of one that is read: there is none, or a decoder went astray in it; all others say nothing of it
OPEN_FILES = (errno.EMFILE, errno.ENFILE)

_MEMORY = re.compile(
    r"out of memory|allocate memory|Unable to allocate|bad_?alloc|STATUS_ALLOC_FAILED|failed to map segment", re.I
)
_SYSTEM = re.compile(r"\[Errno (\d+)\] [^:]*(?:: '(.+?)')?(?: -> '.+')?$")
_TRIED = re.compile(r"[Tt]ried to allocate ([\d.]+ \w+)")
_WORKER = re.compile(r"DataLoader worker \(pid\S* [\d, ]+\) (?:is killed by|exited)")


@contextlib.contextmanager
def limits_told() -> Iterator[None]:
    """Raise what `limit_of` says of an error inside in its place.

    Raises:
        UserError: the machine cannot give something, or a path cannot be.
    """
    try:
        yield
    except Exception as error:
        told = limit_of(error)
        if told is None or told is error:
            raise
        raise told from error


def limit_of(error: BaseException) -> UserError | None:
    """Return an error that is about the machine, or about a path, in words; None for any other.

    What may be over at the next attempt is a `MachineLimit`.
    """
    if isinstance(error, UserError):
        return error
    error = _of_worker(error)
    if isinstance(error, OSError) and error.errno is not None:
        return _file(error) if type(error).__module__ == "builtins" and not _of_network(error) else None
    text = one_line(error)
    if isinstance(error, MemoryError) or (isinstance(error, (RuntimeError, ImportError)) and _MEMORY.search(text)):
        return _memory(text)
    if isinstance(error, RuntimeError) and _WORKER.match(text):
        return _worker(f"{text} {error.__cause__ or ''}")  # of two errors of one death the first says how
    return _process(text) if isinstance(error, RuntimeError) else None


def _of_worker(error: BaseException) -> BaseException:
    """Return an OSError of a worker process as it was there: torch passes on its type and its words alone."""
    told = isinstance(error, OSError) and error.errno is None and "Original Traceback" in str(error)
    found = _SYSTEM.search(one_line(error)) if told else None
    return error if found is None else OSError(int(found[1]), os.strerror(int(found[1])), found[2])


def _of_network(error: OSError) -> bool:
    return isinstance(error, ConnectionError) and not isinstance(error, BrokenPipeError)


def _file(error: OSError) -> UserError:
    """Return what is said of a file: its path, why, how much room there is, and what to do."""
    code = error.errno or 0
    if code in (*OPEN_FILES, errno.EAGAIN, errno.ENOMEM):
        return _exhausted(code)
    path = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes, os.PathLike)) else None
    name = path or ("what is printed" if code == errno.EPIPE else "a file, or what is printed")
    reason = error.strerror or os.strerror(code)
    if code in PATHS:
        longest = ", it takes names of up to 255 bytes" if code == errno.ENAMETOOLONG else ""
        return UserError(f"{name}: {reason}{longest}")
    room = "" if path is None else free_room(Path(path))
    return MachineLimit(f"{name}: {reason}{room}; {_advice(code)}")


def raise_limit(error: BaseException, path: str | os.PathLike[str]) -> None:
    """Raise what an error says of the machine where it says nothing about the content of a file that was read.

    Raises:
        MachineLimit: too many files are open, the disk or its server failed, there is no right to read.
        MemoryError: there is none left.
    """
    if isinstance(error, MachineLimit):
        raise error
    found = refused(error)
    code = None if found is None else found.errno
    if code == errno.ENOMEM or isinstance(error, MemoryError):
        raise MemoryError(one_line(error)) from error
    if code in OPEN_FILES:
        raise _exhausted(code) from error
    if code is not None and code not in OF_THE_FILE:
        rights = f"give yourself the right to read it, {AGAIN}" if code in (errno.EACCES, errno.EPERM) else None
        raise MachineLimit(f"{os.fspath(path)}: {os.strerror(code)}; {rights or _advice(code)}") from error


def free_room(path: Path) -> str:
    """Return the free room where a path lies, or would lie, in words; nothing where it is unknown."""
    try:
        there = next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
        free, files = shutil.disk_usage(there).free, os.statvfs(there)
    except (OSError, StopIteration):
        return ""
    no_more = ", no more files can be made" if files.f_files and not files.f_favail else ""
    return f" ({byte_size(free)} free{no_more})"


def _advice(code: int) -> str:
    if code == errno.ENOSPC:
        return f"make room, {AGAIN}"
    if code == errno.EDQUOT:
        return f"your quota is used up (quota -s): make room, {AGAIN}"
    if code == errno.EPIPE:
        return "its reader is gone; the same command continues"
    if code == errno.EFBIG:
        return f"files of this process are limited (ulimit -f): raise that, {AGAIN}"
    if code in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"choose a folder that can be written, or give the right to, {AGAIN}"
    return f"the disk, or the server that it is on, failed: mend that, {AGAIN}"


def _exhausted(code: int) -> UserError:
    if code == errno.ENOMEM:
        return _memory("")
    if code == errno.EAGAIN:
        most = resource.getrlimit(resource.RLIMIT_NPROC)[0]
        return MachineLimit(
            f"no more processes or threads can be started (ulimit -u: {_number(most)}); lower num_workers or "
            f"OMP_NUM_THREADS, or end others, {AGAIN}"
        )
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MachineLimit(
        f"no more files can be opened (ulimit -n: {_number(most)}); raise that (ulimit -n 65536) or lower num_workers, "
        f"{AGAIN}"
    )


def _number(limit: int) -> str:
    return "unlimited" if limit == resource.RLIM_INFINITY else str(limit)


def _memory(text: str) -> UserError:
    whose = "the GPU's memory" if re.search(r"CUDA|GPU|HIP|CUBLAS", text) else "memory"
    tried = f", {_size(found[1])} more were wanted" if (found := _TRIED.search(text)) else ""
    return UserError(
        f"{whose} is used up{tried}; lower schedule.batch_size or dataset.image_size, raise schedule.accumulate or set "
        "grad_checkpointing=true; in an evaluation lower eval.batch_size"
    )


def _size(text: str) -> str:
    return byte_size(int(text.split()[0])) if text.endswith(" bytes") else text


def _process(text: str) -> UserError | None:
    """Return what is said of threads, open files and shared memory, or None where it is about something else."""
    if "start new thread" in text:
        return _exhausted(errno.EAGAIN)
    if "Too many open files" in text or "received 0 items of ancdata" in text:
        return _exhausted(errno.EMFILE)
    if re.search(r"shared memory|torch_shm_manager|file_descriptor", text) or "</torch_" in text:
        return shared_memory_is_full()
    return None


def _worker(text: str) -> UserError:
    """Return what is said of a worker process, of whose death torch tells."""
    if found := re.search(r"is killed by signal: (.+?)\.", text):
        number = next((one for one in signal.Signals if signal.strsignal(one) == found[1]), signal.SIGTERM)
        return worker_died(-number)
    return worker_died(int(found[1]) if (found := re.search(r"exit code (\d+)", text)) else 0)


def worker_died(exit_code: int) -> UserError:
    """Return what is said of a worker process by its exit code, the negative number of a signal or see `LOST_BATCH`."""
    return _killed(signal.Signals(-exit_code)) if exit_code < 0 else _left(exit_code - LOST_BATCH)


def _killed(how: signal.Signals) -> UserError:
    if how == signal.SIGBUS:
        return shared_memory_is_full()
    if how == signal.SIGKILL:
        return MachineLimit(
            "a worker process was killed (SIGKILL), as a system does that runs out of memory; lower num_workers or "
            f"schedule.batch_size, or give the job more memory, {AGAIN}"
        )
    return MachineLimit(f"a worker process was ended by {how.name}; the same command continues")


def _left(code: int) -> UserError:
    if code in (errno.ENOSPC, errno.EDQUOT):
        return shared_memory_is_full()
    if code in (errno.EMFILE, errno.ENFILE, errno.EAGAIN):
        return _exhausted(code)
    why = f"could not hand over a batch ({os.strerror(code)})" if code > 0 else "left without a word"
    return MachineLimit(
        f"a worker process {why}; it needs {SHARED_MEMORY} and a folder of temporary files ({_temporary()}): look at "
        f"them, or set num_workers=0, {AGAIN}"
    )


def _temporary() -> str:
    try:
        return tempfile.gettempdir()
    except OSError:
        return "none can be written"


def shared_memory_is_full() -> MachineLimit:
    """Return what is said where worker processes find no room for their batches."""
    try:
        usage = shutil.disk_usage(SHARED_MEMORY)
        size = f", {byte_size(usage.total)}, {byte_size(usage.free)} free"
    except OSError:
        size = ""
    return MachineLimit(
        f"shared memory ({SHARED_MEMORY}{size}) has no room for the batches of worker processes; make it larger (in "
        f"Docker --shm-size=8g), or set num_workers=0, {AGAIN}"
    )
