"""What is measured at a point of a landscape: losses against the fixed first network, k-NN, linear probes, norms."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dinodiet.config.settings import Landscape
from dinodiet.data.preprocess import preprocess
from dinodiet.errors import NotApplicable, UserError
from dinodiet.evals.probe import Probe
from dinodiet.evals.splits import GivenSplits
from dinodiet.features.embed import embed, in_order
from dinodiet.methods.parts.comparisons import COMPARISONS, Targets
from dinodiet.methods.parts.pairs import Pairs
from dinodiet.run.landscape.places import Networks, State
from dinodiet.types import Clock, Data, Embeddings, InputSpec, Runtime

ONE_VIEW = Pairs("same", 1, 1)
PROBES = ("knn", "knn_norm", "linear", "linear_norm")


class Measurer:
    """Measures the student anywhere on a plane, the teacher being the network of the first point.

    Images are seen once and as in evaluation, not augmented; losses are means over them, of logits as the loss of the
    method has them: centred and divided by the temperatures of the last step.

    Args:
        networks: the method's, whose parameters are moved.
        first: the role of the first point, and the state that it lies in.
        data: train and val are measured.
        input: of the encoder.
        runtime: where and how.
        clock: the end of the training.
        wanted: how BatchNorms are treated, and which probes are fitted.
    """

    def __init__(
        self,
        networks: Networks,
        first: tuple[str, State],
        data: Data,
        input: InputSpec,
        runtime: Runtime,
        clock: Clock,
        wanted: Landscape,
    ) -> None:
        self._networks, self._data, self._input, self._runtime = networks, data, input, runtime
        self._clock, self._wanted = clock, wanted
        role, state = first
        networks.method.load_state_dict(dict(state))  # the centres, too
        networks.load("teacher", role, state)
        networks.load("student", role, state)
        self._splits = {name: images for name, images in (("train", data.train), ("val", data.val)) if len(images)}
        self._probe = self._fitting_probe()
        self._teacher = {name: self._embeddings("teacher", name) for name in self._splits}

    def at(self, vector: Tensor) -> dict[str, float]:
        """Return losses by `<split>_<kind>`, accuracies on val, and L2 norms of the parameters at a vector (D,)."""
        self._networks.set("student", vector)
        if self._wanted.batchnorm == "recomputed":
            self._recompute_statistics()
        student = {name: self._embeddings("student", name) for name in self._splits}
        found: dict[str, float] = {}
        for name, embeddings in student.items():
            found |= {f"{name}_{kind}": value for kind, value in self._losses(name, embeddings).items()}
        return found | self._probed(student) | self._norms()

    def _embeddings(self, role: str, split: str) -> Embeddings:
        spec = self._data.spec
        return embed(
            self._networks.parts(role)["encoder"],
            self._splits[split],
            self._input,
            self._runtime,
            num_labels=spec.num_labels,
            multilabel=spec.multilabel,
        )

    def _losses(self, split: str, student: Embeddings) -> dict[str, float]:
        """Return the mean of every kind of loss over a split, and the entropy of the targets."""
        sums: dict[str, float] = {}
        for seen, asked in self._logits(split, student):
            targets = Targets(seen[None], seen.softmax(dim=-1)[None])
            values: dict[str, Tensor] = {
                kind: compare(targets, asked[None], ONE_VIEW) for kind, compare in COMPARISONS.items()
            }
            for kind, value in [*values.items(), ("target_entropy", targets.entropy())]:
                sums[kind] = sums.get(kind, 0.0) + len(seen) * value.item()
        return {kind: value / len(student) for kind, value in sums.items()}

    @torch.no_grad()
    def _logits(self, split: str, student: Embeddings) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the logits (B, C) of teacher and student, in float32 on the device."""
        method, size, device = self._networks.method, self._runtime.batch_size, self._runtime.device
        pairs = zip(self._teacher[split].features.split(size), student.features.split(size), strict=True)
        for seen, asked in pairs:
            teacher = method.readout("teacher", seen.to(device), self._clock)["logits"]
            yield teacher.float(), method.readout("student", asked.to(device), self._clock)["logits"].float()

    def _fitting_probe(self) -> Probe | None:
        """Return the probe; None where there are no labels, or no val.

        Raises:
            UserError: k is larger than train.
        """
        probe = Probe(k=self._wanted.k, linear=self._wanted.linear)
        try:
            probe.applies(self._data.spec, len(self._data.train))
        except NotApplicable:
            return None
        except UserError as error:
            raise UserError(f"landscape.{error}") from error
        return probe if "val" in self._splits else None

    def _probed(self, student: dict[str, Embeddings]) -> dict[str, float]:
        """Return accuracies on val of probes fitted on train."""
        if self._probe is None:
            return {}
        found = self._probe(GivenSplits(student["train"], student["val"], runtime=self._runtime))
        return {f"val_{name}": found[name].value for name in PROBES if name in found}

    def _norms(self) -> dict[str, float]:
        squares = {
            name: sum(float(p.detach().double().square().sum()) for p in part.parameters())
            for name, part in self._networks.parts("student").items()
        }
        norms = {f"norm_{name}": math.sqrt(square) for name, square in squares.items()}
        return {"norm_model": math.sqrt(sum(squares.values())), **norms}

    @torch.no_grad()
    def _recompute_statistics(self) -> None:
        """Set the running statistics of the student's BatchNorms to the means over the batches of train."""
        encoder, head = self._networks.parts("student").values()
        norms = [module for part in (encoder, head) for module in part.modules() if isinstance(module, _BatchNorm)]
        if not norms:
            return
        momenta = [norm.momentum for norm in norms]
        modes = [norm.training for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over batches
        for part in (encoder, head):
            part.eval()
        for norm in norms:
            norm.train()
        self._see_train(encoder, head)
        for norm, momentum, mode in zip(norms, momenta, modes, strict=True):
            norm.momentum = momentum
            norm.train(mode)

    def _see_train(self, encoder: nn.Module, head: nn.Module) -> None:
        runtime = self._runtime
        for batch in in_order(self._data.train, runtime.batch_size, runtime.num_workers, pin_memory=False):
            images = (
                batch.to(runtime.device) if isinstance(batch, Tensor) else [one.to(runtime.device) for one in batch]
            )
            with runtime.autocast():
                head(encoder(preprocess(images, self._input)))
