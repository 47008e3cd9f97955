"""The probe: a second head, trained on the labels beside the first ("dual head")."""

from __future__ import annotations

from torch import Tensor, nn

from dinodiet.config.ranges import BelowOne, Fraction
from dinodiet.errors import UserError
from dinodiet.methods.parts.classifier import label_loss
from dinodiet.methods.parts.losses import CrossEntropy
from dinodiet.methods.parts.mix import Mixed
from dinodiet.schedules import Scalar, at
from dinodiet.types import Clock, DataSpec


class Probe(nn.Module):
    """A linear classifier on the embeddings; its loss has the part `weight` of the whole, the first head's the rest.

    `label_smoothing` is its own; None: the first head's.
    """

    def __init__(self, in_dim: int, spec: DataSpec, *, weight: Scalar, label_smoothing: float | None = None) -> None:
        super().__init__()
        self.weight = weight
        self.criterion = None if label_smoothing is None else CrossEntropy(label_smoothing=label_smoothing)
        self.linear = nn.Linear(in_dim, spec.num_labels)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return the logits (B, labels)."""
        logits: Tensor = self.linear(embeddings)
        return logits

    def loss(self, embeddings: Tensor, label: Tensor, mixed: Mixed, criterion: CrossEntropy) -> Tensor:
        """Return the mean loss: of several labels binary cross-entropy, else its own criterion or the first head's."""
        return label_loss(self(embeddings), label, mixed, self.criterion or criterion)

    def share(self, loss: Tensor, probe_loss: Tensor, clock: Clock) -> Tensor:
        """Return the weighted sum of the first head's loss and the probe's."""
        weight = at(self.weight, clock)
        return (1 - weight) * loss + weight * probe_loss


def label_probe(
    in_dim: int,
    spec: DataSpec,
    *,
    weight: Fraction[Scalar] = 0.0,
    label_smoothing: BelowOne[float | None] = None,
) -> Probe | None:
    """Return the probe, or None where its weight is 0; 1 trains on labels alone. `label_smoothing` is as in `Probe`.

    Raises:
        UserError: the images have no labels.
    """
    if weight == 0:
        return None
    if not spec.pretext_labelled:
        raise UserError(f"weight: {spec.name} trains on images without labels; set it to 0")
    return Probe(in_dim, spec, weight=weight, label_smoothing=label_smoothing)
