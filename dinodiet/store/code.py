"""The code that runs use: its digest and commit, and copies of it that later changes do not reach. Imports no torch."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dinodiet.config.places import PACKAGE, ROOT
from dinodiet.errors import UserError
from dinodiet.io.files import naming, read_json, write_atomically, write_json, write_text

CODE = ("dinodiet", "conf", "sweeps", "launch.py")  # of a checkout; an installed package holds all of it
OWN = "own"  # modules of the user, in a copy
LEFT_OUT = ("__pycache__",)
NOT_CODE = (".md", ".ipynb", ".png", ".pyc")
DIGITS = 16  # of a digest
GIT_SECONDS = 30


def code_folder(study: Path) -> Path:
    """Return the folder of a study's copies of the code: `<digest>/`, and `<digest>.json` and `.diff` beside."""
    return study / ".sweep" / "code"


def take_snapshot(study: Path, own: Mapping[str, Path]) -> Path:
    """Copy the code, and modules of the user, below a study, unless an equal copy is there; return its absolute path.

    A reader, and a crash at any moment, see a whole copy or none. Beside it `<digest>.json` tells the commit, and
    `<digest>.diff` how the checkout differed from it.

    Args:
        study: `outputs/<name>`.
        own: files and folders of the user's modules by the name that they are imported by.

    Raises:
        UserError: the copy that is there was changed since.
        OSError: it cannot be written.
    """
    files = {**_code_files(), **_own_files(own)}
    digest = _digest(files)
    copy = code_folder(study).absolute() / digest
    if copy.is_dir():
        if _digest(_files_below(copy, [path.name for path in copy.iterdir()])) != digest:
            raise UserError(f"{copy}: this copy of the code was changed after it was taken; move it away")
        return copy
    copy.parent.mkdir(parents=True, exist_ok=True)
    _record(copy)
    with naming(copy):
        _copy(files, copy)
    return copy


def import_folders(copy: Path) -> list[Path]:
    """Return the folders that a process is to import from, to use a copy."""
    return [copy, copy / OWN]


@functools.cache
def code_record() -> dict[str, Any]:
    """Return what a run's results say of the code of this process: its `code` (digest) and its `git_commit`.

    The commit ends with `+changes` where files differ from it; None: outside a checkout.
    """
    taken = read_json(PACKAGE.parent.with_name(f"{PACKAGE.parent.name}.json")) or {}
    if taken.get("digest") == PACKAGE.parent.name:
        return {"code": taken["digest"], "git_commit": taken.get("commit")}
    return {"code": _digest(_code_files()), "git_commit": _commit()}


def codes_before(checkpoint: Mapping[str, Any] | None) -> list[str]:
    """Return the digests of other code than this process's that took steps of what a checkpoint holds, oldest first.

    Of checkpoints of older versions, which say none, nothing is known.
    """
    found = [] if checkpoint is None else [*checkpoint.get("code_before", ()), checkpoint.get("code")]
    return [digest for digest in dict.fromkeys(found) if digest not in (None, code_record()["code"])]


def _code_files() -> dict[str, Path]:
    """Return the files of the code by their names from the top."""
    return _files_below(PACKAGE.parent, CODE if ROOT != PACKAGE else CODE[:1])


def _own_files(own: Mapping[str, Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in own.values():
        found |= {f"{OWN}/{name}": file for name, file in _files_below(path.parent, [path.name]).items()}
    return found


def _files_below(top: Path, names: Iterable[str]) -> dict[str, Path]:
    """Return the files of some entries of a folder by their names from there; hidden ones and what is compiled not."""
    found: dict[str, Path] = {}
    for start in (top / name for name in names if not name.startswith(".") and name not in LEFT_OUT):
        if start.is_file() and start.suffix not in NOT_CODE:
            found[start.name] = start
        for folder, folders, files in os.walk(start):
            folders[:] = [name for name in folders if not name.startswith(".") and name not in LEFT_OUT]
            here = Path(folder).relative_to(top).as_posix()
            found |= {f"{here}/{name}": Path(folder, name) for name in files if _is_code(name)}
    return found


def _is_code(name: str) -> bool:
    return not name.startswith(".") and not name.endswith(NOT_CODE)


def _digest(files: Mapping[str, Path]) -> str:
    whole = hashlib.sha256()
    for name in sorted(files):
        content = files[name].read_bytes()
        whole.update(f"{name}\0{len(content)}\0".encode() + content)
    return whole.hexdigest()[:DIGITS]


def _copy(files: Mapping[str, Path], copy: Path) -> None:
    """Copy files, and what Python compiled of them, into a folder that appears whole."""
    unfinished = Path(tempfile.mkdtemp(dir=copy.parent, prefix=f".{copy.name}."))
    try:
        unfinished.chmod(0o755)
        for name, file in files.items():
            _copy_file(file, unfinished / name)
            for compiled in (file.parent / "__pycache__").glob(f"{file.stem}.*.pyc") if file.suffix == ".py" else ():
                _copy_file(compiled, (unfinished / name).parent / "__pycache__" / compiled.name)
        with contextlib.suppress(OSError):  # another command took the same copy
            unfinished.rename(copy)
        if not copy.is_dir():
            raise OSError(f"{copy} cannot be made")
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _copy_file(file: Path, to: Path) -> None:
    """Copy a file with its time, by which Python knows whether what it compiled is still true."""
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(file, to)


def _record(copy: Path) -> None:
    """Write beside a copy where the code is from."""
    commit, diff = _commit(), None
    if commit is not None and commit.endswith("+changes"):
        diff = _git("diff", "HEAD", "--", *CODE) or ""
        write_atomically(copy.with_name(f"{copy.name}.diff"), lambda stream: write_text(stream, f"{diff}\n"))
    content = {"digest": copy.name, "commit": commit, "taken": time.time(), "from": str(PACKAGE.parent)}
    write_json(copy.with_name(f"{copy.name}.json"), content)


def _commit() -> str | None:
    if not _git("ls-files", "dinodiet/__init__.py"):  # installed into a folder of another repository
        return None
    changed = _git("status", "--porcelain", "--untracked-files=no")
    head = _git("rev-parse", "HEAD")
    return None if head is None or changed is None else head + ("+changes" if changed else "")


def _git(*arguments: str) -> str | None:
    """Return what git says in the folder of this code; None where it says nothing."""
    command = ["git", *arguments]
    try:
        done = subprocess.run(command, cwd=PACKAGE.parent, capture_output=True, check=True, timeout=GIT_SECONDS)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace").strip()
