"""What `python launch.py --help` prints. Imports neither torch nor Hydra."""

from __future__ import annotations

import textwrap
from pathlib import Path

from dinodiet.config.groups import CHOICES

TEXT = """\
dinodiet: does self-supervised training on these pictures make a backbone's features better?

usage: python launch.py [group=choice ...] [key=value ...]

  python launch.py                                             the embedded demo: about two minutes on two CPU cores
  python launch.py model=mae dataset=pathmnist method=diet     one run: score, train, score again
  python launch.py -m model=mae,dinov2 method=diet,dino seed=0,1,2   every combination; again: only what is missing
  python launch.py -m sweeps=vit_sizes mode=plan               a grid with a name: what would be run, and its cost
  python launch.py -m sweeps=vit_sizes mode=fetch              its weights and data, ahead of time: needs the network
  python launch.py -m sweeps=vit_sizes hydra/launcher=slurm    on a SLURM cluster (local | parallel | slurm)
  python -m dinodiet.results outputs/vit_sizes                 how far it is, and its tables
  python launch.py model=dinov2 model.size=base dataset=folder dataset.source.root=/path/to/pictures
  python launch.py mode=sanity model=dinov2 dataset=cifar10    the frozen backbone against published scores
  python launch.py mode=evaluate checkpoint=outputs/.../checkpoint.pt dataset=cifar10 model=mae
  python launch.py model=mae --cfg job                         print every key and value of a run, and stop

What you can choose (group=choice):

{groups}

Every value below a choice is a key: method.label_smoothing=0.1 schedule.epochs=50 dataset.limit=1000 model.size=large
eval takes several: eval=[knn,linear]. The schedule follows the method unless you choose one; tuned holds settings
found for one dataset with one method and is applied where it exists (tuned=none: the recipe as published).

A run writes outputs/<name>/<run id>/; the same command again continues it, or returns its results.
Parts of your own: --config-dir FOLDER, with FOLDER/model/mine.yaml naming your class in _target_, then model=mine.
Exit codes: 0 done; 1 refused or failed; 75 stopped by a signal after a checkpoint, run it again to continue.
Hydra's own options: python launch.py --hydra-help
"""


def help_text(conf: Path) -> str:
    """Return the help, with the choices found in the configuration folder."""
    groups = [_group(conf / group, group) for group in CHOICES]
    groups.append(_group(conf.parent / "sweeps", "sweeps"))
    return TEXT.format(groups="\n".join(groups))


def _group(folder: Path, group: str) -> str:
    names = sorted(path.stem for path in folder.glob("*.yaml") if not path.stem.startswith("_"))
    return textwrap.fill(", ".join(names), 110, initial_indent=f"  {group:<10}", subsequent_indent=" " * 12)
