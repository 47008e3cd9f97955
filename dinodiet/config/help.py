"""What `--help` prints. Imports neither torch nor Hydra."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from dinodiet.config.groups import CHOICES, LAUNCHER, SWEEPS
from dinodiet.config.places import CONF, ROOT

TEXT = """\
dinodiet: does self-supervised training on these images make a backbone's features better?

usage: {program} [group=choice ...] [key=value ...]

{examples}

What you can choose (group=choice):

{groups}

Every value below a choice is a key: method.loss.label_smoothing=0.1 schedule.epochs=50 dataset.limit=1000
eval and record take several: eval=[knn,linear]. The schedule follows the method unless you choose one; tuned holds
settings found for one dataset with one method and is applied where it exists (tuned=none: the recipe as published).

A run writes outputs/<name>/<run id>/; the same command again continues it, or returns its results.
Parts of your own: --config-dir FOLDER, with FOLDER/model/mine.yaml naming your class in _target_, then model=mine.
Exit codes: 0 done; 1 refused or failed; 75 stopped by a signal after a checkpoint, run it again to continue.
Hydra's own options: {program} --hydra-help
"""
EXAMPLES = {
    "": "the embedded demo: about two minutes on two CPU cores",
    "model=mae dataset=pathmnist method=diet": "one run: score, train, score again",
    "mode=views method=dino dataset=folder dataset.source.root=DIR": "a picture of what it would train on, in seconds",
    "-m model=mae,dinov2 method=diet,dino seed=0,1,2": "every combination; again: only what is missing",
    "-m sweeps=vit_sizes mode=plan": "a grid with a name: what would be run, and its cost",
    "-m sweeps=vit_sizes mode=fetch": "its weights and data, ahead of time: needs the network",
    "-m sweeps=vit_sizes hydra/launcher=slurm": "on a SLURM cluster",
    "results outputs/vit_sizes": "how far it is, and its tables",
    "catalogue": "every model in every size; datasets, methods, evaluators",
    "model=dinov2 model.size=base dataset=folder dataset.source.root=/path/to/images": "your own images",
    "mode=sanity model=dinov2 dataset=cifar10": "the frozen backbone against published scores",
    "mode=evaluate checkpoint=RUN dataset@eval.dataset=cifar10": "score a run again, here on another dataset",
    "mode=export checkpoint=RUN export=timm": "its weights to take away; or transformers, onnx, torch",
    "mode=embed model=dinov2 dataset=folder dataset.source.root=DIR": "embeddings of images, to files",
    "model=mae --cfg job": "print every key and value of a run, and stop",
}


def help_text(program: str, own: Sequence[Path] = ()) -> str:
    """Return the help of a command called `program`, with the choices found in conf/ and in the user's own folders."""
    groups = [_choices(group, [CONF, *own]) for group in (*CHOICES, LAUNCHER)]
    groups.append(_choices(SWEEPS, [ROOT, *own]))
    words = {f"  {program} {arguments}".rstrip(): note for arguments, note in EXAMPLES.items()}
    lines = [f"{command:<59}  {note}" for command, note in words.items()]
    return TEXT.format(program=program, examples="\n".join(lines), groups="\n".join(groups))


def _choices(group: str, folders: Sequence[Path]) -> str:
    names = {path.stem for folder in folders for path in (folder / group).glob("*.yaml")}
    shown = ", ".join(sorted(name for name in names if not name.startswith("_")))
    return textwrap.fill(shown, 110, initial_indent=f"  {group:<15}", subsequent_indent=" " * 17)
