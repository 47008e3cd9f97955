"""What drives the records of a run: asks each in its steps, writes its rows, tells the tracker, and resumes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

from torch import Tensor

from dinodiet.config.build import build
from dinodiet.config.signature import Node
from dinodiet.errors import UserError
from dinodiet.run import console
from dinodiet.store.rundir import RunDir
from dinodiet.types import Batch, Clock, Record, Recorded, Row, Tracker

if TYPE_CHECKING:
    from dinodiet.store.records import RecordFiles


def build_records(nodes: Mapping[str, Node], run: Recorded) -> dict[str, Record]:
    """Return the records of a run by name, each with hold of the run.

    Raises:
        UserError: one refuses its settings, or cannot be made of this method or data; Parquet without pyarrow.
    """
    if nodes and not run.method.trains:
        raise UserError("record: the method takes no step, so that there is nothing to record; leave it out")
    if nodes:
        _need_pyarrow()
    records: dict[str, Record] = {}
    for name, node in nodes.items():
        records[name] = build(node, f"record.{name}", Record)()
        try:
            records[name].prepare(run)
        except UserError as error:
            local = str(error).partition(":")[0].isidentifier()
            raise UserError(f"record.{name}{'.' if local else ': '}{error}") from error
    return records


def _need_pyarrow() -> None:
    try:
        import pyarrow  # noqa: F401, PLC0415 - an extra
    except ImportError as error:
        raise UserError("record: Parquet needs pyarrow: pip install 'dinodiet[parquet]'") from error


class Recorder:
    """The records of a run, with their files `<run>/records/<name>/`. Without records it does nothing.

    Args:
        records: by name.
        run_dir: where the files go.
        tracker: hears of single rows too, as `record/<name>/<column>`.
    """

    def __init__(self, records: Mapping[str, Record], run_dir: RunDir, tracker: Tracker) -> None:
        self._records, self._run_dir, self._tracker = records, run_dir, tracker
        self._files: dict[str, RecordFiles] = {}

    def begin(self, clock: Clock, states: Mapping[str, Mapping[str, Any]] | None) -> None:
        """Begin at a step: a run that goes on with the states of its checkpoint, a new one (None) from nothing."""
        if self._records:
            from dinodiet.store.records import RecordFiles  # noqa: PLC0415 - pyarrow is an extra

            self._files = {name: RecordFiles(self._run_dir.records / name) for name in self._records}
        for name, record in self._records.items():
            if states is None:
                self._files[name].keep_until(-1)
                self._note(name, clock, record.begin())
            else:
                self._files[name].keep_until(clock.step)
                record.restore(states.get(name, {}))
        late = [] if states is None else [name for name in self._records if name not in states]
        console.warn(
            [f"record.{name}: the run began without it; what is measured from the start is missing" for name in late]
        )

    def on_gradients(self, clock: Clock, batch: Batch) -> None:
        """Let those records look whose step it is; `clock` is before the step."""
        for record in self._due(clock.at(clock.step + 1)).values():
            record.on_gradients(clock, batch)

    def on_step(self, clock: Clock, logs: Mapping[str, Tensor]) -> None:
        """Take the rows of a finished step."""
        for name, record in self._due(clock).items():
            self._note(name, clock, record.on_step(clock, logs))

    def before(self, on_step: Callable[[Clock, dict[str, Tensor]], None]) -> Callable[[Clock, dict[str, Tensor]], None]:
        """Return an `on_step` that takes the rows before the given one, which may write a checkpoint."""

        def both(clock: Clock, logs: dict[str, Tensor]) -> None:
            self.on_step(clock, logs)
            on_step(clock, logs)

        return both

    def flush(self) -> dict[str, dict[str, Any]]:
        """Write all rows, and return the states for the checkpoint that is then written.

        Raises:
            OSError: they cannot be written.
        """
        for files in self._files.values():
            files.flush()
        return {name: record.state() for name, record in self._records.items()}

    def _due(self, clock: Clock) -> dict[str, Record]:
        last = clock.step == clock.total_steps
        return {name: record for name, record in self._records.items() if last or clock.step % record.every_steps == 0}

    def _note(self, name: str, clock: Clock, rows: Sequence[Row]) -> None:
        epoch = round(clock.step / clock.steps_per_epoch, 4)
        self._files[name].add({"step": clock.step, "epoch": epoch, **row} for row in rows)
        if len(rows) == 1:
            numbers = {
                f"record/{name}/{column}": float(value) for column, value in rows[0].items() if isinstance(value, Real)
            }
            self._tracker.log(numbers, clock.step)
