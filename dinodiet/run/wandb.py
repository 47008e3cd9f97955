"""Weights & Biases as a tracker: its environment, its limits, and what happens where it cannot be reached."""

from __future__ import annotations

import atexit
import contextlib
import csv
import hashlib
import logging
import os
import re
import shutil
from collections.abc import Iterable, Mapping, MutableMapping
from pathlib import Path
from typing import Any, Literal

from dinodiet.errors import UserError, one_line
from dinodiet.io.room import check_room
from dinodiet.run.guarded import tell
from dinodiet.run.tracked import called, tags_of, typed
from dinodiet.store.rundir import RunDir

ID_LENGTH = 64  # the longest id of a run that W&B takes
TAG_LENGTH, NAME_LENGTH = 64, 128
NOT_IN_PROJECTS = "/\\#?%:"
INIT_SECONDS = 15.0  # for the server's first answer; `WANDB_INIT_TIMEOUT` may say another time
MOST_INIT_SECONDS = 30.0  # together with the offline record that follows it stays below `guarded.SECONDS`
FINISH_SECONDS = 30.0  # for what is still to be sent when the run ends; below `guarded.SECONDS` too
ROOM = 2**18  # bytes that a record needs at least
Mode = Literal["online", "offline", "disabled"]
Known = Literal["online", "offline", "disabled", "shared"]
MODES: dict[str, Known] = {
    "online": "online",
    "run": "online",
    "shared": "shared",
    "offline": "offline",
    "dryrun": "offline",
    "disabled": "disabled",
}


class Wandb:
    """Weights & Biases: a run is named by study and run id there, grouped by study, with its method as type of job.

    Tags are those that are given, and study, model, dataset, method and seed.

    What is None follows W&B's environment: WANDB_PROJECT (else dinodiet), WANDB_ENTITY, WANDB_MODE (else online) and
    WANDB_TAGS. WANDB_DISABLED=true keeps no record, whatever is set here. WANDB_DIR, WANDB_NAME and WANDB_RUN_GROUP
    count too.

    A resumed run continues its record. Online W&B sees to that. Offline it would leave a part for every start: the
    record is written anew instead, from `metrics.jsonl`, so that `wandb sync` finds one whole run.

    `online` without an account or network turns into `offline` with a warning: tracking never stops a run. What a
    server that is gone did not take until the end is kept in the folder, and the warning says how to send it.

    Raises:
        UserError: W&B does not take a project, entity or tag, or WANDB_MODE is none of its modes.
    """

    def __init__(
        self,
        *,
        project: str | None = None,
        entity: str | None = None,
        mode: Mode | None = None,
        tags: list[str] | None = None,
    ) -> None:
        environment = os.environ
        project = project if project is not None else environment.get("WANDB_PROJECT") or "dinodiet"
        entity = entity if entity is not None else environment.get("WANDB_ENTITY") or None
        _check(project, entity, _tags(environment) if tags is None else tags)
        self._options: dict[str, Any] = {"project": project, "entity": entity, "tags": tags}
        self._mode = _mode(mode, environment)
        self._run: Any = None
        self._earlier: RunDir | None = None  # holds what was logged before this start, until that is logged again

    def start(self, run_id: str, config: dict[str, Any], folder: Path) -> None:
        """Begin the record in `wandb/` below `folder`, or below WANDB_DIR."""
        if self._mode == "disabled":
            return
        import wandb  # noqa: PLC0415 - a second of start-up that other runs do not pay

        study, environment = str(config["name"]), os.environ
        options = {**self._options, "id": wandb_id(study, run_id), "name": environment.get("WANDB_NAME") or run_id}
        names = called(run_id, config)
        options |= {"group": environment.get("WANDB_RUN_GROUP") or study, "config": config}
        own = _tags(environment) if options["tags"] is None else options["tags"]
        options |= {"job_type": names.get("method"), "tags": tags_of(names, own, TAG_LENGTH)}
        options |= {"dir": environment.get("WANDB_DIR") or str(folder)}
        check_room(Path(options["dir"]), ROOM)
        _quieten(environment)
        options["settings"] = _settings(environment)
        reason = None
        if self._mode != "offline":
            reason = self._start_online(options)
            if reason is None:
                return
        self._forget_parts(folder, Path(options["dir"]), options["id"])
        try:
            wandb.setup(settings=wandb.Settings(silent=True))  # of init alone, what fails at the end is still printed
            self._run = wandb.init(mode="offline", **options)
        finally:
            atexit.register(_disarm)
        if reason is not None:
            tell(f"tracker: {reason}; keeping the record offline")

    def _start_online(self, options: dict[str, Any]) -> str | None:
        """Begin an online record; return None, or why there is none."""
        import wandb  # noqa: PLC0415

        try:
            wandb.setup(settings=wandb.Settings(silent=True))
            if not wandb.login(prompt=False, verify=False):
                return "no W&B account is set up here (wandb login)"
            self._run = wandb.init(mode=self._mode, resume="allow", **options)
        except (Exception, SystemExit) as error:
            _disarm()  # a record that failed keeps its id, which the offline one is to have
            return f"W&B cannot be reached ({one_line(error)})"
        finally:
            atexit.register(_disarm)
        return None

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Note metrics at an optimiser step."""
        if self._run is not None:
            self._log_earlier(before=step)
            self._run.log(metrics, step=step)

    def figure(self, name: str, path: Path) -> None:
        """Show an image file."""
        if self._run is not None:
            import wandb  # noqa: PLC0415

            self._run.log({name: wandb.Image(str(path))})

    def table(self, name: str, path: Path) -> None:
        """Show a CSV file whose first line names the columns."""
        if self._run is not None:
            import wandb  # noqa: PLC0415

            with path.open(newline="") as stream:
                columns, *rows = csv.reader(stream)
            heads, lines = list[str | int](columns), list[Iterable[Any]](typed(rows))
            self._run.log({name: wandb.Table(columns=heads, data=lines, allow_mixed_types=True)})

    def finish(self, summary: dict[str, float], exit_code: int = 0) -> None:
        """Note the final scores and close the record; a no-op where it was never begun."""
        if self._run is not None:
            import wandb  # noqa: PLC0415

            self._log_earlier()
            self._run.summary.update(summary)
            record, self._run, place = self._run, None, Path(self._run.dir).parent
            try:
                record.finish(exit_code=exit_code)
            except TimeoutError as error:
                raise TimeoutError(f"the server did not take all; send it with: wandb sync {place}") from error
            wandb.teardown()  # else it is waited for at the end of Python, without a limit
            atexit.unregister(_disarm)
            check_room(place, ROOM)
            if reason := _refused(place):
                raise ConnectionError(f"{reason}; send it with: wandb sync {place}")

    def _forget_parts(self, folder: Path, where: Path, record: str) -> None:
        """Remove the offline parts of earlier starts: what they hold is in `metrics.jsonl` too, and is logged again."""
        for part in (where / "wandb").glob(f"offline-run-*-{record}"):
            shutil.rmtree(part)
            self._earlier = RunDir(folder)

    def _log_earlier(self, before: int | None = None) -> None:
        """Log once more what earlier starts logged, up to the checkpoint that this start continues from."""
        if self._earlier is None:
            return
        for row in self._earlier.read_metrics():
            if before is None or row["step"] < before:
                self._run.log({key: value for key, value in row.items() if key != "step"}, step=row["step"])
        self._earlier = None


def _disarm() -> None:
    """End W&B's process and forget it, without waiting: at the end of Python it would be waited for, for ever."""
    with contextlib.suppress(Exception):  # what is looked at here is W&B's own
        from wandb.sdk import wandb_setup  # noqa: PLC0415

        singleton, wandb_setup._singleton = wandb_setup._singleton, None
        connection = None if singleton is None else singleton._connection
        if connection is not None:
            connection._cleanup()  # type: ignore[misc]
            connection._proc._process.kill()  # type: ignore[union-attr]
            connection._proc.join()  # type: ignore[union-attr]
    os.environ.pop("WANDB_SERVICE", None)


def _mode(mode: Mode | None, environment: Mapping[str, str]) -> Known:
    if environment.get("WANDB_DISABLED", "").lower() in ("true", "1", "yes", "on"):
        return "disabled"
    if mode is not None:
        return mode
    wanted = environment.get("WANDB_MODE") or "online"
    if wanted not in MODES:
        raise UserError(f"mode: WANDB_MODE={wanted!r} is none of W&B's; choose from: online, offline, disabled")
    return MODES[wanted]


def _tags(environment: Mapping[str, str]) -> list[str]:
    return [tag for tag in environment.get("WANDB_TAGS", "").split(",") if tag]


def _quieten(environment: MutableMapping[str, str]) -> None:
    """Keep W&B from waiting for a server that is gone, and from tracebacks where its own log cannot be written."""
    environment.setdefault("WANDB_ERROR_REPORTING", "false")
    logging.raiseExceptions = False


def _refused(place: Path) -> str | None:
    """Return why a server took no more of a record, which W&B writes into its log alone; None: it did, or no log."""
    with contextlib.suppress(OSError):
        text = (place / "logs" / "debug-internal.log").read_text(errors="replace")
        if found := re.search(r'filestream: fatal error: (?:filestream: )?([^"]{1,200}?)[:\s]*"', text):
            return found[1]
    return None


def _settings(environment: Mapping[str, str]) -> Any:
    import wandb  # noqa: PLC0415

    seconds: dict[str, Any] = {"init_timeout": _init_seconds(environment), "finish_timeout": FINISH_SECONDS}
    return wandb.Settings(silent=True, console="off", finish_timeout_raises=True, **seconds)


def _init_seconds(environment: Mapping[str, str]) -> float:
    with contextlib.suppress(ValueError):
        return min(float(environment.get("WANDB_INIT_TIMEOUT", INIT_SECONDS)), MOST_INIT_SECONDS)
    return INIT_SECONDS


def _check(project: str, entity: str | None, tags: list[str]) -> None:
    """Refuse what W&B would refuse when the run begins, or its server after that."""
    if not 0 < len(project.strip()) <= NAME_LENGTH or set(project) & set(NOT_IN_PROJECTS) or not project.isprintable():
        raise UserError(
            f"project: {project!r}; must not be empty, at most {NAME_LENGTH} characters, none of {NOT_IN_PROJECTS}"
        )
    if entity is not None and not re.fullmatch(r"[\w.-]{1,128}", entity):
        raise UserError(f"entity: {entity!r}; must be a user or team of W&B: letters, digits, - and _")
    for tag in tags:
        if not 0 < len(tag.strip()) <= len(tag) <= TAG_LENGTH:
            raise UserError(f"tags: {tag!r}; a tag has 1 to {TAG_LENGTH} characters")


def wandb_id(study: str, run_id: str) -> str:
    """Return the id of a run at W&B: of another study another one; of letters that W&B takes, and short enough."""
    text = re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{study}-{run_id}")
    if len(text) <= ID_LENGTH:
        return text
    return f"{text[: ID_LENGTH - 9]}-{hashlib.sha256(f'{study}/{run_id}'.encode()).hexdigest()[:8]}"
