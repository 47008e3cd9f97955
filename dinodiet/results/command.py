"""What the command does, once its options are checked: states, tables, comparisons, files, reports."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from dinodiet.results.against import asked_of, beside, beside_table, remarks, written
from dinodiet.results.budgets import notes as label_notes
from dinodiet.results.budgets import on_budgets, over_draws, picked
from dinodiet.results.colours import in_colour
from dinodiet.results.compare import PHASE, compare
from dinodiet.results.compare_table import notes, report
from dinodiet.results.cost import cost, cost_text
from dinodiet.results.curves import curves, quantity, title_of
from dinodiet.results.disk import disk
from dinodiet.results.endings import FRAMES, TEXTS, Style
from dinodiet.results.figures import draw_curves, draw_heat_map, draw_label_curves
from dinodiet.results.label_curves import label_curves
from dinodiet.results.one_run import one_run
from dinodiet.results.one_run_text import one_run_text
from dinodiet.results.options import asks_of_one_run, compared_of, filter_of
from dinodiet.results.published import read_published
from dinodiet.results.recorded import overview, record_curves, recorded
from dinodiet.results.render import tables, write_frame, write_text
from dinodiet.results.runs import Found, Run, read
from dinodiet.results.summary import MOST, cells_of, setting_notes, status
from dinodiet.results.table import default_metric, layout, place
from dinodiet.results.tidy import select, tidy
from dinodiet.results.unfinished import unfinished
from dinodiet.results.watch import watch
from dinodiet.results.why import why
from dinodiet.store.scores import BUDGET_COLUMNS


def run(args: argparse.Namespace) -> None:
    """Do what a command line says whose options were checked."""
    where = dict(filter_of(text) for text in args.where)
    if args.disk or args.clean:
        disk(args.paths, clean=args.clean, yes=args.yes)
    elif args.why:
        print(why(args.paths))
    elif args.watch:
        watch(args.paths, args.watch, lambda: _print(args, where))
    elif args.forecast:
        _forecast(args, where)
    elif args.cost:
        _cost(args, where)
    elif asks_of_one_run(args):
        print(one_run_text(one_run(args.paths[0])))
    elif args.html or args.serve:
        _report(args, where)
    else:
        _print(args, where)


def _print(args: argparse.Namespace, where: dict[str, list[str]]) -> None:
    """Print states and tables, and write what is asked for."""
    found = read(args.paths)
    for message in found.messages():
        print(f"warning: {message}", file=sys.stderr)
    if args.record:
        _record(args, select([*found.runs, *unfinished(found.unfinished)], where))
        return
    drawing = args.curves or args.heatmap or args.tidy
    if args.status or not (args.compare or drawing):
        _states(args, found)
    if args.status:
        return
    runs = select(picked(found.runs, args.labels), where)
    if args.curves:
        _curves(args, found, where)
    if not runs:
        if not args.curves or args.compare or args.out or args.heatmap or args.tidy:
            print("no finished run yet: no table")
    elif args.compare or args.out or not drawing:
        _one_table(args, found, where, runs)
    if runs and args.heatmap:
        _heat_map(args, found, where)
    if runs and args.tidy:
        write_frame(tidy(select(on_budgets(found.runs), where)), args.tidy)
        print(f"wrote {args.tidy}")


def _cost(args: argparse.Namespace, where: dict[str, list[str]]) -> None:
    found = read(args.paths)
    for message in found.messages():
        print(f"warning: {message}", file=sys.stderr)
    made = cost(found, where)
    print(in_colour(cost_text(made)))
    _print_notes(made.notes)
    _write(args.out, made.rows, lambda style: cost_text(made, style))


def _forecast(args: argparse.Namespace, where: dict[str, list[str]]) -> None:
    from dinodiet.results.forecast_told import forecast  # noqa: PLC0415 - tables do without

    found = read(args.paths)
    for message in found.messages():
        print(f"warning: {message}", file=sys.stderr)
    for metric in args.metric or [None]:
        print(forecast(found, metric, where))


def _states(args: argparse.Namespace, found: Found) -> None:
    for study in found.studies:
        print(in_colour(status(study, found, None if args.status else MOST)))


def _report(args: argparse.Namespace, where: dict[str, list[str]]) -> None:
    """Write the report, or serve it until Ctrl-C."""
    from dinodiet.results.report.study import read_study  # noqa: PLC0415 - tables do without

    if args.html:
        from dinodiet.results.report.write import write_html  # noqa: PLC0415

        print(write_html(read_study(args.paths, where, args.metric), args.html))
    if args.serve:
        from dinodiet.results.report.serve import serve  # noqa: PLC0415
        from dinodiet.results.report.site import Site  # noqa: PLC0415

        serve(Site(args.paths, where, args.metric), args.host, args.port)


def _table(args: argparse.Namespace, found: Found, where: dict[str, list[str]]) -> None:
    cells, plan, notes = cells_of(
        found, where, labels=args.labels, metrics=args.metric, phases=args.phase, **_sides(args)
    )
    print(in_colour(f"\n{tables(cells, plan)}"))
    _print_notes(notes)
    _write(args.out, cells, lambda style: tables(cells, plan, style))


def _sides(args: argparse.Namespace) -> dict[str, list[str]]:
    return {"rows": args.rows, "cols": args.cols, "over": args.over}


def _compare(args: argparse.Namespace, found: Found, runs: list[Run]) -> None:
    key, values = compared_of(args.compare)
    metrics = args.metric or [default_metric(runs)]
    phases = ["final"] if key == PHASE else args.phase or ["final"]
    plan = layout(runs, over=args.over or over_draws(runs), metrics=metrics, phases=phases)
    results = [
        compare(runs, key, values, metric=metric, phase=phase, over=plan.over) for metric in metrics for phase in phases
    ]
    said = [*label_notes(found.runs, runs), *setting_notes(runs, plan)]
    print("\n\n".join(report(one) for one in results))
    _print_notes([*dict.fromkeys(note for one in results for note in [*said, *notes(one)])])
    frames = [one.pairs.assign(metric=one.metric, phase=one.phase) for one in results]
    _write(args.out, pd.concat(frames), lambda style: "\n\n".join(report(one, style) for one in results))


def _one_table(args: argparse.Namespace, found: Found, where: dict[str, list[str]], runs: list[Run]) -> None:
    if args.compare:
        _compare(args, found, runs)
    elif args.published:
        _published(args, runs)
    else:
        _table(args, found, where)


def _published(args: argparse.Namespace, runs: list[Run]) -> None:
    published = read_published(args.published)
    rows = beside(published, runs, args.metric, args.phase)
    print(f"\n{beside_table(rows, published)}")
    _print_notes(remarks(rows, published, asked_of(published, args.metric, args.phase)))
    _write(args.out, rows, lambda style: written(rows, published, style))


def _curves(args: argparse.Namespace, found: Found, where: dict[str, list[str]]) -> None:
    """Draw a score over labels where these are named by --over, else over epochs."""
    if column := next((name for name in args.over if name in BUDGET_COLUMNS.values()), None):
        _label_curves(args, column, select(found.runs, where))
    else:
        _epoch_curves(args, select([*found.runs, *unfinished(found.unfinished)], where))


def _record(args: argparse.Namespace, runs: list[Run]) -> None:
    """Print the ends of what was recorded, or write its curves or its numbers."""
    if args.curves:
        plan = place(runs, **{**_sides(args), "over": args.over or ["seed"]})
        data, panels = record_curves(runs, args.record, args.columns, plan)
        _write_curves(data, args.curves, lambda: draw_curves(data, args.record, panels, args.curves))
    if args.curves and args.out is None:
        return
    frame = recorded(runs, args.record, args.columns)
    if args.out is None:
        print(overview(frame))
    else:
        write_frame(frame, args.out)
        print(f"wrote {args.out}")


def _epoch_curves(args: argparse.Namespace, runs: list[Run]) -> None:
    if not runs:
        print("no run has begun yet: no curves")
        return
    name = quantity(runs, args.metric[0] if args.metric else None)
    plan = place(runs, **{**_sides(args), "over": args.over or ["seed"]})
    data = curves(runs, name, plan)
    _write_curves(data, args.curves, lambda: draw_curves(data, title_of(name), plan, args.curves))


def _label_curves(args: argparse.Namespace, column: str, runs: list[Run]) -> None:
    metric = args.metric[0] if args.metric else default_metric(on_budgets(runs))
    over = [name for name in args.over if name not in (column, "label_seed")] or ["seed"]
    plan = place(runs, rows=args.rows, cols=args.cols, over=over)
    data = label_curves(runs, column, metric, plan)
    _write_curves(data, args.curves, lambda: draw_label_curves(data, column, metric, plan, args.curves))


def _write_curves(data: pd.DataFrame, path: Path, draw: Callable[[], None]) -> None:
    """Write the numbers of curves, or let them be drawn, as the file's name says."""
    if path.suffix == ".csv":
        write_frame(data, path)
    else:
        draw()
    print(f"wrote {path}")


def _heat_map(args: argparse.Namespace, found: Found, where: dict[str, list[str]]) -> None:
    cells, plan, remarks = cells_of(
        found, where, labels=args.labels, metrics=args.metric, phases=["change"], **_sides(args)
    )
    draw_heat_map(cells, plan, args.heatmap)
    _print_notes(remarks)
    print(f"wrote {args.heatmap}")


def _print_notes(lines: list[str]) -> None:
    for line in lines:
        print(f"note: {line}")


def _write(path: Path | None, frame: pd.DataFrame, drawn: Callable[[Style], str]) -> None:
    if path is None:
        return
    if path.suffix in FRAMES:
        write_frame(frame, path)
    else:
        write_text(drawn(TEXTS[path.suffix]), path)
    print(f"wrote {path}")
