"""Finds a network in a checkpoint: under which prefix, through whatever wrappers and containers.

A prefix is tried wherever tensors lie below one, and the one whose tensors fit the model best is taken. Where several
networks fit equally, as a student and its teacher do, it is the one that the papers evaluate:

1. of an online and a target network (BYOL) the online one;
2. a teacher, target encoder or average (DINO, iBOT, DINOv2, I-JEPA, EMA) rather than the network it averages;
3. the trained network (`backbone`, `base_encoder`, `encoder_q`) rather than its `momentum` or key encoder (MoCo).

What these do not decide is refused; `weights_prefix` decides it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dinodiet.backbones.weights.pickles import Inert
from dinodiet.errors import UserError

State = dict[str, Tensor]
# How well a state dict fits a model: more is better, and 0 in front is not at all. None: it is of another layout.
Fit = Callable[[State], tuple[int, ...] | None]

_WRAPPERS = re.compile(
    r"(?:(?<=^)|(?<=\.))(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\."
)
_PARTS = ("_parameters", "_buffers", "_modules")  # where a pickled module keeps its own
_DEPTH = 16  # of nested containers
_ROLES = (
    {"online"},
    {"teacher", "target", "ema"},
    set[str](),  # neither
    {"student", "momentum", "key", "k"},
)


@dataclass(frozen=True)
class Found:
    """A network in a checkpoint: its tensors, under which prefix, and which others fit equally."""

    state: State
    prefix: str
    others: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return which it is, in words; nothing where the file holds just it."""
        others = f"; {', '.join(self.others)} would fit too" if self.others else ""
        return f" ({self.prefix}{others})" if self.prefix else ""


def module_state(value: Any) -> Any:
    """Return the state of a whole module that was pickled, as a mapping; anything else as it is."""
    return dict(value.state or {}) if isinstance(value, Inert) else value


def tensors_in(checkpoint: Mapping[str, Any]) -> State:
    """Return all tensors and numeric arrays of a checkpoint by their path, without the names that wrappers add."""
    return {_WRAPPERS.sub("", path): value for path, value in _walk(checkpoint, "", 0)}


def _walk(value: Any, path: str, depth: int) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Inert):
        value = {**(value.state or {}), **value.items}  # type: ignore[attr-defined]
    if isinstance(value, Tensor):
        yield path, value.detach()
    elif isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
        yield path, torch.from_numpy(np.array(value))
    elif isinstance(value, (Mapping, list, tuple)) and depth < _DEPTH:
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, item in items:
            inner = path if key in _PARTS else f"{path}.{key}" if path else str(key)
            yield from _walk(item, inner, depth + 1)


def find(tensors: State, fit: Fit, size: int, prefix: str | None, source: str, preferred: str | None = None) -> Found:
    """Return the network that fits best.

    Args:
        tensors: of a whole checkpoint, by path.
        fit: how well what lies under a prefix fits the model.
        size: number of tensors of the model.
        prefix: where to look; null: anywhere.
        source: what to call the file.
        preferred: of several that fit equally, the one below this.

    Raises:
        UserError: nothing lies under `prefix`, or several different networks fit equally.
    """

    def role(place: str) -> int:
        return -1 if preferred is not None and place.split(".")[0] == preferred else _role(place)

    places = _places(tensors, size, _given(tensors, prefix, source))
    fits = {place: found for place in places if (found := fit(below(tensors, place))) is not None and found[0]}
    best = max(fits.values(), default=None)
    equal = sorted((place for place, found in fits.items() if found == best), key=role)
    if not equal:
        place = places[0]
        return Found(below(tensors, place), place)
    first, *others = [place for place in equal if not any(_inside(place, outer) for outer in equal)]
    rivals = [other for other in others if role(other) == role(first) and not _same(tensors, first, other)]
    if rivals:
        raise UserError(
            f"weights: {source} holds several networks that fit: {', '.join([first, *rivals])}; "
            "choose one with weights_prefix"
        )
    return Found(below(tensors, first), first, tuple(others))


def refuse_prefix(weights: str, prefix: str | None) -> None:
    """Refuse a prefix where there are no weights that could have one.

    Raises:
        UserError: there are none.
    """
    if weights == "none" and prefix is not None:
        raise UserError(f"weights_prefix: {prefix!r}, but weights is none; leave it null")


def below(tensors: State, prefix: str) -> State:
    """Return what lies under a prefix, without it."""
    start = f"{prefix}." if prefix else ""
    return {key[len(start) :]: value for key, value in tensors.items() if key.startswith(start)}


def _given(tensors: State, prefix: str | None, source: str) -> str:
    place = (prefix or "").strip(".")
    if not place or below(tensors, place):
        return place
    inside = {key[: start + len(place) + 1] for key in tensors if (start := key.find(f".{place}.")) >= 0}
    if len(inside) == 1:  # within a container, which need not be told
        return inside.pop()
    if not inside:
        raise UserError(f"weights_prefix: {prefix!r}, but {source} has nothing under it; {_top(tensors)}")
    raise UserError(f"weights_prefix: {prefix!r} is in {source} more than once: {', '.join(sorted(inside))}")


def _top(tensors: State) -> str:
    """Return the prefixes that a file has, in words."""
    found = Counter(".".join(key.split(".")[:depth]) for key in tensors for depth in (1, 2) if key.count(".") > depth)
    return f"it has: {', '.join(name for name, _ in found.most_common(8)) or 'no prefixes'}"


def _places(tensors: State, size: int, within: str) -> list[str]:
    """Return the prefixes that have at least half as many tensors below them as the model has, the given one first."""
    counts: Counter[str] = Counter()
    for key in tensors:
        parts = key.split(".")
        counts.update(".".join(parts[:depth]) for depth in range(1, len(parts)))
    inside = f"{within}." if within else ""
    return [within, *(place for place, count in counts.items() if 2 * count >= size and place.startswith(inside))]


def _role(place: str) -> int:
    words = set(re.split(r"[._]", place.lower()))
    return next((rank for rank, names in enumerate(_ROLES) if words & names), 2)


def _inside(place: str, outer: str) -> bool:
    return place != outer and (not outer or place.startswith(f"{outer}."))


def _same(tensors: State, first: str, second: str) -> bool:
    one, other = below(tensors, first), below(tensors, second)
    return one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())
