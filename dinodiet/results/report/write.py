"""`--html FILE`: the whole report as one file that needs no network; pictures are in it as far as there is room."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from dinodiet.errors import printable
from dinodiet.results.render import write_text
from dinodiet.results.report import overview, run_page
from dinodiet.results.report.page import Links, Page, document
from dinodiet.results.report.study import Study
from dinodiet.results.runs import Run

ROOM = 12 * 2**20  # bytes of pictures as text; with plotly (5 MB) and tables a file can be mailed
WIDEST = 1600  # pixels of a picture
KINDS = {"PNG": "png", "JPEG": "jpeg", "WEBP": "webp"}


class Pictures:
    """Pictures as text in a file: each once, until the room is used up."""

    def __init__(self, room: int = ROOM) -> None:
        self.left_out = 0
        self._room, self._known = room, dict[Path, str | None]()

    def __call__(self, path: Path) -> str | None:
        """Return a picture as the source of an element; None: there is no room for it, or it is none."""
        if path not in self._known:
            self._known[path] = self._fitting(inlined(path))
        return self._known[path]

    def _fitting(self, source: str | None) -> str | None:
        if source is None or len(source) > self._room:
            self.left_out += 1
            return None
        self._room -= len(source)
        return source


def inlined(path: Path) -> str | None:
    """Return a picture as a data URL: as it is, or as WebP where that is smaller; None: it cannot be read."""
    from PIL import Image  # noqa: PLC0415 - for reports

    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            kind = KINDS[str(image.format)]
            if max(image.size) <= WIDEST or path.stem == run_page.THUMBNAILS:  # whose places count
                return _url(kind, content)
            image.thumbnail((WIDEST, WIDEST))
            smaller = io.BytesIO()
            image.convert("RGB").save(smaller, "WEBP", quality=80, method=0)
            return _url("webp", smaller.getvalue())
    except (OSError, KeyError, ValueError, Image.DecompressionBombError):
        return None


def _url(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def write_html(study: Study, path: Path) -> str:
    """Write the report of a study, with a page for each run, and return what was written in one line.

    Raises:
        UserError: plotly or Jinja is missing.
        OSError: the file cannot be written.
    """
    places = {run.path: place for place, run in enumerate(study.runs)}
    pictures = Pictures()
    links = Links(lambda run: f"#run-{places[run.path]}" if run.path in places else None, pictures)
    pages = [Page("overview", study.title, overview.sections(study)), *run_pages(study, study.runs)]
    made = f"made {datetime.now().astimezone():%Y-%m-%d %H:%M %Z}"
    write_text(document(pages, links, made=made), path)
    left = f", {pictures.left_out} pictures left out" if pictures.left_out else ""
    return f"wrote {path}: {len(study.runs)} runs, {path.stat().st_size / 1e6:.1f} MB{left}"


def run_pages(study: Study, runs: Iterable[Run]) -> Iterable[Page]:
    """Yield the page of each run, with a bar."""
    from tqdm import tqdm  # noqa: PLC0415 - for reports

    for place, run in enumerate(tqdm(list(runs), "report", unit="run", disable=None, leave=False)):
        yield Page(f"run-{place}", printable(run.name), run_page.sections(study, run))
