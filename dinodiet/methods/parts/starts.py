"""What networks begin with: the model's weights, fresh ones, or those that another run left."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from dinodiet.backbones.freeze import set_trainable
from dinodiet.backbones.weights.misfit import refuse_misfit
from dinodiet.config.ranges import Seed
from dinodiet.config.signature import OfRun
from dinodiet.errors import UserError
from dinodiet.types import Origins

Role = Literal["teacher", "student"]


class Network(NamedTuple):
    """A backbone with its head."""

    backbone: nn.Module
    head: nn.Module

    def state(self) -> dict[str, Tensor]:
        """Return all values, under `backbone.` and `head.`."""
        return {f"{part}.{key}": value for part, m in self._asdict().items() for key, value in m.state_dict().items()}

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return the parameters, under `backbone.` and `head.`."""
        return {f"{part}.{key}": value for part, m in self._asdict().items() for key, value in m.named_parameters()}

    def take(self, state: Mapping[str, Tensor], source: str) -> None:
        """Take all values of a state.

        Raises:
            UserError: they do not fit.
        """
        refuse_misfit(self.state(), state, f"checkpoint: {source} does not fit this model and head")
        for part, module in self._asdict().items():
            prefix = f"{part}."
            module.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})


Fresh = Callable[[int], Network]  # with weights that a seed draws


class TeacherStart:
    """What a teacher begins with.

    Args:
        init: model: what the run's model begins with; random: fresh weights of backbone and head; checkpoint: those
            that a finished run left, with its head.
        seed: of `init` random; None: from the run's seed.
        checkpoint: of `init` checkpoint: the directory of that run.
        tower: of `init` checkpoint: the run's teacher or its student.

    Raises:
        UserError: a setting is given that `init` does not use, or one is missing.
    """

    def __init__(
        self,
        *,
        init: Literal["model", "random", "checkpoint"] = "model",
        seed: Seed[int | None] = None,
        checkpoint: OfRun[str | None] = None,
        tower: Role = "teacher",
    ) -> None:
        check_used(init, "seed", seed is not None, ("random",))
        check_used(init, "tower", tower != "teacher", ("checkpoint",))
        check_checkpoint(init, checkpoint)
        self.init, self.seed, self.checkpoint, self.tower = init, seed, checkpoint, tower

    def __call__(self, teacher: Network, fresh: Fresh, origins: Origins) -> dict[str, Any]:
        """Give a teacher its weights; return what they are, nothing where it is as it was built."""
        if self.init == "random":
            seed = self.seed if self.seed is not None else seed_of(origins.seed, "teacher")
            teacher.take(fresh(seed).state(), "random")
            return {"init": self.init, "seed": seed}
        if self.checkpoint is not None:
            teacher.take(left_by(self.checkpoint, self.tower, origins), self.checkpoint)
            return {"init": self.init, "tower": self.tower, "parent": origins.parent(self.checkpoint)}
        return {}


def check_used(init: str, name: str, given: bool, by: tuple[str, ...]) -> None:
    """Refuse a setting that only other values of `init` use.

    Raises:
        UserError: it is given.
    """
    if given and init not in by:
        raise UserError(
            f"{name}: given, but init={init} does not use it; leave it out, or choose init={' or '.join(by)}"
        )


def check_checkpoint(init: str, checkpoint: str | None) -> None:
    """Refuse a checkpoint that is not used, and one that is missing; raises as `check_used`."""
    check_used(init, "checkpoint", checkpoint is not None, ("checkpoint",))
    if init == "checkpoint" and checkpoint is None:
        raise UserError("checkpoint: null, but init=checkpoint begins with it; give the directory of a finished run")


def left_by(run: str, tower: Role, origins: Origins) -> dict[str, Tensor]:
    """Return the state of the teacher or student that a finished run left.

    Raises:
        UserError: it cannot be read, or has no such network.
    """
    whole, prefix = origins.of_run(run), "teacher." if tower == "teacher" else ""
    parts = (f"{prefix}backbone.", f"{prefix}head.")
    state = {key.removeprefix(prefix): value for key, value in whole.items() if key.startswith(parts)}
    if not state:
        raise UserError(f"tower: {tower}, but the run {run} has none; choose the other, or a run of DINO")
    return state


def fresh_network(origins: Origins, seed: int, *, trainable: str, head: Callable[[], nn.Module]) -> Network:
    """Return a backbone and a head with weights that a seed draws; torch's random state stays as it was."""
    backbone: Any = origins.fresh(seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed_of(seed, "head"))
        set_trainable(backbone, trainable)
        return Network(backbone, head())


def seed_of(seed: int, name: str) -> int:
    """Return the seed of a part that has none of its own."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=4).digest(), "little")
