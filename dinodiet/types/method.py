"""The contract of methods and of the views that they train on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn

from dinodiet.processes.sharding import Shard
from dinodiet.types.backbone import Backbone
from dinodiet.types.data import Batch, Images
from dinodiet.types.runtime import Clock, Runtime


class Views(Protocol):
    """Augmented views of a batch, on the batch's device.

    Returns float32 (B, 3, s, s) tensors in 0..1, global views first; a function of the images and the generator.
    `sides` are the pixels of the views' sides: a backbone is asked whether it takes them before anything runs.
    `draft_side` is the shorter side at which large JPEG files may be decoded for them; None: in full. `repr` tells all
    settings: what is computed from views is kept on disk under it. `fixed`: the views of an image are always the same.
    """

    num_global: int
    sides: list[int]
    draft_side: int | None
    fixed: bool

    def __call__(self, images: Tensor | list[Tensor], generator: torch.Generator) -> list[Tensor]:
        """Return the views of `Batch.images`."""
        ...


@dataclass(frozen=True)
class ShownView:
    """One view of each of B images, as a network gets it in a training step, under a name of a few letters.

    `images` is float32 (B, 3, s, s) in 0..1; `hidden` bool (B, rows, columns): patches that the network does not see.
    """

    name: str
    images: Tensor
    hidden: Tensor | None = None


@dataclass
class ParamGroup:
    """Parameters that share an optimiser setting: lr and weight decay are the schedules' values times these factors.

    `head`: the rate is that of the heads, where the schedule has one for them.
    """

    name: str
    params: list[nn.Parameter] = field(default_factory=list)
    lr_scale: float = 1.0
    weight_decay_scale: float = 1.0
    head: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return the group in the form that torch's optimisers take."""
        return {
            "params": self.params,
            "name": self.name,
            "lr_scale": self.lr_scale,
            "weight_decay_scale": self.weight_decay_scale,
            **({"head": True} if self.head else {}),
        }


@dataclass(frozen=True)
class Origins:
    """Where the networks of a method may have their first weights from.

    `seed` is the run's. `fresh` makes its backbone with weights that a seed draws, and leaves torch's random state as
    it was. `of_run` reads the state dict of the method of a finished run; `parent` says which run that is.
    """

    seed: int
    fresh: Callable[[int], Backbone]
    of_run: Callable[[str], dict[str, Tensor]]
    parent: Callable[[str], dict[str, str] | None]


class Method(Protocol):
    """What the training loop, the run and the planning know of a method; also a `torch.nn.Module`.

    Built as `factory(backbone=..., spec=DataSpec, <settings from YAML>)`. The loop calls, once per step:
    `method(batch, clock)` (once per part where gradients are accumulated), backward, clipping, `before_step`, the
    optimiser's step, `after_step`. All state belongs into the state dict: it is what resumes a run.
    `dinodiet.methods.base.MethodBase` has defaults for everything but `forward`.
    """

    split: Literal["pretext", "train"]  # of the dataset: what the method trains on
    evaluates_teacher: ClassVar[bool]  # whether `encoder` is a teacher's, and not the backbone that gradients train
    trains: ClassVar[bool]  # whether it takes steps; False: it optimises nothing, and its schedule means nothing

    @property
    def encoder(self) -> nn.Module:
        """Return the module whose embeddings are evaluated."""
        ...

    @property
    def reads_images(self) -> bool:
        """Return whether training reads the images of a batch, and not only their labels and indices."""
        ...

    @property
    def draft_side(self) -> int | None:
        """Return the shorter side at which large JPEG files may be decoded for training; None: in full."""
        ...

    @property
    def steady(self) -> bool:
        """Return whether the same parameters have gradients in every part of every step."""
        ...

    @property
    def compares_images(self) -> bool:
        """Return whether the loss of an image depends on the others of its batch, or of its part of one."""
        ...

    def towers(self) -> list[nn.Module]:
        """Return the backbones, the trained one first: what freezing, compiling, sharding and planning act on."""
        ...

    def start(self, origins: Origins) -> dict[str, Any]:
        """Give networks the weights that they begin with, once; return what is not as the run built it."""
        ...

    def prepare(self, images: Images, clock: Clock, runtime: Runtime) -> None:
        """Compute once, before the first step, what training needs of the images, in the order of `Batch.index`."""
        ...

    def shown_views(self, batch: Batch, clock: Clock, images: Images) -> list[ShownView]:
        """Return what `__call__` with the same batch and clock makes its networks see; it needs no weights.

        `images` is the split that is trained on, of which views were kept beforehand. Empty: it makes no views.
        """
        ...

    def __call__(self, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        """Return the scalar `loss` of a batch, and detached scalars worth logging, all on the batch's device."""
        ...

    def before_step(self, clock: Clock) -> None:
        """Run after backward and clipping, before the optimiser's step."""
        ...

    def after_step(self, clock: Clock) -> None:
        """Run after the optimiser's step; `clock` is still at that step."""
        ...

    def logits(self, images: Tensor) -> Tensor | None:
        """Return a trained classifier's logits (B, labels) of images (B, 3, s, s); None: the method trains none."""
        ...

    def param_groups(self) -> list[ParamGroup]:
        """Return what is optimised."""
        ...

    def own_parameters(self) -> dict[str, Shard]:
        """Return the parameters of which every process holds other rows, by name; their gradients are complete.

        What averages gradients over processes leaves them out. `state_dict` has their own rows, `load_state_dict` takes
        all rows (`dinodiet.training.shards`).
        """
        ...

    def guessing(self) -> dict[str, float]:
        """Return the value that logged losses have as long as nothing is learned, by name; none where it is unknown."""
        ...

    def diagnostics(self) -> dict[str, float]:
        """Return what is too costly for every step, about the last batch."""
        ...

    def networks(self) -> dict[str, dict[str, nn.Module]]:
        """Return the parts of each network, `encoder` and `head`, by role: `student`, and `teacher` if there is one."""
        ...

    @property
    def begins_alike(self) -> bool:
        """Return whether a teacher of the student's architecture begins with the student's weights."""
        ...

    def readout(self, role: str, embeddings: Tensor, clock: Clock) -> dict[str, Tensor]:
        """Return what a role's network makes of embeddings (B, embed_dim): `projections`, `logits`, each (B, D)."""
        ...

    def features(self, clock: Clock) -> dict[str, Tensor]:
        """Return what the last forward pass made, detached, by role and kind (`teacher/embeddings`): (views, B, D)."""
        ...

    def keep_features(self) -> None:
        """Keep, from now on, what a forward pass makes until the next one."""
        ...

    def hyperparameters(self, clock: Clock) -> dict[str, float]:
        """Return the values that the method's own schedules and buffers have at a step."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return the choices the method made itself, for the run's summary."""
        ...

    def train(self, mode: bool = True) -> Any:
        """Set the training mode of everything but frozen parts."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return all state."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Take all state."""
        ...
