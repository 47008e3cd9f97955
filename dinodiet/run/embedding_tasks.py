"""What the processes of a run embed together: the splits of its datasets, by its networks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from torch import Tensor, nn

from dinodiet.config.settings import Settings
from dinodiet.evals.classifier import Logits
from dinodiet.features.embed import pieces_of
from dinodiet.features.tokens import TokenReader
from dinodiet.processes.rows import Share
from dinodiet.run.parts import Parts
from dinodiet.run.scoring import towers_of
from dinodiet.types import Data, Images, InputSpec, Precision, Runtime

SPLITS = ("train", "val", "test", "unseen", "pretext")
READERS = {"tokens": TokenReader, "classifier": Logits}


@dataclass(frozen=True)
class EmbeddingTask:
    """Images to embed, by the names that all processes know: of `Known.modules`, of `READERS`, of `Known.images`.

    `reader` None: the module itself embeds them. The batch size cuts them into the same batches everywhere.
    """

    module: str
    reader: str | None
    images: str
    input: InputSpec
    precision: Precision
    batch_size: int


@dataclass(frozen=True)
class Known:
    """The networks and images that every process of a run has."""

    modules: Mapping[str, nn.Module]
    images: Mapping[str, Images]
    runtime: Runtime

    def task_of(self, module: nn.Module, images: Images, input: InputSpec, runtime: Runtime) -> EmbeddingTask | None:
        """Return what the others are asked for; None where the network or the images are the first process's own."""
        reader = next((name for name, kind in READERS.items() if isinstance(module, kind)), None)
        network = _name(self.modules, module.read if isinstance(module, (TokenReader, Logits)) else module)
        split = _name(self.images, images)
        if network is None or split is None:
            return None
        return EmbeddingTask(network, reader, split, input, runtime.precision, runtime.batch_size)

    def pieces(self, task: EmbeddingTask, share: Share) -> Iterator[Tensor]:
        """Yield what one process embeds for a task: its batches, in order."""
        module, images = self.modules[task.module], self.images[task.images]
        reader = module if task.reader is None else READERS[task.reader](module)
        runtime = replace(self.runtime, precision=task.precision, batch_size=task.batch_size)
        return pieces_of(reader, images, task.input, runtime, share)


def known_of(settings: Settings, parts: Parts) -> Known:
    """Return the networks of a run that are scored, the method as a classifier, and the splits of its datasets."""
    modules: dict[str, nn.Module] = {"method": parts.method}
    modules |= {str(name): tower for name, tower in towers_of(settings, parts.method).items()}
    trained, scored = _splits("trained", parts.data), _splits("scored", parts.scorer.data)
    return Known(modules, {**trained, **scored}, parts.runtime)


def _splits(name: str, data: Data) -> dict[str, Images]:
    found = {f"{name}/{split}": getattr(data, split) for split in SPLITS}
    return {split: images for split, images in found.items() if images is not None}


def _name(known: Mapping[str, object], wanted: object) -> str | None:
    return next((name for name, one in known.items() if one is wanted), None)
