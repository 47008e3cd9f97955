"""A trained backbone, ready to use, from the files of its run alone.

Neither the data nor the pretrained weights that the run began with are needed, and no configuration beside them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from dinodiet.backbones.weights.misfit import refuse_misfit
from dinodiet.config.schema import Tower
from dinodiet.config.settings import Settings
from dinodiet.config.signature import Node
from dinodiet.config.trust import check_trusted
from dinodiet.data.transform import Transform
from dinodiet.errors import UserError
from dinodiet.io import machine
from dinodiet.run import checkpoint
from dinodiet.run.backbone import input_of, rebuilt
from dinodiet.run.finished import run_dir_of
from dinodiet.run.weights import Stored, read_encoder, read_trained_tower, stored_in
from dinodiet.store.rundir import RunDir
from dinodiet.store.scores import read_results
from dinodiet.types import Backbone, DataSpec, Description, InputSpec


@dataclass(frozen=True)
class Trained:
    """A backbone of a run with its trained weights; also the pair (`backbone`, `transform`).

    Attributes:
        backbone: in eval mode: images (B, 3, size, size) in 0..1 -> embeddings (B, embed_dim).
        transform: an image (of Pillow, a file, or a uint8 tensor) -> (3, size, size) in 0..1, as for the run's scores.
        model: the node that the backbone was built from.
        place: the run directory or file that was asked for.
        run_dir: the directory that it is, or lies in.
        step: of the training that the weights are from; None: it was finished.
        tower: `evaluated`: the encoder that was scored; `trained`: the backbone that gradients train.
    """

    backbone: nn.Module
    transform: Transform
    model: Node
    place: Path
    run_dir: RunDir
    step: int | None
    tower: Tower

    def __iter__(self) -> Iterator[Any]:
        """Yield the backbone and its transform."""
        return iter((self.backbone, self.transform))

    @property
    def description(self) -> Description:
        """What is known of the backbone besides."""
        assert isinstance(self.backbone, Backbone)
        return self.backbone.description

    @property
    def embed_dim(self) -> int:
        """The numbers of an embedding."""
        assert isinstance(self.backbone, Backbone)
        return self.backbone.embed_dim

    @property
    def input(self) -> InputSpec:
        """What the backbone expects of its input."""
        return self.transform.input


def load(run: str | Path, *, device: str = "cpu", tower: Tower = "evaluated", trust_targets: bool = False) -> Trained:
    """Return the trained backbone of a run and its transform.

    Args:
        run: a run directory, also of an unfinished run, its `encoder.safetensors`, or a checkpoint.
        device: `cpu`, `cuda`, `cuda:<number>` or `auto`.
        tower: `evaluated`: the encoder that was scored (of DINO the teacher); `trained`: what gradients train (of DINO
            the student).
        trust_targets: build what the run names besides dinodiet's own parts; it runs code.

    Raises:
        UserError: there is no such run, it cannot be read, or a part of it is from elsewhere.
    """
    return trained(Path(run).expanduser(), device=device, tower=tower, named=None if trust_targets else {})


def trained_of(settings: Settings) -> Trained:
    """Return the trained backbone that `checkpoint` and `tower` name, by default of the run that the settings describe.

    Parts that the settings themselves name may be built.

    Raises:
        UserError: as `load`.
    """
    named = None if settings.trust_targets else settings.plain
    return trained(place_of(settings), device=settings.device, tower=settings.tower, named=named)


def trained(place: Path, *, device: str, tower: Tower, named: Mapping[str, Any] | None) -> Trained:
    """Return a trained backbone; see `load`. Parts in the plain values `named` may be built besides; None: any.

    Raises:
        UserError: as `load`.
    """
    stored, step = read_stored(place, tower)
    if named is not None:
        check_trusted({"model": stored.model}, str(place), named)
    backbone = _built(stored, place)
    refuse_misfit(backbone.state_dict(), stored.state, f"checkpoint: {place} does not fit its model")
    backbone.load_state_dict(stored.state)
    moved = backbone.to(machine.pick_device(device)).eval().requires_grad_(False)
    transform = Transform(input_of(stored, place))
    return Trained(moved, transform, stored.model, place, directory_of(place), step, tower)


def _built(stored: Stored, place: Path) -> nn.Module:
    """Return the backbone of a run without its weights, which expects the same input.

    Raises:
        UserError: a part of it is refused, or it would see its images in another way.
    """
    spec = DataSpec(place.name, num_images=1, num_labels=0)
    backbone = rebuilt({**stored.rebuilds, **stored.model}, input_of(stored, place), spec, place)
    assert isinstance(backbone, nn.Module)
    return backbone


def place_of(settings: Settings) -> Path:
    """Return where the weights lie that `checkpoint` names, by default those of the run that the settings describe."""
    return run_dir_of(settings).path if settings.checkpoint is None else Path(settings.checkpoint).expanduser()


def directory_of(place: Path) -> RunDir:
    """Return the directory that a run, or one of its files, lies in."""
    return RunDir(place if place.is_dir() or not place.suffix else place.parent)


def read_stored(place: Path, tower: Tower = "evaluated") -> tuple[Stored, int | None]:
    """Return an encoder, and the step that it belongs to; None: its training is finished.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    run_dir = directory_of(place)
    path = run_dir.checkpoint if place == run_dir.path else place
    if place.suffix != ".safetensors" and not (run_dir.encoder.exists() and _is_newest(path, run_dir)):
        return _from_checkpoint(path, place, tower)
    stored = read_encoder(place if place.suffix == ".safetensors" else run_dir.encoder)
    if tower == "evaluated" or _is_untrained(run_dir):
        return stored, None
    return replace(stored, state=read_trained_tower(run_dir.weights)), None


def _is_untrained(run_dir: RunDir) -> bool:
    """Return whether a run trained nothing: its encoder is then its one backbone, and all that it keeps."""
    return not run_dir.weights.exists() and (read_results(run_dir) or {}).get("steps") == 0


def _is_newest(path: Path, run_dir: RunDir) -> bool:
    """Return whether a checkpoint that was asked for is the run's own, which its finished encoder replaces."""
    return path == run_dir.checkpoint or not path.exists()


def _from_checkpoint(path: Path, place: Path, tower: Tower) -> tuple[Stored, int]:
    if path != place and not path.exists():  # a directory was asked for
        raise UserError(f"checkpoint: {place} {_lacks(directory_of(place))}")
    content = checkpoint.read(path)
    where = content["encoder"] if tower == "evaluated" else content.get("trained")
    if not isinstance(where, str):
        raise UserError(f"tower: {path} does not say which of its parts is the trained backbone; take tower=evaluated")
    return stored_in(content, path, where), content["step"]


def _lacks(run_dir: RunDir) -> str:
    """Return why a place is no trained run, in words."""
    if not run_dir.path.exists():
        return "does not exist"
    runs = sorted(path.parent.name for path in run_dir.path.glob(f"*/{run_dir.config.name}"))
    if runs:
        more = f" and {len(runs) - 3} more" if len(runs) > 3 else ""
        return f"is a folder of runs; choose one: {', '.join(runs[:3])}{more}"
    return f"holds neither {run_dir.encoder.name} nor {run_dir.checkpoint.name}: nothing was trained there yet"
