"""The memory of evaluators that train a copy of the backbone, from their settings: no values, no memory."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from dinodiet.config.build import build
from dinodiet.config.settings import Settings
from dinodiet.config.signature import Node
from dinodiet.errors import NotApplicable, UserError
from dinodiet.methods.base import MethodBase
from dinodiet.run.activations import Activations
from dinodiet.run.needs import on_meta, size_of
from dinodiet.types import Backbone, DataSpec, Evaluator, PlansTraining


@dataclass(frozen=True)
class TrainedCopy:
    """What the evaluator `eval.<name>` trains of a copy of the backbone.

    Attributes:
        name: of the evaluator.
        key: tells its steps apart from those of others.
        method: on the meta device.
        spec: of its data.
        images: that pass through the network at once.
        held: bytes of weights and optimiser state. The weights of the best step, which lie in the memory of the
            machine, are not among them.
    """

    name: str
    key: str
    method: MethodBase
    spec: DataSpec
    images: int
    held: int

    def peak(self, precision: str, activations: Activations) -> int | None:
        """Return the bytes at the worst moment of a step; None: a part cannot do without values.

        The method is spoiled.

        Raises:
            UserError: a part refuses what it is given.
        """
        try:  # a step's gradients are among its activations
            return self.held + activations.peak(self.key, self.method, self.spec, self.images, precision).peak
        except UserError:
            raise
        except Exception:  # what parts of one's own do with tensors that have no values is up to them
            return None


def trained_copies(settings: Settings, encoder: nn.Module, spec: DataSpec, num_train: int) -> list[TrainedCopy]:
    """Return what evaluators train of an encoder on the meta device, as its run has it, on so many images.

    Raises:
        UserError: an evaluator refuses its settings.
    """
    nodes = settings.evaluation.evaluators
    evaluators: dict[str, Evaluator] = {name: build(node, f"eval.{name}")() for name, node in nodes.items()}
    return [
        _copy(name, _key(settings, spec, nodes[name]), evaluator, encoder, spec, num_train)
        for name, evaluator in evaluators.items()
        if isinstance(evaluator, PlansTraining) and _applies(evaluator, spec, num_train)
    ]


def _key(settings: Settings, spec: DataSpec, evaluator: Node) -> str:
    """Return what tells the steps of what an evaluator trains apart from others."""
    method = {key: settings.method.get(key) for key in ("_target_", "trainable")}  # trained blocks are recomputed
    shape = [settings.model, method, spec.image_size, spec.native_size, settings.grad_checkpointing]
    return json.dumps([*shape, evaluator], sort_keys=True)


def _applies(evaluator: Evaluator, spec: DataSpec, num_train: int) -> bool:
    try:
        evaluator.applies(spec, num_train)
    except NotApplicable:
        return False
    return True


def _copy(
    name: str, key: str, evaluator: PlansTraining, encoder: nn.Module, spec: DataSpec, num_train: int
) -> TrainedCopy:
    assert isinstance(encoder, Backbone)
    training = on_meta(lambda: evaluator.training_of(encoder, spec, num_train))
    method = training.method
    assert isinstance(method, MethodBase)
    weights = size_of((*method.parameters(), *method.buffers()))
    state = round(size_of(method.parameters()) * training.state_per_parameter)
    return TrainedCopy(name, key, method, spec, training.batch_size, weights + state)


def worst(copies: Iterable[TrainedCopy], precision: str, activations: Activations) -> int:
    """Return the bytes at the worst moment of what evaluators train, one after the other; 0: they train nothing."""
    return max((copy.peak(precision, activations) or 0 for copy in copies), default=0)
