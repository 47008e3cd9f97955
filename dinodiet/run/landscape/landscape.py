"""mode=landscape: the points of a plane in parts, and what is written when all are there."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from dinodiet.config.build import build
from dinodiet.config.identity import digest
from dinodiet.config.settings import Settings
from dinodiet.errors import UserError, one_line
from dinodiet.io.files import read_json, write_json
from dinodiet.io.limits import limit_of
from dinodiet.methods.base import MethodBase
from dinodiet.run.backbone import build_backbone
from dinodiet.run.exclusive import exclusive
from dinodiet.run.landscape.measure import Measurer
from dinodiet.run.landscape.places import Networks, Point, State, kept_states, point_of, state_of
from dinodiet.run.landscape.plane import around, grid, plane_through, steps
from dinodiet.run.parts import open_data, runtime_of
from dinodiet.run.trained import place_of
from dinodiet.run.weights import read_whole
from dinodiet.store.rundir import RunDir
from dinodiet.store.scores import read_results
from dinodiet.store.status import Status
from dinodiet.types import Clock, Method

PARTS = ".parts"  # a folder whose name begins so holds no runs to those who look for some
MOST_NAMED = 5


class MeasuredPlane:
    """The plane of a landscape and what measures its points; built of a run's own configuration.

    Raises:
        UserError: a point is missing or of another network, the method has no teacher, or there is no plane.
    """

    def __init__(self, settings: Settings) -> None:
        wanted = settings.landscape
        self.settings, self.own = settings, RunDir(place_of(settings))
        self.points = points_of(settings)
        runtime, data = runtime_of(settings), open_data(settings.dataset, cache=settings.cache)
        backbone = build_backbone(settings, data.spec)
        method: MethodBase = build(settings.method, "method", Method)(backbone=backbone, spec=data.spec)
        self.networks = Networks(method.to(runtime.device), head=wanted.head)
        begun = {name: tensor.detach().clone() for name, tensor in method.state_dict().items()}
        states = [state_of(point, self.own, begun) for point in self.points]
        self.vectors = [self.networks.vector(p.role, state) for p, state in zip(self.points, states, strict=True)]
        self.plane = plane_through(self.vectors, wanted.origin, wanted.axes)
        first, clock = (self.points[0].role, states[0]), _end(self.own, settings)
        self.measurer = Measurer(self.networks, first, data, backbone.input, runtime, clock, wanted)
        self.begun = begun

    @functools.cached_property
    def grid(self) -> list[tuple[float, float]]:
        """Return the points of the grid."""
        wanted, places = self.settings.landscape, [self.plane.coordinates(vector) for vector in self.vectors]
        xs, ys = zip(*places, strict=True)
        return grid(
            around(xs) if wanted.x is None else steps(wanted.x, "x"),
            around(ys) if wanted.y is None else steps(wanted.y, "y"),
        )

    def path(self) -> list[dict[str, Any]]:
        """Return where the three points and the networks of the run are: x, y, and the distance from the plane."""
        rows = [self._row(str(point), None, vector) for point, vector in zip(self.points, self.vectors, strict=True)]
        for step, file in {0: None, **kept_states(self.own)}.items():
            state: State = self.begun if file is None else read_whole(file)
            rows += [self._row(role, step, self.networks.vector(role, state)) for role in ("teacher", "student")]
        return rows

    def _row(self, what: str, step: int | None, vector: Tensor) -> dict[str, Any]:
        x, y = self.plane.coordinates(vector)
        return {"what": what, "step": step, "x": x, "y": y, "distance": self.plane.distance(vector)}


def points_of(settings: Settings) -> list[Point]:
    """Return the three points of a landscape.

    Raises:
        UserError: they are not three, or one is no network of a finished run.
    """
    texts = settings.landscape.points
    if len(texts) != 3:
        raise UserError(f"landscape.points: {', '.join(texts) or 'none'}; a plane goes through three")
    return [point_of(text, RunDir(place_of(settings))) for text in texts]


def _end(run_dir: RunDir, settings: Settings) -> Clock:
    """Return the clock at the end of a run."""
    taken = int((read_results(run_dir) or {}).get("steps") or 1)
    told = [row["step"] / row["epoch"] for row in run_dir.read_metrics() if row.get("epoch")]
    return Clock(taken, taken, round(told[-1]) if told else taken, seed=settings.seed)


def folder_of(settings: Settings) -> Path:
    """Return the folder of a landscape: below its study, named by the run and what is looked at."""
    own, wanted = RunDir(place_of(settings)), {**asdict(settings.landscape), "part": None}
    what = {**wanted, "points": [str(point) for point in points_of(settings)], "precision": settings.precision}
    return own.path.parent / "landscapes" / f"{own.path.name}_{digest(what)}"


def part_names(settings: Settings) -> list[str]:
    """Return the names of the cells of a landscape, which are `chunk` points each."""
    wanted = settings.landscape
    sizes = [
        len(around([0, 1])) if one is None else len(steps(one, key)) for key, one in (("x", wanted.x), ("y", wanted.y))
    ]
    return [f"part{number:04}" for number in range(-(-sizes[0] * sizes[1] // wanted.chunk))]


def landscape(settings: Settings) -> dict[str, Any]:
    """Measure what is missing of a landscape, or of one part of it, and write the table and the picture.

    Raises:
        UserError: as `MeasuredPlane`; points failed: the table lacks them, and the same command tries them again.
    """
    from dinodiet.run.landscape.written import finish  # noqa: PLC0415 - pandas, which takes half a second

    points_of(settings)
    names, built = part_names(settings), functools.cache(lambda: MeasuredPlane(settings))
    if (part := settings.landscape.part) is not None:
        if part >= len(names):
            raise UserError(f"landscape.part: {part}; choose from 0 to {len(names) - 1}, or null for all")
        return {"points": _measured(settings, names[part], built)}
    failed = [reason for name in names if (reason := _attempted(settings, name, built)) is not None]
    return finish(settings, built(), failed)


def _attempted(settings: Settings, name: str, built: Callable[[], MeasuredPlane]) -> str | None:
    """Measure a part where it is not done; return why points of it failed, or None."""
    if read_json(parts_folder(settings) / name / "results.json") is not None:
        return None
    try:
        _measured(settings, name, built)
    except PointsFailedError as error:
        return str(error)
    return None


class PointsFailedError(UserError):
    """Some points of a part could not be measured."""


def parts_folder(settings: Settings) -> Path:
    """Return the folder of the cells of a landscape."""
    return folder_of(settings) / PARTS


def _measured(settings: Settings, name: str, built: Callable[[], MeasuredPlane]) -> int:
    """Measure the points of a part that are missing, one row each; return how many the part has.

    Raises:
        PointsFailedError: some could not be measured; they are told in the part's rows.
    """

    run_dir = RunDir(parts_folder(settings) / name)
    with exclusive(run_dir), Status(run_dir):
        plane, size = built(), settings.landscape.chunk
        first = int(name.removeprefix("part")) * size
        mine = dict(list(enumerate(plane.grid))[first : first + size])
        _keep_whole_rows(run_dir)
        there = {row["step"] for row in run_dir.read_metrics()}
        for number in mine.keys() - there:
            run_dir.append_metrics({"step": number, **_row(plane, *mine[number])})
        failed = [row for row in run_dir.read_metrics() if row["failure"] is not None]
        if failed:
            raise PointsFailedError(named(failed))
        write_json(run_dir.results, {"points": len(mine)})
    return len(mine)


def _keep_whole_rows(run_dir: RunDir) -> None:
    """Drop a row that was cut off, and those of points that failed, to be measured again."""
    rows = [row for row in run_dir.read_metrics() if row.get("failure") is None]
    run_dir.metrics.unlink(missing_ok=True)
    for row in rows:
        run_dir.append_metrics(row)


def _row(plane: MeasuredPlane, x: float, y: float) -> dict[str, Any]:
    """Return what is measured at a point; where that fails, why."""
    try:
        return {"x": x, "y": y, **plane.measurer.at(plane.plane.at(x, y).float()), "failure": None}
    except UserError:
        raise
    except Exception as error:
        if limit_of(error) is not None:
            raise
        return {"x": x, "y": y, "failure": f"{type(error).__name__}: {one_line(error)}"}


def named(failed: Sequence[dict[str, Any]]) -> str:
    """Return which points failed, and why, in one line."""
    shown = [f"({row['x']:.4g}, {row['y']:.4g}) {row['failure']}" for row in failed[:MOST_NAMED]]
    more = f" and {len(failed) - MOST_NAMED} more" if len(failed) > MOST_NAMED else ""
    return f"{len(failed)} points failed: {'; '.join(shown)}{more}"
