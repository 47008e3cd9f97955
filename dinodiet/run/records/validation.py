"""What the networks of a method make of validation images."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor, nn

from dinodiet.backbones.modes import eval_mode
from dinodiet.data.images import Subset
from dinodiet.errors import UserError
from dinodiet.features.embed import embedded
from dinodiet.run.readouts import readouts_of
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


def chosen_kinds(run: Recorded, kinds: list[str] | None) -> list[str]:
    """Return the kinds to record: those asked for, or all.

    Raises:
        UserError: the method has none of that kind.
    """
    there = [EMBEDDINGS, *readouts_of(run.method, run.clock)]
    if missing := [kind for kind in kinds or () if kind not in there]:
        name = type(run.method).__name__
        raise UserError(f"kinds: {missing[0]}; {name} shows no such features, choose from: {', '.join(there)}")
    return [kind for kind in there if kinds is None or kind in kinds]


def features_size(method: Method, kinds: list[str] | None, images: int) -> int:
    """Return the bytes of features of so many images by all networks of a method, which may be without values."""
    total = 0
    for role, network in method.networks().items():
        encoder = network["encoder"]
        assert isinstance(encoder, Backbone) and isinstance(encoder, nn.Module)
        device = next(encoder.parameters(), torch.empty(0)).device
        embeddings = torch.zeros(2, encoder.embed_dim, device=device)
        with torch.no_grad(), evaluating(method):
            made = {EMBEDDINGS: embeddings, **method.readout(role, embeddings, Clock(0, 1, 1))}
        total += sum(4 * images * rows.shape[1] for kind, rows in made.items() if kinds is None or kind in kinds)
    return total


@torch.no_grad()
def features_of(run: Recorded, images: Images, kinds: list[str], clock: Clock) -> dict[str, Tensor]:
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
