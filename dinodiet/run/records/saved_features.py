"""Features of the same validation images, written down while a run trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from dinodiet.config.ranges import AtLeastOne
from dinodiet.run.records.base import RecordBase
from dinodiet.run.records.features import Kind
from dinodiet.run.records.validation import chosen_kinds, features_of, features_size, first_images
from dinodiet.types import Clock, Method, Recorded, RecordMemory, Row


class SavedFeatures(RecordBase):
    """Features of the first validation images by student and teacher in evaluation mode; a row an image.

    Columns: `image`, its place in the split, `label`, and `<role>/<kind>`, a list of float32. Step 0 is before the
    training.

    Args:
        every_steps: steps from one set of rows to the next.
        kinds: embeddings, projections, logits; None: all that the method has.
        images: the first so many.

    Raises:
        UserError: the method has no features of a kind, or there are no validation images.
    """

    def __init__(
        self, *, every_steps: AtLeastOne[int] = 100, kinds: list[Kind] | None = None, images: AtLeastOne[int] = 64
    ) -> None:
        super().__init__(every_steps=every_steps)
        self._kinds: list[str] | None = None if kinds is None else list(kinds)
        self.images = images

    def memory(self, method: Method) -> RecordMemory:
        """Return the features of one set of rows; those that wait to be written are in the machine's memory."""
        return RecordMemory(moment=2 * features_size(method, self._kinds, self.images))

    def prepare(self, run: Recorded) -> None:
        """Choose the images."""
        super().prepare(run)
        self.kinds = chosen_kinds(run, self._kinds)
        self._images = first_images(run, self.images)

    def begin(self) -> Sequence[Row]:
        """Return the rows before the training."""
        return self._rows(self.run.clock)

    def on_step(self, clock: Clock, logs: Mapping[str, Tensor]) -> Sequence[Row]:
        """Return the rows of a step."""
        return self._rows(clock)

    def _rows(self, clock: Clock) -> list[Row]:
        found = {name: rows.numpy() for name, rows in features_of(self.run, self._images, self.kinds, clock).items()}
        labels = None if self._images.labels is None else self._images.labels.tolist()
        return [
            {"image": image, "label": None if labels is None else labels[image], **_at(found, image)}
            for image in range(len(self._images))
        ]


def _at(found: Mapping[str, Any], image: int) -> dict[str, Any]:
    return {name: rows[image] for name, rows in found.items()}
