"""How a training went, among the artefacts of its run: tables and figures, which trackers show too."""

from __future__ import annotations

from dinodiet.errors import one_line
from dinodiet.io.files import write_csv
from dinodiet.results.figures import save
from dinodiet.results.score_rows import COLUMNS, Summary, score_rows
from dinodiet.results.training_curves import loss_curves, validation_curves, validation_table
from dinodiet.results.training_figures import progress_figure, validation_figure
from dinodiet.run import console
from dinodiet.store.rundir import RunDir
from dinodiet.store.scores import read_scores, summary

CHANGES, VALIDATION = "initial_vs_final.csv", "validation.csv"  # tables, and figures:
PROGRESS, CURVES = "progress.png", "validation_curves.png"


def write_training_artefacts(run_dir: RunDir, *, trained: bool, figures: bool) -> None:
    """Write tables of a run's scores before, during and after its training; with `figures` also draw them.

    Of a run without steps nothing is written. A figure that cannot be drawn costs a warning.

    Raises:
        OSError: a table cannot be written.
    """
    if not trained:
        return
    found = summary(read_scores(run_dir))
    write_csv(run_dir.artefacts / CHANGES, COLUMNS, (row.cells() for row in score_rows(found)))
    curves = validation_curves(found, [*run_dir.read_metrics()])
    if curves:
        write_csv(run_dir.artefacts / VALIDATION, *validation_table(curves))
    if not figures:
        return
    try:
        _draw(run_dir, found)
    except Exception as error:  # of matplotlib's many: no picture is worth a run
        console.warn([f"figures of the training could not be drawn: {one_line(error)}"])


def _draw(run_dir: RunDir, found: Summary) -> None:
    rows = [*run_dir.read_metrics()]
    scores = validation_curves(found, rows)
    save(progress_figure(loss_curves(rows), scores, score_rows(found)), run_dir.artefacts / PROGRESS)
    if scores:
        save(validation_figure(scores), run_dir.artefacts / CURVES)
