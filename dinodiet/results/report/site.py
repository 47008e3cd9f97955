"""The pages of a live report, read from disk at each request: what an address leads to, and what is never shown."""

from __future__ import annotations

import mimetypes
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

from dinodiet.errors import printable
from dinodiet.results.report import overview, run_page
from dinodiet.results.report.page import Links, Page, document, fragment, plotly
from dinodiet.results.report.study import Study, read_study
from dinodiet.results.runs import Run
from dinodiet.results.tidy import Where
from dinodiet.store.rundir import RunDir

REFRESH_SECONDS = 10  # between two looks of a page at the server
FRESH_SECONDS = 2.0  # for so long what was read answers further requests of the same page
FROM_SCORES = ("change", "map", "tests")  # sections that stay as they are until a score changes
HTML, SCRIPT = "text/html; charset=utf-8", "text/javascript; charset=utf-8"
SHOWN = (".png", ".jpg", ".jpeg", ".webp")  # artefacts that are sent


@dataclass(frozen=True)
class Answer:
    """What a request gets; `lasting`: it may be kept by the browser."""

    body: bytes
    kind: str = HTML
    lasting: bool = False


@dataclass
class Site:
    """A live report of the runs below some paths."""

    paths: Sequence[Path]
    where: Where = field(default_factory=dict)
    metrics: Sequence[str] = ()
    _read: tuple[float, Study] | None = None
    _made: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def study(self) -> Study:
        """Return what lies on disk now, or did less than two seconds ago.

        Raises:
            UserError: as `read_study`.
        """
        with self._lock:
            if self._read is None or time.monotonic() - self._read[0] > FRESH_SECONDS:
                study = read_study(self.paths, self.where, self.metrics)
                self._read = (time.monotonic(), study)
            return self._read[1]

    def answer(self, address: str) -> Answer | None:
        """Return what lies at a path such as `/run/study/name`; None: nothing that is shown.

        Raises:
            UserError: the study cannot be read.
        """
        parts = [os.fsdecode(unquote_to_bytes(part)) for part in address.strip("/").split("/")]
        match parts:
            case [""]:
                return self._overview()
            case ["plotly.js"]:
                return Answer(plotly().encode(), SCRIPT, lasting=True)
            case ["section", name] if name in overview.LATER:
                return self._section(name)
            case ["run", study, name]:
                return self._of_run(study, name, self._run)
            case ["artefact", study, name, *inside] if inside:
                return self._of_run(study, name, lambda _, run: artefact(run, inside))
        return None

    def _overview(self) -> Answer:
        study = self.study()
        return _page(study, Page("overview", study.title, overview.live_sections(study, "/section")))

    def _section(self, name: str) -> Answer:
        study = self.study()
        read = hash(tuple(tuple(run.record.items()) for run in study.done))
        if name not in FROM_SCORES or self._made.get(name, (None, b""))[0] != read:
            self._made[name] = (read, fragment(overview.one_section(study, name), _links(study)).encode())
        return Answer(self._made[name][1])

    def _of_run(self, label: str, name: str, shown: Callable[[Study, Run], Answer | None]) -> Answer | None:
        study = self.study()
        found = (run for run in study.runs if run.name == name and str(run.record.get("study")) == label)
        run = next(found, None)
        return None if run is None else shown(study, run)

    def _run(self, study: Study, run: Run) -> Answer:
        return _page(study, Page("run", printable(run.name), run_page.sections(study, run)))


def _page(study: Study, page: Page) -> Answer:
    made = f"live, {time.strftime('%Y-%m-%d %H:%M:%S')}"
    return Answer(document([page], _links(study), made=made, live=REFRESH_SECONDS).encode())


def _links(study: Study) -> Links:
    places = {run.path: address_of(run) for run in study.runs}

    def picture(path: Path) -> str | None:
        run = next((parent for parent in path.parents if parent in places), None)
        if run is None:
            return None
        inside = path.relative_to(RunDir(run).artefacts).parts
        return f"/artefact/{places[run]}/{'/'.join(_quoted(part) for part in inside)}"

    return Links(lambda run: f"/run/{places[run.path]}" if run.path in places else None, picture)


def address_of(run: Run) -> str:
    """Return the two parts of an address that name a run: its study's label and its own name."""
    return f"{_quoted(str(run.record.get('study', '')))}/{_quoted(run.name)}"


def _quoted(name: str) -> str:
    return quote(os.fsencode(name), safe="")


def artefact(run: Run, inside: Sequence[str]) -> Answer | None:
    """Return a picture of a run; None for all else: other files, `..`, and links that lead out of the study."""
    folder = RunDir(run.path).artefacts
    if any(part in ("", ".", "..") or "/" in part or "\0" in part for part in inside):
        return None
    try:
        path = folder.joinpath(*inside).resolve(strict=True)
        kept = path.is_relative_to(run.study.resolve()) and path.is_file()
        if not kept or path.suffix.lower() not in SHOWN:
            return None
        return Answer(path.read_bytes(), mimetypes.guess_type(path.name)[0] or "application/octet-stream")
    except OSError:
        return None
