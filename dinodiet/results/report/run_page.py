"""The page of one run: what it is, its scores, curves, maps and pictures, its log and its configuration."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from dinodiet.errors import printable
from dinodiet.results.curves import title_of
from dinodiet.results.one_run import curves_of
from dinodiet.results.record import COSTS
from dinodiet.results.render import number
from dinodiet.results.report import plots
from dinodiet.results.report.elements import (
    Cell,
    Element,
    Lines,
    Note,
    Picture,
    Plot,
    Section,
    Table,
    cells,
    scored,
    slug,
    value_of,
)
from dinodiet.results.report.progress import MOST_POINTS, last_lines
from dinodiet.results.report.study import Study
from dinodiet.results.runs import Run
from dinodiet.results.tidy import ALWAYS, ends_of, text
from dinodiet.store.rundir import RunDir

MAP, THUMBNAILS = "map.csv", "thumbnails"  # what `eval=map` writes
BOTH = "before_after"  # the folder of pictures of both phases, which replace those of each
LOG_LINES = 60
MOST_CONFIG = 60_000  # letters of a configuration


def sections(study: Study, run: Run) -> list[Section]:
    """Return the sections of a run's page."""
    run_dir = RunDir(run.path)
    looked_at = list(pictures(run_dir.artefacts))
    made = [
        Section("about", "About", [about(study, run)]),
        Section("run-scores", "Scores", [scores(run)]),
        Section("run-curves", "Curves", list(curves(run)), side_by_side=True),
        Section("maps", "Maps", list(maps(run_dir.artefacts)), side_by_side=True),
        Section("pictures", "Pictures", looked_at, side_by_side=True),
        Section("log", "Log and configuration", list(texts(run_dir))),
    ]
    return [section for section in made if section.elements]


def about(study: Study, run: Run) -> Table:
    """Return what a run is: its state, its choices, and the settings in which runs of the study differ."""
    status = study.states[run.path]
    rows = [("state", status.state.value), *([("why", status.reason)] if status.reason else [])]
    rows += [(key, text(run.record[key])) for key in (*ALWAYS, *study.differing) if key in run.record]
    costs = {key: value_of(run.record, f"final/{key}") for key in COSTS}
    rows += [(key, number(value)) for key, value in costs.items() if value is not None]
    return Table(
        "about", "What this run is, and where it differs from others", ["key", "value"], [cells(*row) for row in rows]
    )


def scores(run: Run) -> Element:
    """Return all scores before and after, with the interval of those after."""
    ends = [key.partition("/")[2] for key in run.record if key.startswith(("final/", "initial/"))]
    names = [name for name in dict.fromkeys(ends) if name not in COSTS]
    if not names:
        return Note("No score yet.")
    left_out = {key.partition("/")[2]: why for key, why in run.record.items() if key.startswith("skipped/")}
    note = "; ".join(f"{name} is left out: {why}" for name, why in left_out.items())
    heads = ["metric", "initial", "final", "change", "95 % of final"]
    return Table("run-scores", "Scores", heads, [_score(run, name) for name in names], note)


def _score(run: Run, name: str) -> list[Cell]:
    before, after, change = ends_of(run, name)
    low, high = (value_of(run.record, f"{end}/final/{name}") for end in ("low", "high"))
    interval = "" if low is None or high is None else f"{number(low)} to {number(high)}"
    return [Cell(name), scored(before), scored(after), scored(change, signed=True), Cell(interval)]


def curves(run: Run) -> Iterator[Plot]:
    """Yield the loss and each score on validation by epoch, of two points or more."""
    for name, found in curves_of(run).items():
        if len(found) > 1:
            title, (epochs, values) = title_of(name), zip(*found[:: -(-len(found) // MOST_POINTS)], strict=True)
            layout = plots.axes("epoch", title, height=260, showlegend=False)
            line = plots.line(title, epochs, values, 0)
            yield Plot(slug(f"curve-{name}"), title, [line], layout, ["epoch", name], found, f"{title} by epoch.")


def maps(artefacts: Path) -> Iterator[Plot]:
    """Yield the embeddings of the run's images in the plane, with each image where the pointer is."""

    def place(path: Path) -> tuple[object, ...]:
        phase, *what = path.relative_to(artefacts).parts
        return what, _order(phase)

    for path in sorted(artefacts.glob(f"*/*/**/{MAP}"), key=place):
        if rows := _table(path):
            yield _map(path, rows, told(path, artefacts))


def _map(path: Path, rows: list[dict[str, str]], title: str) -> Plot:
    groups: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        groups.setdefault(row["label"], []).append(place)
    shown = next((file for file in sorted(path.parent.glob(f"{THUMBNAILS}.*"))), None)
    traces = [
        _points(name, [(place, rows[place]) for place in groups[name]], at) for at, name in enumerate(sorted(groups))
    ]
    layout = plots.axes("", "", height=460, showlegend=len(groups) > 1)
    layout["xaxis"] |= {"showticklabels": False, "zeroline": False}
    layout["yaxis"] |= {"showticklabels": False, "zeroline": False}
    heads = list(rows[0])
    said = f"{title}: {len(rows)} images in the plane, near ones alike; colour and mark are the class."
    return Plot(slug(title), title, traces, layout, heads, [list(row.values()) for row in rows], said, shown)


def _points(name: str, rows: list[tuple[int, dict[str, str]]], place: int) -> plots.Trace:
    x, y = ([float(row[axis]) for _, row in rows] for axis in "xy")
    texts = [f"{plots.plain(row['label'])}<br>{plots.plain(row['file'], 60)}" for _, row in rows]
    marker = {**plots.style(place)["marker"], "size": 6, "opacity": 0.8}
    shown = {"name": plots.plain(name or "no label"), "mode": "markers", "marker": marker}
    return {
        **shown,
        "x": x,
        "y": y,
        "customdata": [at for at, _ in rows],
        "text": texts,
        "hovertemplate": "%{text}<extra></extra>",
    }


def _table(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8", errors="replace") as stream:
            return [
                row
                for row in csv.DictReader(stream)
                if None not in row and _is_number(row.get("x")) and _is_number(row.get("y"))
            ]
    except (OSError, csv.Error):
        return []


def _is_number(value: str | None) -> bool:
    try:
        return value is not None and abs(float(value)) < float("inf")
    except ValueError:
        return False


def pictures(artefacts: Path) -> Iterator[Picture]:
    """Yield the pictures of evaluators: before and after in one where there is such a one, else one after the other."""
    found: dict[tuple[str, ...], dict[str, Path]] = {}
    for path in sorted(artefacts.glob("*/*/**/*.png")):
        phase, *what = path.relative_to(artefacts).parts
        if path.stem != THUMBNAILS:
            found.setdefault(tuple(what), {})[phase] = path
    for phases in found.values():
        for phase in [BOTH] if BOTH in phases else sorted(phases, key=_order):
            yield Picture(told(phases[phase], artefacts), phases[phase])


def _order(phase: str) -> tuple[bool, str]:
    """Return what sorts phases: what was after the training comes last."""
    return phase == "final", phase


def told(path: Path, artefacts: Path) -> str:
    """Return what an artefact is, in words: `outliers, apart, train, final`."""
    phase, evaluator, *splits = path.parent.relative_to(artefacts).parts
    shown = [evaluator, path.stem, *(split for split in splits if split != "test"), phase.replace("_", " and ")]
    return printable(", ".join(dict.fromkeys(shown)))


def texts(run_dir: RunDir) -> Iterator[Lines]:
    """Yield the end of the log and the configuration."""
    if log := last_lines(run_dir.path, LOG_LINES):
        yield Lines(f"The last {LOG_LINES} lines of the log", log)
    try:
        config = run_dir.config.read_text(encoding="utf-8", errors="replace")[:MOST_CONFIG]
    except OSError:
        return
    yield Lines("Configuration", "\n".join(printable(line) for line in config.split("\n")))
