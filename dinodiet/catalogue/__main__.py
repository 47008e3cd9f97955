"""The command: `python -m dinodiet.catalogue [models|datasets|methods|evaluators|records] [NAME...] [options]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from dinodiet.catalogue.choices import GROUPS, Choice, choices
from dinodiet.catalogue.models import Entry, Model, describe, models
from dinodiet.errors import UserError
from dinodiet.io.command import Parser, exit_code
from dinodiet.io.units import count
from dinodiet.results.endings import FRAMES, TEXTS, Style, check_suffix
from dinodiet.results.render import grid, write_frame, write_text

EXAMPLES = """examples:
  python -m dinodiet.catalogue                                     every model in every size
  python -m dinodiet.catalogue models mae dinov2                   these
  python -m dinodiet.catalogue models --families --out models.md   a line a model
  python -m dinodiet.catalogue datasets --out datasets.md          or methods, evaluators, records
  python -m dinodiet.catalogue models mine --config-dir FOLDER     your own: FOLDER/model/mine.yaml

Nothing is downloaded, and nothing needs the memory of its weights. Parameters are those of the backbone as it is used:
without classifier, and without blocks that its embedding does not depend on. blocks: what trainable=last_<n>_blocks
counts. weights: hub, file (none are on a hub: from scratch, or a file), or unreleased.
"""


def parser() -> Parser:
    """Return the parser of the command line."""
    made = Parser(
        prog="python -m dinodiet.catalogue",
        description="What can be chosen as model, dataset, method, evaluator and record, and how large it is.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(GROUPS)} (default: models), then choices")
    made.add_argument("--families", action="store_true", help="a line a model, with its sizes side by side")
    made.add_argument("--config-dir", type=Path, metavar="FOLDER", help="also FOLDER/model/*.yaml and the like")
    made.add_argument("--out", type=Path, metavar="FILE", help="the table: .csv .parquet .md .tex .txt")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return exit_code(lambda: run(parser().parse_args(arguments)))


def run(args: argparse.Namespace) -> None:
    """Do what the command line says."""
    if args.out is not None:
        check_suffix(args.out, (*FRAMES, *TEXTS))
    sys.path.append(str(Path.cwd()))  # parts of one's own beside where one works can be named in _target_
    kind = args.names[0] if args.names and args.names[0] in GROUPS else "models"
    names = args.names[1:] if args.names and args.names[0] == kind else args.names
    if kind == "models":
        _models(args, names)
    else:
        found = choices(kind, names, args.config_dir)
        print(choice_table(found, "text"))
        _write(args.out, found, choice_table)


def _models(args: argparse.Namespace, names: Sequence[str]) -> None:
    chosen = _chosen(models(args.config_dir), names)
    if args.families and not names:
        chosen = [model for model in chosen if not model.preset]
    pairs = [(model, size) for model in chosen for size in model.sizes]
    entries = [describe(*pair) for pair in tqdm(pairs, "building", unit="model", leave=False, disable=None)]
    table = family_table if args.families else size_table
    print(table(entries, "text"))
    for entry in entries:
        if entry.note is not None:
            print(f"note: {' '.join(filter(None, (entry.model, entry.size)))}: {entry.note}")
    _write(args.out, entries, table)


def _write(path: Path | None, entries: Sequence[Any], table: Callable[[Any, Style], str]) -> None:
    if path is None:
        return
    if path.suffix in FRAMES:
        write_frame(pd.DataFrame([asdict(entry) for entry in entries]).convert_dtypes(), path)
    else:
        write_text(table(entries, TEXTS[path.suffix]), path)
    print(f"wrote {path}")


def choice_table(entries: Sequence[Choice], style: Style) -> str:
    """Return a line for each choice of another group than models; images only where some are known."""
    counted = any(entry.images is not None for entry in entries)
    rows = [
        [
            entry.name,
            *(["-" if entry.images is None else f"{entry.images:,}"] if counted else []),
            entry.what,
            entry.built_by,
        ]
        for entry in entries
    ]
    return grid(["name", *(["images"] if counted else []), "what", "built by"], rows, style)


def size_table(entries: Sequence[Entry], style: Style) -> str:
    """Return a line for each entry."""
    header = ["model", "size", "parameters", "features", "blocks", "px", "weights", "licence"]
    return grid(header, [_row(entry) for entry in entries], style)


def family_table(entries: Sequence[Entry], style: Style) -> str:
    """Return a line for each model: its sizes, and what they differ in."""
    rows = []
    for model in dict.fromkeys(entry.model for entry in entries):
        known = [entry for entry in entries if entry.model == model and entry.parameters is not None]
        cells = [_row(entry) for entry in known]
        sizes = ", ".join(f"{size} ({parameters})" for _, size, parameters, *_ in cells)
        rows.append([model, sizes, *(_distinct(cell[column] for cell in cells) for column in (3, 4, 5, 7))])
    return grid(["model", "sizes (parameters)", "features", "blocks", "px", "licence of the weights"], rows, style)


def _row(entry: Entry) -> list[str]:
    parameters = None if entry.parameters is None else count(entry.parameters)
    facts = (entry.size, parameters, entry.features, entry.blocks, entry.pixels, entry.weights, entry.licence)
    return [entry.model, *("-" if fact is None else str(fact) for fact in facts)]


def _distinct(cells: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(cells))


def _chosen(known: Sequence[Model], names: Sequence[str]) -> list[Model]:
    choices = {model.name: model for model in known}
    if unknown := [name for name in names if name not in choices]:
        raise UserError(f"model: no choice {unknown[0]!r}; choose from: {', '.join(choices)}")
    return [choices[name] for name in names or choices]


if __name__ == "__main__":
    sys.exit(main())
