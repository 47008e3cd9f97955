"""TensorBoard as a tracker: scalars, figures, tables as text, and hyper-parameters beside final scores."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dinodiet.errors import UserError
from dinodiet.results.record import science
from dinodiet.run.tracked import CHOICES, called

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FOLDER = "tensorboard"  # of the run directory: `tensorboard --logdir outputs/study` shows a study
ENDING = ".ending"  # of the file that is written when a run ends, and anew when scores are added
MOST_ROWS = 200  # of a table


class TensorBoard:
    """Event files in `tensorboard/` of the run directory.

    A resumed run goes on in a file of its own, whose first event tells readers to forget what was logged from that step
    on; see `SessionLog.START` of TensorBoard. What is written at the end (figures, tables, scores, hyper-parameters)
    has a file of its own, which takes the place of an earlier one.

    Raises:
        UserError: the package tensorboard is missing.
    """

    def __init__(self) -> None:
        try:
            import tensorboard  # noqa: F401, PLC0415 - an extra
        except ImportError as error:
            raise UserError("it needs the package tensorboard: pip install 'dinodiet[tensorboard]'") from error
        self._folder: Path | None = None
        self._metrics: SummaryWriter | None = None
        self._ending: SummaryWriter | None = None
        self._told: dict[str, str | int | float | bool] = {}
        self._step = 0

    def start(self, run_id: str, config: dict[str, Any], folder: Path) -> None:
        """Note where the files go and what the run is; they are opened when there is something to write."""
        self._folder = folder / FOLDER
        values = science({key: value for key, value in config.items() if key != CHOICES})
        self._told = {"run": run_id, **called(run_id, config), **{key: _plain(value) for key, value in values.items()}}

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Note metrics at an optimiser step."""
        if self._folder is None:
            return
        if self._metrics is None:
            resumed = any(self._folder.glob("events.*"))
            self._metrics = _writer(self._folder, purge_step=step if resumed else None)
        for name, value in metrics.items():
            self._metrics.add_scalar(name, value, step)
        self._metrics.flush()  # a run that is killed has what it logged
        self._step = max(self._step, step)

    def figure(self, name: str, path: Path) -> None:
        """Show an image file."""
        if self._folder is not None:
            import numpy as np  # noqa: PLC0415
            from PIL import Image  # noqa: PLC0415

            with Image.open(path) as image:
                self._last().add_image(name, np.asarray(image.convert("RGB")), self._step, dataformats="HWC")

    def table(self, name: str, path: Path) -> None:
        """Show the first rows of a CSV file as a table in text."""
        if self._folder is not None:
            with path.open(newline="") as stream:
                heads, *rows = csv.reader(stream)
            self._last().add_text(name, _markdown(heads, rows), self._step)

    def finish(self, summary: dict[str, float], exit_code: int = 0) -> None:
        """Note the scores, beside the hyper-parameters that they belong to, and close the files."""
        if self._folder is None:
            return
        if summary:
            ending = self._last()
            scores = {name: value for name, value in summary.items() if not math.isnan(value)}
            for name, value in scores.items():
                ending.add_scalar(name, value, 0 if name.startswith("initial/") else self._step)
            _add_hyperparameters(ending, self._told, scores)
        for writer in (self._metrics, self._ending):
            if writer is not None:
                writer.close()
        self._metrics = self._ending = None

    def _last(self) -> SummaryWriter:
        """Return the writer of what is written at the end; the file of an earlier end is removed."""
        assert self._folder is not None
        if self._ending is None:
            for file in self._folder.glob(f"events.*{ENDING}"):
                file.unlink()
            self._ending = _writer(self._folder, filename_suffix=ENDING)
        return self._ending


def _writer(folder: Path, **options: Any) -> SummaryWriter:
    from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - a second of start-up

    return SummaryWriter(str(folder), **options)


def _add_hyperparameters(writer: SummaryWriter, told: Mapping[str, Any], scores: Mapping[str, float]) -> None:
    """Write them into the same file: torch's own `add_hparams` makes a folder, which would be shown as another run."""
    from torch.utils.tensorboard.summary import hparams  # noqa: PLC0415

    for event in hparams(dict(told), dict(scores)):
        writer._get_file_writer().add_summary(event)


def _plain(value: Any) -> str | int | float | bool:
    return value if isinstance(value, (str, int, float, bool)) else str(value)


def _markdown(heads: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown, which TensorBoard draws; cells keep their text."""
    lines = [heads, ["---"] * len(heads), *rows[:MOST_ROWS]]
    told = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
    more = [f"\n{len(rows) - MOST_ROWS} more rows are in the file"] if len(rows) > MOST_ROWS else []
    return "\n".join([*told, *more])
