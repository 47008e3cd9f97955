"""The points that a landscape is made of: parameter vectors of a method's networks, from the files of runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from dinodiet.errors import UserError
from dinodiet.methods.base import MethodBase
from dinodiet.run.readouts import readouts_of
from dinodiet.run.weights import path_of, read_whole
from dinodiet.store.rundir import RunDir
from dinodiet.store.scores import read_results
from dinodiet.types import Clock

ROLES = ("teacher", "student", "init")
State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Point:
    """A network of a run: its `teacher`, its `student`, or the student before the training (`init`)."""

    run_dir: RunDir
    role: str

    def __str__(self) -> str:
        """Return it as it is written in `landscape.points`."""
        return f"{self.run_dir.path.name}:{self.role}"


def point_of(text: str, own: RunDir) -> Point:
    """Return the point that a text such as `student` or `outputs/default/RUN:student` names.

    Raises:
        UserError: there is no such role, or the run is not finished.
    """
    place, _, role = text.rpartition(":")
    if role not in ROLES:
        raise UserError(
            f"landscape.points: {text!r}; choose from: {', '.join(ROLES)}, of another run RUN:<one of them>"
        )
    run_dir = RunDir(Path(place).expanduser()) if place else own
    if not run_dir.weights.exists():
        raise UserError(f"landscape.points: {run_dir.path} is no finished run: it holds no {run_dir.weights.name}")
    return Point(run_dir, role)


@dataclass(frozen=True)
class Networks:
    """The parts of a method's student and teacher, and where their tensors lie in a state dict of the method.

    `head` False: vectors are of the encoder alone.

    Raises:
        UserError: the method has no teacher with a head of its own.
    """

    method: MethodBase
    head: bool = True

    def __post_init__(self) -> None:
        found, needed = self.method.networks(), {"encoder", "head"}
        alike = all(needed <= found.get(role, {}).keys() for role in ("student", "teacher"))
        if not alike or "logits" not in readouts_of(self.method, Clock(0, 1, 1)):
            name = type(self.method).__name__
            raise UserError(
                f"mode=landscape: {name} compares no logits with those of a teacher; give a run of dino as checkpoint"
            )

    def parts(self, role: str) -> dict[str, nn.Module]:
        """Return encoder and head of the student (also of `init`) or the teacher."""
        networks = self.method.networks()
        found = networks["teacher" if role == "teacher" else "student"]
        return {name: found[name] for name in ("encoder", "head")}

    def moved(self, role: str) -> list[nn.Module]:
        """Return the parts whose parameters make a vector."""
        parts = self.parts(role)
        return [parts["encoder"], parts["head"]] if self.head else [parts["encoder"]]

    def vector(self, role: str, state: State) -> Tensor:
        """Return the parameters of a role in the state of a method as one vector (D,) in float32.

        Raises:
            UserError: the state is of another network.
        """
        found: list[Tensor] = []
        for part in self.moved(role):
            prefix = path_of(part, self.method)
            for name, parameter in part.named_parameters():
                tensor = state.get(f"{prefix}.{name}")
                if tensor is None or tensor.shape != parameter.shape:
                    raise UserError(f"landscape.points: {prefix}.{name} of one of them is absent or of another shape")
                found.append(tensor.detach().float().cpu().flatten())
        return torch.cat(found)

    @torch.no_grad()
    def set(self, role: str, vector: Tensor) -> None:
        """Give the parameters of a role the values of a vector."""
        parameters = [parameter for part in self.moved(role) for parameter in part.parameters()]
        for parameter, values in zip(parameters, vector.split([p.numel() for p in parameters]), strict=True):
            parameter.copy_(values.view_as(parameter))

    def load(self, role: str, other: str, state: State) -> None:
        """Give all parameters and buffers of one role the values that another has in the state of a method."""
        for part, source in zip(self.parts(role).values(), self.parts(other).values(), strict=True):
            prefix = path_of(source, self.method) + "."
            part.load_state_dict({key.removeprefix(prefix): t for key, t in state.items() if key.startswith(prefix)})


def state_of(point: Point, own: RunDir, begun: State) -> State:
    """Return the state of a method that a point lies in; `begun` is that of the own run before its training.

    Raises:
        UserError: another run did not keep how it began.
    """
    if point.role != "init":
        return read_whole(point.run_dir.weights)
    if (first := point.run_dir.kept(0)).exists():
        return read_whole(first)
    if point.run_dir.path.resolve() == own.path.resolve():
        return begun
    raise UserError(f"landscape.points: {point} was not kept; a run with keep_every_epochs=1 keeps it")


def kept_states(run_dir: RunDir) -> dict[int, Path]:
    """Return the files of the states that a run kept, by step, and of the last one."""
    found = {int(path.stem.removeprefix("step")): path for path in sorted(run_dir.path.glob("kept/step*.safetensors"))}
    last = (read_results(run_dir) or {}).get("steps")
    return found if last is None else {**found, int(last): run_dir.weights}
