"""The end of a head: a bottleneck between two linear layers, each piece of which may be there or not."""

from __future__ import annotations

from typing import Annotated

import torch.nn.functional as F
from torch import Tensor, nn

from dinodiet.config.describe import shown
from dinodiet.config.ranges import Range
from dinodiet.errors import UserError

PUBLISHED = "-/lb/fn/wn/l/-"
EPSILON = 1e-12  # norms are at least this
LINEAR = {"-": "absent", "l": "without bias", "lb": "with bias"}
# What each field of `layers` is about, and the words that it takes.
FIELDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("weight normalisation of linear layer 1", ("-", "wn")),
    ("linear layer 1", tuple(LINEAR)),
    ("L2 normalisation of the features", ("-", "fn", "fnd")),
    ("weight normalisation of linear layer 2", ("-", "wn")),
    ("linear layer 2", tuple(LINEAR)),
    ("L2 normalisation of the output", ("-", "fn")),
)


class Bottleneck(nn.Module):
    """Features (B, in_dim) -> logits (B, out_dim), by `layers`: six fields with `/` between them.

    | field | words | meaning |
    |---|---|---|
    | 1 | `wn`, `-` | weight normalisation of linear layer 1 |
    | 2 | `l`, `lb`, `-` | linear layer 1, in -> width: without bias, with bias, absent |
    | 3 | `fn`, `fnd`, `-` | L2 normalisation of the features; `fnd`: the norm is a constant of the backward pass |
    | 4 | `wn`, `-` | weight normalisation of linear layer 2 |
    | 5 | `l`, `lb`, `-` | linear layer 2, width -> out: without bias, with bias, absent |
    | 6 | `fn`, `-` | L2 normalisation of the output |

    The default is that of DINO (Caron et al. 2021, arXiv:2104.14294, section 3.1) with prototypes of norm 1. Weight
    normalisation divides each row of a weight by its L2 norm, without a gain; the stored weight stays as it is. The
    grammar is that of the command line of github.com/safelix/dinopl.

    Args:
        in_dim: width of the features.
        out_dim: number of outputs.
        width: of the bottleneck; 0: there is none, but one linear layer with bias. Without linear layer 1 the
            bottleneck is as wide as the features, without linear layer 2 as the output.
        layers: the six fields.

    Raises:
        UserError: a field has an unknown word, weights of an absent layer are normalised, without both layers `out_dim`
            is not `in_dim`, or `layers` are given where there is no bottleneck.
    """

    def __init__(
        self, in_dim: int, out_dim: int, *, width: Annotated[int, Range(0, 2**14)] = 256, layers: str = PUBLISHED
    ) -> None:
        super().__init__()
        if width == 0 and layers != PUBLISHED:
            raise UserError(
                f"layers: {shown(layers)}, but width: 0 leaves one linear layer with bias; give one of them"
            )
        first_norm, first, features, last_norm, last, output = fields_of(layers if width else "-/-/-/-/lb/-")
        _refuse_no_layers(layers, (first, last), in_dim, out_dim)
        inner = in_dim if first == "-" else out_dim if last == "-" else width
        self.first = _linear(in_dim, inner, first, first_norm)
        self.features = UnitNorm(detached=features == "fnd") if features != "-" else nn.Identity()
        self.last = _linear(inner, out_dim, last, last_norm)
        self.output = UnitNorm(detached=False) if output != "-" else nn.Identity()
        self.has_width = width > 0

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, in_dim) to (B, out_dim)."""
        logits: Tensor = self.output(self.last(self.features(self.first(features))))
        return logits


class UnitNorm(nn.Module):
    """Rows of L2 norm 1; `detached`: gradients take the norm for a constant."""

    def __init__(self, *, detached: bool) -> None:
        super().__init__()
        self.detached = detached

    def forward(self, rows: Tensor) -> Tensor:
        """Map (B, width) to (B, width)."""
        if not self.detached:
            return F.normalize(rows, dim=-1, eps=EPSILON)
        norms: Tensor = rows.detach().norm(dim=-1, keepdim=True)
        return rows / norms.clamp_min(EPSILON)


class UnitRowLinear(nn.Linear):
    """A linear layer whose weight is divided by the L2 norm of each row; the stored weight is as it was."""

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, in) to (B, out)."""
        return F.linear(features, F.normalize(self.weight, dim=1, eps=EPSILON), self.bias)


def _linear(before: int, after: int, word: str, norm: str) -> nn.Module:
    if word == "-":
        return nn.Identity()
    return (UnitRowLinear if norm == "wn" else nn.Linear)(before, after, bias=word == "lb")


def fields_of(layers: str) -> list[str]:
    """Return the six fields of a bottleneck.

    Raises:
        UserError: one has an unknown word, or weights of an absent layer are normalised.
    """
    fields = layers.split("/")
    if len(fields) != len(FIELDS):
        raise UserError(f"layers: {shown(layers)} has {len(fields)} fields; must be {len(FIELDS)}, such as {PUBLISHED}")
    for number, (word, (about, words)) in enumerate(zip(fields, FIELDS, strict=True), start=1):
        if word not in words:
            raise UserError(
                f"layers: {shown(layers)}, field {number} ({about}): {word!r}; choose from: {', '.join(words)}"
            )
    for norm, layer in ((1, 2), (4, 5)):
        if fields[norm - 1] == "wn" and fields[layer - 1] == "-":
            raise UserError(
                f"layers: {shown(layers)}, field {norm}: wn normalises the weights of a layer that field {layer} "
                f"leaves out; set field {norm} to -, or field {layer} to l or lb"
            )
    return fields


def _refuse_no_layers(layers: str, linear: tuple[str, str], in_dim: int, out_dim: int) -> None:
    if linear == ("-", "-") and in_dim != out_dim:
        raise UserError(
            f"layers: {shown(layers)} has no linear layer (fields 2 and 5), so there are as many outputs as features, "
            f"{in_dim}, and out_dim is {out_dim}; set it to {in_dim}, or a field to l or lb"
        )
