"""What the command printed, kept in a study's `.sweep/printed.json` and printed again where nothing has changed.

Disposable, and passed over where it is broken or of another version of the code. Kept are tables of studies of which
nothing goes on: what runs and waits is judged anew each time.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from dinodiet.io.colours import shows_colours
from dinodiet.io.files import parse_json, read_json, write_atomically, write_text
from dinodiet.results.locate import locate
from dinodiet.results.marks import State, is_settled, state_of_code, state_of_studies
from dinodiet.results.options import parser
from dinodiet.results.published import path_of
from dinodiet.store.grid import jobs_path, read_grid
from dinodiet.store.rundir import RunDir

FORMAT, MOST, LONGEST = 1, 12, 4_000_000  # answers kept, and letters of one
# Options of which nothing but what is printed remains, and that read no other files of runs than results and states.
KEPT = ("paths", "status", "rows", "cols", "over", "labels", "metric", "phase", "where", "compare", "published")
ENDED = ("failed", "preempted", "stopped", "killed")  # states of status.json that no clock changes
Answer = dict[str, Any]


class _Both(io.StringIO):
    """A stream that writes to another one, and remembers."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream

    def write(self, text: str, /) -> int:
        self._stream.write(text)
        return super().write(text)

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()


def print_once(args: argparse.Namespace, compute: Callable[[argparse.Namespace], None]) -> None:
    """Print what a command line printed when the same files were there, or else let it be computed, and keep it.

    Raises:
        UserError: as `locate`, and as what is computed.
    """
    whole, single = locate(args.paths) if _is_kept(args) else ({}, {})
    if single or not whole:
        compute(args)
        return
    path, key = next(iter(whole)) / ".sweep" / "printed.json", _key(args)
    state = state_of_studies(whole.items(), _others(args))
    answers = _read(path)
    if (answer := answers.get(key)) and answer["files"] == state.digest:
        sys.stdout.write(answer["text"])
        return
    out, errors = _Both(sys.stdout), _Both(sys.stderr)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        compute(args)
    text = out.getvalue()
    if not errors.getvalue() and len(text) <= LONGEST and _is_over(whole, state):
        _write(path, {**answers, key: {"files": state.digest, "newest": state.newest, "text": text}}, key)


def _is_kept(args: argparse.Namespace) -> bool:
    plain = vars(parser().parse_args(args.paths))
    return all(value == plain[name] for name, value in vars(args).items() if name not in KEPT)


def _key(args: argparse.Namespace) -> str:
    asked = [str(Path.cwd()), *(repr(getattr(args, name)) for name in KEPT), str(shows_colours(sys.stdout))]
    return hashlib.blake2b(repr([asked, sys.version, state_of_code()]).encode(), digest_size=16).hexdigest()


def _others(args: argparse.Namespace) -> list[Path]:
    """Return the further files that a command line reads."""
    return [path_of(args.published)] if args.published else []


def _read(path: Path) -> dict[str, Answer]:
    """Return the answers that can be believed, by key."""
    try:
        written, content = path.stat().st_mtime_ns, parse_json(path.read_bytes())
        if content["format"] != FORMAT:
            return {}
        return {key: one for key, one in content["answers"].items() if is_settled(one["newest"], written) and _is(one)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _is(answer: Mapping[str, Any]) -> bool:
    return isinstance(answer["text"], str) and isinstance(answer["files"], str)


def _write(path: Path, answers: Mapping[str, Answer], key: str) -> None:
    """Keep the newest answers. Folders may be read-only."""
    kept = [(one, answer) for one, answer in answers.items() if one != key][-(MOST - 1) :]
    text = json.dumps({"format": FORMAT, "answers": dict([*kept, (key, answers[key])])})
    with contextlib.suppress(OSError):
        write_atomically(path, lambda stream: write_text(stream, text))


def _is_over(studies: Mapping[Path, Sequence[str]], state: State) -> bool:
    """Return whether nothing that is printed of studies changes unless a file does: no run goes on, no job waits."""
    ended = all((read_json(RunDir(path).status) or {}).get("state") in ENDED for path in state.unfinished)
    return ended and all(_needs_no_queue(study, names, state) for study, names in studies.items())


def _needs_no_queue(study: Path, names: Sequence[str], state: State) -> bool:
    """Return whether no job can be asked about: none was submitted, or all cells have results."""
    if not jobs_path(study).exists():
        return True
    if any(path.parent == study for path in state.unfinished):
        return False
    finished = {*names}
    return all(cell.run_id in finished for cell in read_grid(study))
