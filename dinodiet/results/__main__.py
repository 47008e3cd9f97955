"""The command: `python -m dinodiet.results PATH... [options]`."""

from __future__ import annotations

import argparse
import gc
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from dinodiet.errors import UserError
from dinodiet.io.command import Parser, exit_code
from dinodiet.results.budgets import notes as label_notes
from dinodiet.results.budgets import on_budgets, over_draws, picked
from dinodiet.results.compare import PHASE, compare, notes, report
from dinodiet.results.curves import curves, quantity, title_of
from dinodiet.results.disk import disk
from dinodiet.results.figures import SUFFIXES, draw_curves, draw_heat_map, draw_label_curves
from dinodiet.results.label_curves import label_curves
from dinodiet.results.published import beside, beside_table, read_published, remarks
from dinodiet.results.recorded import overview, record_curves, recorded
from dinodiet.results.render import FRAMES, TEXTS, Style, check_suffix, tables, write_frame, write_text
from dinodiet.results.runs import Found, Run, read
from dinodiet.results.summary import MOST, cells_of, setting_notes, status
from dinodiet.results.table import default_metric, layout, place
from dinodiet.results.tidy import select, tidy
from dinodiet.results.unfinished import unfinished
from dinodiet.store.scores import BUDGET_COLUMNS

EXAMPLES = """examples:
  python -m dinodiet.results outputs/study                       how far it is, and the main table
  python -m dinodiet.results outputs/study --status              only how far it is, with every name
  python -m dinodiet.results outputs/study --rows label_smoothing --metric linear/accuracy --phase change
  python -m dinodiet.results outputs/study --metric knn/accuracy,kmeans/nmi --cols metric --where dataset=pathmnist
  python -m dinodiet.results outputs/study --compare method=diet,dino
  python -m dinodiet.results outputs/study --compare phase       what the training changed, with interval and tests
  python -m dinodiet.results outputs/frozen_medmnist_plus --published medmnist_plus      or a file of yours
  python -m dinodiet.results outputs/study --out table.tex       or .md, .txt, .csv, .parquet
  python -m dinodiet.results outputs/study --curves knn.svg --heatmap changes.png
  python -m dinodiet.results outputs/study --curves labels.svg --over labels_per_class      or label_fraction
  python -m dinodiet.results outputs/study --record parameters --columns '*/student_moved/norm' --curves moved.png
  python -m dinodiet.results outputs/study --record features --out features.csv
  python -m dinodiet.results outputs/study --disk                what lies where; --clean takes caches and leftovers
  python -m dinodiet.results outputs/one outputs/two --tidy scores.csv

Columns: study, model, dataset, method, seed, and every setting by its key (its last part, where that is enough).
A column that differs and is neither in --rows, --cols nor --over is put before the rows: nothing is averaged unseen.
"""


def parser() -> Parser:
    """Return the parser of the command line."""
    made = Parser(
        prog="python -m dinodiet.results",
        description="How far studies are, and their tables. Also while they run.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = made.add_argument
    add("paths", nargs="+", metavar="PATH", help="outputs/<name>, a run directory, or a folder of studies")
    add("--status", action="store_true", help="only the states, naming every run that is not done")
    add("--rows", type=names, default=[], metavar="COLUMN,...", help="default: model")
    add("--cols", type=names, default=[], metavar="COLUMN,...", help="default: dataset")
    add("--over", type=names, default=[], metavar="COLUMN,...", help="averaged over; default: seed")
    add("--labels", type=names, default=[], metavar="N,...", help="scores on 10 labels a class, 0.1 of train, or all")
    add("--metric", type=names, default=[], metavar="METRIC,...", help="default: knn/accuracy; val/... on validation")
    add("--phase", type=names, default=[], metavar="PHASE,...", help="initial, final, change; default: all three")
    add("--where", action="append", default=[], metavar="COLUMN=VALUE,...", help="only these runs; may be repeated")
    add("--compare", metavar="COLUMN[=VALUE,...]", help="paired tests between the values of a column, and mean ranks")
    add("--published", metavar="NAME", help="scores beside published ones: a table of sweeps/published, or a .csv")
    add(
        "--curves",
        type=Path,
        metavar="FILE",
        help="validation score, or what is logged (loss), by epoch: .png .svg .csv",
    )
    add("--heatmap", type=Path, metavar="FILE", help="changes, rows x columns, as colours: .png .svg")
    add("--out", type=Path, metavar="FILE", help="the table or comparison: .csv .parquet .md .tex .txt")
    add("--record", metavar="NAME", help="what was recorded in training (record=[...]); with --curves or --out a file")
    add("--columns", type=names, default=[], metavar="COLUMN,...", help="of --record, such as */norm; default: all")
    add("--disk", action="store_true", help="what lies on disk, and what --clean would take")
    add("--clean", action="store_true", help="remove caches and leftovers, after showing them")
    add("--yes", action="store_true", help="with --clean: do not ask")
    add("--tidy", type=Path, metavar="FILE", help="all scores, one a row: .csv .parquet")
    return made


def names(value: str) -> list[str]:
    """Return the parts of a comma list; commas in brackets, as in `knn(k=5, temperature=1)/f1`, part nothing."""
    return [name.strip() for name in re.split(r",(?![^(\[]*[)\]])", value) if name.strip()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return exit_code(lambda: run(parser().parse_args(arguments)))


def run(args: argparse.Namespace) -> None:
    """Do what the command line says."""
    _check(args)
    if args.disk or args.clean:
        disk(args.paths, clean=args.clean, yes=args.yes)
        return
    where = dict(_filter(text) for text in args.where)
    found = read(args.paths)
    for message in found.messages():
        print(f"warning: {message}", file=sys.stderr)
    if args.record:
        _record(args, select([*found.runs, *unfinished(found.unfinished)], where))
        return
    drawing = args.curves or args.heatmap or args.tidy
    if args.status or not (args.compare or drawing):
        for study in found.studies:
            print(status(study, found, None if args.status else MOST))
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


def _check(args: argparse.Namespace) -> None:
    """Refuse what the options say before anything is read."""
    for path, valid in (
        (args.out, (*FRAMES, *TEXTS)),
        (args.tidy, FRAMES),
        (args.curves, (*SUFFIXES, ".csv")),
        (args.heatmap, SUFFIXES),
    ):
        if path is not None:
            check_suffix(path, valid)
    if args.compare is not None:
        _compared(args.compare)
        if args.published:
            raise UserError("--published and --compare are two tables: ask for one of them")
    if args.columns and not args.record:
        raise UserError("--columns: of a record; name one: --record parameters")
    if args.record and args.out is not None:
        check_suffix(args.out, FRAMES)
    if args.published is not None:
        read_published(args.published)


def _filter(text: str) -> tuple[str, list[str]]:
    key, _, values = text.partition("=")
    if not key or not values:
        raise UserError(f"--where {text}: give COLUMN=VALUE or COLUMN=VALUE,VALUE")
    return key, names(values)


def _table(args: argparse.Namespace, found: Found, where: dict[str, list[str]]) -> None:
    cells, plan, notes = cells_of(
        found, where, labels=args.labels, metrics=args.metric, phases=args.phase, **_sides(args)
    )
    print(f"\n{tables(cells, plan)}")
    _print_notes(notes)
    _write(args.out, cells, lambda style: tables(cells, plan, style))


def _sides(args: argparse.Namespace) -> dict[str, list[str]]:
    return {"rows": args.rows, "cols": args.cols, "over": args.over}


def _compared(text: str) -> tuple[str, list[str]]:
    """Return the column to compare, and the values, where any are given."""
    key, equals, values = text.partition("=")
    if not key or (equals and not names(values)):
        raise UserError(f"--compare {text}: give COLUMN or COLUMN=VALUE,VALUE")
    return key, names(values)


def _compare(args: argparse.Namespace, found: Found, runs: list[Run]) -> None:
    key, values = _compared(args.compare)
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
    rows = beside(published, runs, args.metric, args.phase or ["final"])
    print(f"\n{beside_table(rows, published)}")
    _print_notes(remarks(rows, published))
    _write(args.out, rows, lambda style: beside_table(rows, published, style))


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
        if args.curves.suffix == ".csv":
            write_frame(data, args.curves)
        else:
            draw_curves(data, args.record, panels, args.curves)
        print(f"wrote {args.curves}")
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
    if args.curves.suffix == ".csv":
        write_frame(data, args.curves)
    else:
        draw_curves(data, title_of(name), plan, args.curves)
    print(f"wrote {args.curves}")


def _label_curves(args: argparse.Namespace, column: str, runs: list[Run]) -> None:
    metric = args.metric[0] if args.metric else default_metric(on_budgets(runs))
    over = [name for name in args.over if name not in (column, "label_seed")] or ["seed"]
    plan = place(runs, rows=args.rows, cols=args.cols, over=over)
    data = label_curves(runs, column, metric, plan)
    if args.curves.suffix == ".csv":
        write_frame(data, args.curves)
    else:
        draw_label_curves(data, column, metric, plan, args.curves)
    print(f"wrote {args.curves}")


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


if __name__ == "__main__":
    gc.disable()  # a short life with many small objects, none of them in cycles: a sixth of the time
    sys.exit(main())
