"""What the networks of a method make of images that it is not trained on, and how to compute without a trace."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from dinodiet.backbones.modes import eval_mode
from dinodiet.data.images import Subset
from dinodiet.errors import UserError
from dinodiet.features.embed import embedded
from dinodiet.types import Backbone, Clock, Images, Method, Recorded

EMBEDDINGS = "embeddings"


def first_images(run: Recorded, number: int) -> Images:
    """Return the first images of the validation split.

    Raises:
        UserError: there are none.
    """
    if not len(run.validation):
        raise UserError("the data have no validation images to record; choose images=0, or leave it out")
    return Subset(run.validation, torch.arange(min(number, len(run.validation))))


def evaluating(method: Method) -> contextlib.AbstractContextManager[None]:
    """Return the context in which a method is in evaluation mode."""
    assert isinstance(method, nn.Module)
    return eval_mode(method)


@torch.no_grad()
def kinds_of(run: Recorded) -> list[str]:
    """Return what kinds of features the method has: embeddings, and what its head makes of them."""
    encoder = run.method.networks()["student"]["encoder"]
    assert isinstance(encoder, Backbone)
    with evaluating(run.method):
        found = run.method.readout("student", torch.zeros(2, encoder.embed_dim, device=run.runtime.device), run.clock)
    return [EMBEDDINGS, *found]


def chosen_kinds(run: Recorded, kinds: list[str] | None) -> list[str]:
    """Return the kinds to record: those asked for, or all.

    Raises:
        UserError: the method has none of that kind.
    """
    there = kinds_of(run)
    if missing := [kind for kind in kinds or () if kind not in there]:
        name = type(run.method).__name__
        raise UserError(f"kinds: {missing[0]}; {name} shows no such features, choose from: {', '.join(there)}")
    return [kind for kind in there if kinds is None or kind in kinds]


@torch.no_grad()
def looked_at(run: Recorded, images: Images, kinds: list[str], clock: Clock) -> dict[str, Tensor]:
    """Return features of images by role and kind (`teacher/logits`): float32 (images, D) on the CPU, in eval mode."""
    found: dict[str, Tensor] = {}
    with evaluating(run.method):
        for role, network in run.method.networks().items():
            embeddings = torch.cat(list(embedded(network["encoder"], images, run.input, run.runtime)))
            with run.runtime.autocast():
                made = run.method.readout(role, embeddings.to(run.runtime.device), clock)
            made = {EMBEDDINGS: embeddings, **made}
            found |= {f"{role}/{kind}": made[kind].float().cpu() for kind in kinds if kind in made}
    return found


@contextlib.contextmanager
def untouched(method: nn.Module) -> Iterator[None]:
    """Let a method compute, and put back all that it keeps: modes, buffers, attributes, the state of random numbers."""
    kept = [(module, dict(vars(module)), dict(module._buffers)) for module in method.modules()]
    values = {id(own): own.clone() for _, _, buffers in kept for own in buffers.values() if own is not None}
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if torch.cuda.is_initialized() else []):
        try:
            yield
        finally:
            for module, attributes, buffers in kept:
                vars(module).clear()
                vars(module).update(attributes)
                module._buffers.update(buffers)
                for own in buffers.values():
                    if own is not None:
                        own.copy_(values[id(own)])
