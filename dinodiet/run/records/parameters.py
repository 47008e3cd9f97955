"""Parameters and gradients: lengths, angles, and how far teacher and student have moved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dinodiet.config.ranges import AtLeastOne
from dinodiet.errors import UserError
from dinodiet.run.needs import size_of
from dinodiet.run.records.base import RecordBase
from dinodiet.run.records.vectors import WHOLE, Sums, nonfinite, product, square
from dinodiet.types import Batch, Clock, Method, Recorded, RecordMemory, Row

COPIES = 4  # of a parameter, at most, while networks are compared
Named = dict[str, tuple[str, Tensor]]  # part and parameter by full name


@dataclass(frozen=True)
class Start:
    """Parameters of student and teacher before the first step, in their order; the same tensor where they are equal."""

    student: list[Tensor]
    teacher: list[Tensor]


class Parameters(RecordBase):
    """Of the whole model and of its parts (encoder, head): norm, root mean square and angles.

    Columns `<part>/<vector>/norm`, `rms`, of the vectors `student`, `teacher`, `gradient`, `difference` (teacher -
    student), `student_moved` and `teacher_moved` (since the start); `nan` and `inf` count numbers of the first three.
    `<part>/<vector>_<vector>/cosine` of teacher and student, gradient and difference, and of the two moved ones; NaN
    where a vector has no length. The gradient is that of the mean loss, unscaled, before clipping and before the method
    drops any of it (a frozen last layer). A parameter without one counts as 0. Its cosine is with the difference that
    it was computed at, before the step; all else is as it is after the step.

    Args:
        every_steps: steps from one row to the next.
        from_start: also how far they have moved. The start is kept on the device and in checkpoints: the memory of the
            student's weights, and of the teacher's where it begins elsewhere.
        each: also the root mean square of each parameter and of its gradient, `each/student/<name>/rms`.

    Raises:
        UserError: the method has no parameters.
    """

    def __init__(self, *, every_steps: AtLeastOne[int] = 25, from_start: bool = True, each: bool = False) -> None:
        super().__init__(every_steps=every_steps)
        self.from_start, self.each = from_start, each
        self._start: Start | None = None
        self._gradients: dict[str, float] = {}

    def memory(self, method: Method) -> RecordMemory:
        """Return the weights of the start, and a few copies of the largest parameter while a row is measured."""
        networks = method.networks()
        own, others = (list(named(networks.get(role, {})).values()) for role in ("student", "teacher"))
        kept = [*own, *others] if _alike(own, others) and not method.begins_alike else own
        moment = COPIES * max((size_of([parameter]) for _, parameter in own), default=0)
        return RecordMemory(size_of(parameter for _, parameter in kept) if self.from_start else 0, moment)

    def prepare(self, run: Recorded) -> None:
        """Find the parameters of student and teacher; a teacher of another architecture is compared with nothing."""
        super().prepare(run)
        networks = run.method.networks()
        self._student = named(networks["student"])
        self._teacher = named(networks.get("teacher", {}))
        self._paired = _alike(self._student.values(), self._teacher.values())
        if not self._student:
            raise UserError("the method has no parameters to record; leave it out")

    def begin(self) -> Sequence[Row]:
        """Keep the start."""
        if self.from_start:
            self._start = start_of(self._student, self._teacher if self._paired else {})
        return []

    @torch.no_grad()
    def on_gradients(self, clock: Clock, batch: Batch) -> None:
        """Measure the gradient, and its angle to the difference between the networks."""
        sums, gradients = Sums(), dict[str, Tensor]()
        teacher = [parameter for _, parameter in self._teacher.values()] if self._paired else None
        for position, (name, (part, own)) in enumerate(self._student.items()):
            sums.count(part, own.numel())
            difference = None if teacher is None else teacher[position] - own
            if difference is not None:
                sums.add("difference", part, square(difference))
            if own.grad is not None:
                gradients[name] = own.grad
                sums.add("gradient", part, square(own.grad))
                if difference is not None:
                    sums.add("both", part, product(own.grad, difference))
        sums.read()
        self._gradients = {**lengths(sums, "gradient"), **counted(sums, "gradient", self._parts(gradients))}
        if self._paired:
            for part in sums.parts():
                cosine = sums.cosine("both", "gradient", "difference", part)
                self._gradients[f"{part}/gradient_difference/cosine"] = cosine
        if self.each:
            self._gradients |= each("gradient", gradients)

    @torch.no_grad()
    def on_step(self, clock: Clock, logs: Mapping[str, Tensor]) -> Sequence[Row]:
        """Return the row of a step."""
        row: dict[str, float] = {}
        for role, network in (("student", self._student), ("teacher", self._teacher)):
            if network:
                row |= self._of(role, network)
        if self._paired:
            row |= self._compared()
        if self._start is not None:
            row |= self._moved(self._start)
        return [row | self._gradients]

    def _of(self, role: str, network: Named) -> dict[str, float]:
        """Return what is measured of one network."""
        sums = Sums()
        for part, parameter in network.values():
            sums.count(part, parameter.numel())
            sums.add(role, part, square(parameter))
        found = lengths(sums.read(), role)
        parameters = {name: parameter for name, (_, parameter) in network.items()}
        found |= counted(sums, role, self._parts(parameters, network))
        return found | (each(role, parameters) if self.each else {})

    def _compared(self) -> dict[str, float]:
        """Return the length of the difference and the angle between teacher and student."""
        sums = Sums()
        for (part, own), (_, other) in zip(self._student.values(), self._teacher.values(), strict=True):
            sums.count(part, own.numel())
            sums.add("difference", part, square(other - own))
            sums.add("student", part, square(own))
            sums.add("teacher", part, square(other))
            sums.add("both", part, product(other, own))
        cosines = {
            f"{part}/teacher_student/cosine": sums.cosine("both", "teacher", "student", part)
            for part in sums.read().parts()
        }
        return {**lengths(sums, "difference"), **cosines}

    def _moved(self, start: Start) -> dict[str, float]:
        """Return how far the networks have moved from the start, and the angle between the two ways."""
        sums, found = Sums(), dict[str, float]()
        for position, (part, own) in enumerate(self._student.values()):
            sums.count(part, own.numel())
            moved = own - start.student[position]
            sums.add("student_moved", part, square(moved))
            if self._paired:
                other = list(self._teacher.values())[position][1] - start.teacher[position]
                sums.add("teacher_moved", part, square(other))
                sums.add("both", part, product(other, moved))
        sums.read()
        for name in ("student_moved", "teacher_moved") if self._paired else ("student_moved",):
            found |= lengths(sums, name)
        if self._paired:
            for part in sums.parts():
                cosine = sums.cosine("both", "teacher_moved", "student_moved", part)
                found[f"{part}/teacher_moved_student_moved/cosine"] = cosine
        return found

    def _parts(self, tensors: Mapping[str, Tensor], network: Named | None = None) -> dict[str, list[Tensor]]:
        """Return tensors by the part that their name is in."""
        parts: dict[str, list[Tensor]] = {}
        for name, tensor in tensors.items():
            parts.setdefault((network or self._student)[name][0], []).append(tensor)
        return parts

    def state(self) -> dict[str, Any]:
        """Return the start."""
        return {} if self._start is None else {"student": self._start.student, "teacher": self._start.teacher}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up the start; without one nothing is told of how far the networks have moved."""
        if self.from_start and state:
            device = self.run.runtime.device
            same = {id(tensor): tensor.to(device) for role in ("student", "teacher") for tensor in state[role]}
            self._start = Start(*([same[id(tensor)] for tensor in state[role]] for role in ("student", "teacher")))


def _alike(first: Iterable[tuple[str, Tensor]], second: Iterable[tuple[str, Tensor]]) -> bool:
    """Return whether two networks have parameters of the same shapes."""
    return [own.shape for _, own in first] == [own.shape for _, own in second]


def named(network: Mapping[str, nn.Module]) -> Named:
    """Return the parameters of a network's parts by name, such as `encoder.blocks.0.norm1.weight`."""
    return {
        f"{part}.{name}": (part, parameter)
        for part, module in network.items()
        for name, parameter in module.named_parameters()
    }


def start_of(student: Named, teacher: Named) -> Start:
    """Return copies of all parameters; what the teacher has as the student does is kept once."""
    copies = [parameter.detach().clone() for _, parameter in student.values()]
    others = [parameter.detach() for _, parameter in teacher.values()]
    pairs = zip(copies, others, strict=True) if others else ()
    return Start(copies, [copy if torch.equal(copy, own) else own.clone() for copy, own in pairs])


def lengths(sums: Sums, name: str) -> dict[str, float]:
    """Return norm and root mean square of a vector, by part."""
    found = {}
    for part in sums.parts():
        found[f"{part}/{name}/norm"] = sums.norm(name, part)
        found[f"{part}/{name}/rms"] = sums.rms(name, part)
    return found


def counted(sums: Sums, name: str, parts: Mapping[str, Sequence[Tensor]]) -> dict[str, float]:
    """Return how many numbers of a vector are NaN and infinite, by part; read only where its length is not finite."""
    found: dict[str, float] = {}
    for part in sums.parts():
        tensors = [tensor for own, group in parts.items() if part in (WHOLE, own) for tensor in group]
        finite = sums.total(name, part) < float("inf")
        found[f"{part}/{name}/nan"], found[f"{part}/{name}/inf"] = map(float, (0, 0) if finite else nonfinite(tensors))
    return found


def each(role: str, tensors: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the root mean square of each tensor by its name."""
    if not tensors:
        return {}
    squares = torch.stack([square(tensor) / max(tensor.numel(), 1) for tensor in tensors.values()]).sqrt().tolist()
    return {f"each/{role}/{name}/rms": value for name, value in zip(tensors, squares, strict=True)}
