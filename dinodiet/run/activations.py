"""What a training step and an evaluation hold besides weights: they are run on tensors that have shapes, but no memory.

Each backbone is run once for each shape of its input. A method's own loss is run for every run, with backbones in it
that only reserve what the real ones were seen to hold: grids of many heads and settings are planned in seconds.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

from dinodiet.backbones.split import Split
from dinodiet.methods.base import MethodBase
from dinodiet.run.flops import Flops
from dinodiet.types import AUTOCAST, Batch, Clock, DataSpec


class Live(TorchDispatchMode):
    """Counts the bytes of the tensors that come to life within it: `now` and at most (`peak`).

    The weights of a `network` are there already: views of them are not counted.
    """

    def __init__(self, network: nn.Module | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._known: dict[int, Any] = {}
        if network is not None:
            self.know(network)

    def know(self, network: nn.Module) -> None:
        """Leave the weights of a network, which are there already, uncounted."""
        for tensor in (*network.parameters(), *network.buffers()):
            self._know(tensor.untyped_storage(), 0)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count what it returns."""
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._see(leaf)
        return result

    def _see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._known:
            self._know(storage, storage.nbytes())
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)

    def _know(self, storage: torch.UntypedStorage, number: int) -> None:
        key = storage._cdata
        self._known[key] = weakref.finalize(storage, self._forget, key, number)

    def _forget(self, key: int, number: int) -> None:
        del self._known[key]
        self.now -= number


@dataclass(frozen=True)
class Cost:
    """Bytes of one pass through a backbone: kept for its backward pass, and at most while it runs, either way.

    `forward` and `backward` are its floating-point operations.
    """

    kept: int
    peak: int
    forward: int = 0
    backward: int = 0


@dataclass(frozen=True)
class StepCost:
    """Bytes of a step: at its `peak`, and of features for records.

    `kept` are those that the method keeps until the next step; to `read` them takes more for a moment, and the
    `largest` of them is what is measured. `flops` are its floating-point operations, and `waiting` those of one in
    which the backbones wait.
    """

    peak: int
    kept: int = 0
    read: int = 0
    largest: int = 0
    flops: int = 0
    waiting: int = 0


@dataclass(frozen=True)
class Pass:
    """A forward pass through a backbone: the shape of its images, and how many patches of them it sees (None: all).

    `patches` is the number of patch tokens that it shows beside the embedding (None: it shows none), some `covered`.
    """

    shape: torch.Size
    training: bool
    visible: int | None = None
    patches: int | None = None
    covered: bool = False

    def run(self, network: Any, images: Tensor) -> tuple[Tensor, ...]:
        """Return what the network makes of images of this shape."""
        if self.patches is not None:
            mask = torch.zeros(len(images), self.patches, dtype=torch.bool) if self.covered else None
            token = torch.zeros(network.token_layout().width) if self.covered else None
            return network.embedding_and_patches(images, mask, token)  # type: ignore[no-any-return]
        if self.visible is None:
            return (network(images),)
        visible = torch.arange(self.visible).expand(len(images), -1)
        return (network.visible_tokens(images, visible),)


class Reserved:
    """The bytes that backbones would hold beside the tensors that are `live`: `kept`, and at most (`peak`).

    `forward` and `backward` are the floating-point operations of their passes.
    """

    def __init__(self, live: Live) -> None:
        self._live = live
        self.kept = self.peak = self.forward = self.backward = 0

    def add(self, cost: Cost) -> None:
        """Count a pass."""
        self.peak = max(self.peak, self._live.now + self.kept + cost.peak)
        self.kept += cost.kept
        self.forward += cost.forward
        self.backward += cost.backward


class Reserve(nn.Module):
    """Stands for a backbone: outputs of the right shape, and a count of what the real one would hold."""

    def __init__(self, backbone: Any, cost: Callable[[Pass], Cost], reserved: Reserved) -> None:
        super().__init__()
        self.embed_dim, self._cost, self._reserved = backbone.embed_dim, cost, reserved
        self._layout = getattr(backbone, "token_layout", None)

    def forward(self, images: Tensor) -> Tensor:
        """Return embeddings of images."""
        self._reserved.add(self._cost(Pass(images.shape, torch.is_grad_enabled())))
        return torch.empty(len(images), self.embed_dim, requires_grad=torch.is_grad_enabled())

    def visible_tokens(self, images: Tensor, visible: Tensor) -> Tensor:
        """Return tokens of images of which some patches are seen."""
        assert self._layout is not None
        self._reserved.add(self._cost(Pass(images.shape, torch.is_grad_enabled(), visible.shape[1])))
        layout = self._layout()
        shape = len(images), layout.prefix + visible.shape[1], layout.width
        return torch.empty(shape, requires_grad=torch.is_grad_enabled())

    def embedding_and_patches(
        self, images: Tensor, covered: Tensor | None = None, token: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return embeddings and patch tokens of images, of which patches may be covered."""
        assert self._layout is not None
        layout, gradients = self._layout(), torch.is_grad_enabled()
        number = (images.shape[-2] // layout.patch) * (images.shape[-1] // layout.patch)
        self._reserved.add(self._cost(Pass(images.shape, gradients, patches=number, covered=covered is not None)))
        shapes = (len(images), self.embed_dim), (len(images), number, layout.width)
        embeddings, patches = (torch.empty(shape, requires_grad=gradients) for shape in shapes)
        return embeddings, patches


class Activations:
    """Measures backbones, each once; `peak` then tells what a step of a method holds at most."""

    def __init__(self) -> None:
        self._costs: dict[Any, Cost] = {}
        self._trunks: dict[str, int] = {}

    def peak(
        self,
        key: str,
        method: MethodBase,
        spec: DataSpec,
        batch_size: int,
        precision: str,
        *,
        teacher: str | None = None,
        gradients: bool = True,
    ) -> StepCost:
        """Return what a training step takes: bytes of activations, gradients and features, and its operations.

        Args:
            key: names the backbone and what of it is trained.
            method: on the meta device; it is spoiled.
            spec: of its data.
            batch_size: of a micro-batch.
            precision: of the forward passes, as in `Optimisation`.
            teacher: names the backbones after the first; None: they are copies of it.
            gradients: whether those of parameters are counted; if not, each goes as soon as it is there.
        """
        views: Any = method.views
        shapes = [view.shape[1:] for view in views(torch.zeros(2, 3, 32, 32, dtype=torch.uint8), torch.Generator())]
        live, flops = Live(), Flops()
        reserved = Reserved(live)
        names = dict(zip(map(id, method.towers()), [key, *[teacher or key] * len(method.towers())], strict=False))
        for path, module in list(method.named_modules()):
            if id(module) in names:
                name = names[id(module)]
                cost = functools.partial(self._cost, name, module, precision=precision, gradients=gradients)
                method.set_submodule(path, Reserve(module, cost, reserved))
        with _without_memory(precision):
            method.to_empty(device="cpu").train()
            method.views = _Views(shapes, views.num_global)  # type: ignore[assignment]
            live.know(method)
            _count_gradients(method, gradients)
            with live, flops:
                loss = method(_batch(batch_size, spec), Clock(99, 100, 10))["loss"]
                after_forward = live.now
                torch.autograd.backward(loss)
                peak = max(reserved.peak, reserved.kept + live.peak, after_forward + reserved.kept)
                waiting = flops.total + reserved.forward
                step = StepCost(peak, flops=waiting + reserved.backward, waiting=waiting)
                return _with_features(method, live, step)

    def evaluation(self, key: str, backbone: nn.Module, batch_size: int, side: int, precision: str) -> Cost:
        """Return what an evaluation's batch takes."""
        one = Pass(torch.Size((batch_size, 3, side, side)), training=False)
        return self._cost(key, backbone, one, precision)

    def trunk(self, key: str, split: Split, side: int) -> int:
        """Return the floating-point operations of the trunk of a backbone on one image; `key` names the backbone."""
        named = f"{key} before block {split.first}"
        if named not in self._trunks:
            self._trunks[named] = _of_trunk(split, side)
        return self._trunks[named]

    def _cost(self, name: str, backbone: nn.Module, one: Pass, precision: str, gradients: bool = True) -> Cost:
        key = name, one, precision, gradients
        if key not in self._costs:
            self._costs[key] = _measured(backbone, one, precision, gradients)
        return self._costs[key]


def _with_features(method: MethodBase, live: Live, step: StepCost) -> StepCost:
    """Return what a step takes, with the features that the method has kept of it."""
    before = live.now
    made = [*method.features(Clock(99, 100, 10)).values()]
    storages = {rows.untyped_storage()._cdata: rows.untyped_storage().nbytes() for rows in made}
    read = live.now - before
    sizes = [rows.numel() * rows.element_size() for rows in made]
    return replace(step, kept=sum(storages.values()) - read, read=read, largest=max(sizes, default=0))


def _count_gradients(module: nn.Module, counted: bool) -> None:
    """Let gradients of parameters go as soon as they are there, where they are not counted."""
    for parameter in module.parameters() if not counted else ():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(_let_go)


def _let_go(parameter: Tensor) -> None:
    parameter.grad = None


def _measured(backbone: nn.Module, one: Pass, precision: str, gradients: bool) -> Cost:
    with _disable_current_modes():
        network = copy.deepcopy(backbone.train(one.training))
    with _disable_current_modes(), _without_memory(precision), torch.set_grad_enabled(one.training):
        network.to_empty(device="cpu")
        _count_gradients(network, gradients)
        images, live, flops = torch.empty(one.shape), Live(network), Flops()
        with live, flops:
            found = one.run(network, images)
            forward = flops.total
            kept = live.now if found[0].requires_grad else 0
            if found[0].requires_grad:
                torch.autograd.backward([part.sum() for part in found])
    return Cost(kept, live.peak, forward, flops.total - forward)


def _of_trunk(split: Split, side: int) -> int:
    with _disable_current_modes():
        own = copy.deepcopy(split)
    with _disable_current_modes(), _without_memory("fp32"), torch.no_grad():
        own.backbone.to_empty(device="cpu")
        flops = Flops()
        with flops:
            own.trunk(torch.empty(1, 3, side, side))
    return flops.total


@contextlib.contextmanager
def _without_memory(precision: str) -> Iterator[None]:
    dtype = AUTOCAST[precision]
    with FakeTensorMode(allow_non_fake_inputs=True), torch.autocast("cpu", dtype, enabled=dtype is not None):
        yield


@dataclass
class _Views:
    """Views of the right shapes."""

    shapes: list[torch.Size]
    num_global: int
    sides: list[int] = field(default_factory=list)
    draft_side: int | None = None
    fixed: bool = False

    def __call__(self, images: Tensor, generator: torch.Generator) -> list[Tensor]:
        return [torch.empty(len(images), *shape) for shape in self.shapes]


def _batch(size: int, spec: DataSpec) -> Batch:
    label = torch.zeros((size, spec.num_labels) if spec.multilabel else (size,), dtype=torch.int64)
    return Batch(torch.zeros(size, 3, 1, 1, dtype=torch.uint8), label, torch.zeros(size, dtype=torch.int64))
