"""The options of `python -m dinodiet.results`, and what is refused of them before anything is read."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from dinodiet.errors import UserError
from dinodiet.io.command import Parser
from dinodiet.results.endings import FIGURES, FRAMES, TEXTS, check_suffix
from dinodiet.results.locate import is_run
from dinodiet.results.published import read_published

LOOPBACK, PORT = "127.0.0.1", 8765
OF_TABLES = (  # options that a report does not take
    *("rows", "cols", "over", "labels", "phase", "compare", "published", "curves", "heatmap", "out", "tidy"),
    *("record", "columns", "status", "disk", "clean", "why", "watch", "forecast", "cost"),
)
SHOWN = ("status", "rows", "cols", "over", "labels", "metric", "phase", "where", "compare", "published")
ALONE: dict[str, Sequence[str]] = {
    "why": (),
    "watch": SHOWN,
    "forecast": ("metric", "where"),
    "cost": ("where", "out"),
}  # options that say what is printed, with those that they take
SECONDS, MOST_SECONDS = 10.0, 86_400.0  # between two drawings of --watch
EXAMPLES = """examples:
  python -m dinodiet.results outputs/study                       how far it is, and the main table
  python -m dinodiet.results outputs/study/RUN                   one run: scores, curves, cost, why it failed
  python -m dinodiet.results outputs/study --status              only how far it is, with every name
  python -m dinodiet.results outputs/study --watch               the same, drawn again until all runs have ended
  python -m dinodiet.results outputs/study --why                 why runs failed, by reason; RUN --why: why this one
  python -m dinodiet.results outputs/study --rows label_smoothing --metric linear/accuracy --phase change
  python -m dinodiet.results outputs/study --metric knn/accuracy,kmeans/nmi --cols metric --where dataset=pathmnist
  python -m dinodiet.results outputs/study --compare method=diet,dino
  python -m dinodiet.results outputs/study --forecast            which cells will gain; kept, and scored afterwards
  python -m dinodiet.results outputs/study --cost                device hours and kWh, spent and left; also --out
  python -m dinodiet.results outputs/study --compare phase       what the training changed, with interval and tests
  python -m dinodiet.results outputs/frozen_medmnist_plus --against medmnist_plus      or a file of yours
  python -m dinodiet.results outputs/study --out table.tex       or .md, .txt, .csv, .parquet
  python -m dinodiet.results outputs/study --curves knn.svg --heatmap changes.png
  python -m dinodiet.results outputs/study --curves labels.svg --over labels_per_class      or label_fraction
  python -m dinodiet.results outputs/study --record parameters --columns '*/student_moved/norm' --curves moved.png
  python -m dinodiet.results outputs/study --record features --out features.csv
  python -m dinodiet.results outputs/study --disk                what lies where; --clean takes caches and leftovers
  python -m dinodiet.results outputs/one outputs/two --tidy scores.csv
  python -m dinodiet.results outputs/study --html study.html     all of it as one page that needs no network
  python -m dinodiet.results outputs/study --serve               the same, live, for a browser on this machine

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
    every = f"draw states and table again, every {SECONDS:.0f} s, until all runs have ended"
    add("--watch", nargs="?", type=_seconds, const=SECONDS, metavar="SECONDS", help=every)
    add("--forecast", action="store_true", help="which cells will gain, by label-free measures before the training")
    add("--cost", action="store_true", help="device hours and kWh: spent, and expected of unfinished runs")
    add("--why", action="store_true", help="why runs failed: reason, ends of traceback and log, how to continue")
    add("--rows", type=names, default=[], metavar="COLUMN,...", help="default: model")
    add("--cols", type=names, default=[], metavar="COLUMN,...", help="default: dataset")
    add("--over", type=names, default=[], metavar="COLUMN,...", help="averaged over; default: seed")
    add("--labels", type=names, default=[], metavar="N,...", help="scores on 10 labels a class, 0.1 of train, or all")
    add(
        "--metric",
        type=names,
        default=[],
        metavar="METRIC,...",
        help="default: knn/accuracy, the student's too; val/... on validation",
    )
    add("--phase", type=names, default=[], metavar="PHASE,...", help="initial, final, change; default: all three")
    add("--where", action="append", default=[], metavar="COLUMN=VALUE,...", help="only these runs; may be repeated")
    add("--compare", metavar="COLUMN[=VALUE,...]", help="paired tests between the values of a column, and mean ranks")
    add(
        "--against",
        "--published",
        dest="published",
        metavar="NAME",
        help="scores beside published ones: a table of sweeps/published, or a .csv",
    )
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
    add("--html", type=Path, metavar="FILE", help="a report with plots, a page a run and its pictures, in one file")
    add("--serve", action="store_true", help="the report, live, at http://127.0.0.1:8765; read-only; Ctrl-C ends it")
    add("--host", default=LOOPBACK, metavar="ADDRESS", help="with --serve: another address; a token is then asked for")
    add("--port", type=int, default=PORT, metavar="NUMBER", help=f"with --serve: default {PORT}; 0: any that is free")
    add("--disk", action="store_true", help="what lies on disk, and what --clean would take")
    add("--clean", action="store_true", help="remove caches and leftovers, after showing them")
    add("--yes", action="store_true", help="with --clean: do not ask")
    add("--tidy", type=Path, metavar="FILE", help="all scores, one a row: .csv .parquet")
    return made


def _seconds(value: str) -> float:
    """Return a number of seconds that one can wait for."""
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= MOST_SECONDS:
        raise argparse.ArgumentTypeError(f"{value}; give seconds above 0 and up to {MOST_SECONDS:,.0f}, a day")
    return seconds


def names(value: str) -> list[str]:
    """Return the parts of a comma list; commas in brackets, as in `knn(k=5, temperature=1)/f1`, part nothing."""
    parts, depth = [""], 0
    for letter in value:
        depth += (letter in "([") - (letter in ")]")
        parts = [*parts, ""] if letter == "," and depth <= 0 else [*parts[:-1], parts[-1] + letter]
    return [part.strip() for part in parts if part.strip()]


def check_options(args: argparse.Namespace) -> None:
    """Refuse options of which no sense can be made.

    Raises:
        UserError: one line that names the option.
    """
    _check_files(args)
    for name, beside in ALONE.items():
        if getattr(args, name):
            _check_alone(args, name, beside)
    _check_report(args)
    if args.compare is not None:
        compared_of(args.compare)
        if args.published:
            raise UserError("--against and --compare are two tables: ask for one of them")
    if args.columns and not args.record:
        raise UserError("--columns: of a record; name one: --record parameters")
    if args.published is not None:
        read_published(args.published)


def _check_files(args: argparse.Namespace) -> None:
    for path, valid in (
        (args.out, FRAMES if args.record else (*FRAMES, *TEXTS)),
        (args.tidy, FRAMES),
        (args.curves, (*FIGURES, ".csv")),
        (args.heatmap, FIGURES),
        (args.html, (".html",)),
    ):
        if path is not None:
            check_suffix(path, valid)


def _check_report(args: argparse.Namespace) -> None:
    if args.html or args.serve:
        for name in OF_TABLES:
            if getattr(args, name):
                raise UserError(f"--{name}: not of a report; --html and --serve take --where and --metric")
    if not args.serve and (args.host, args.port) != (LOOPBACK, PORT):
        raise UserError("--host and --port: of --serve; give it too")
    if not 0 <= args.port < 2**16:
        raise UserError(f"--port: {args.port}; choose from: 0 to {2**16 - 1}")


def _check_alone(args: argparse.Namespace, option: str, others: Sequence[str]) -> None:
    """Refuse all options beside one that says by itself what is printed, but those named."""
    plain = vars(parser().parse_args(args.paths))
    for name, value in vars(args).items():
        if name not in ("paths", option, *others) and value != plain[name]:
            told = "against" if name == "published" else name
            also = f"; it takes {', '.join(f'--{one}' for one in others)}" if others else ""
            raise UserError(f"--{told}: not with --{option}{also}")


def asks_of_one_run(args: argparse.Namespace) -> bool:
    """Return whether the command line is one run directory and nothing else: it is then shown by itself."""
    if len(args.paths) != 1 or not is_run(args.paths[0]):
        return False
    return vars(parser().parse_args(args.paths)) == vars(args)


def filter_of(text: str) -> tuple[str, list[str]]:
    """Return the column and the values of a --where."""
    key, _, values = text.partition("=")
    if not key or not values:
        raise UserError(f"--where {text}: give COLUMN=VALUE or COLUMN=VALUE,VALUE")
    return key, names(values)


def compared_of(text: str) -> tuple[str, list[str]]:
    """Return the column to compare, and the values, where any are given."""
    key, equals, values = text.partition("=")
    if not key or (equals and not names(values)):
        raise UserError(f"--compare {text}: give COLUMN or COLUMN=VALUE,VALUE")
    return key, names(values)
