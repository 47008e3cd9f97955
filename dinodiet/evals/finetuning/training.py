"""The fine-tunings of one encoder on one set of images: each a run of the one training loop, kept when it is done."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dinodiet.data.loader import TrainLoader
from dinodiet.errors import UserError
from dinodiet.evals.classifier import Logits
from dinodiet.evals.finetuning.finetuned import FineTuned, count, opened
from dinodiet.evals.finetuning.kept import Kept, Outcome, name_of
from dinodiet.evals.finetuning.probe_start import start_from_probe
from dinodiet.evals.finetuning.settings import Recipe
from dinodiet.evals.finetuning.watch import Watch, quality
from dinodiet.evals.metrics import score
from dinodiet.features.embed import embed, embedded
from dinodiet.schedules import Cosine
from dinodiet.training.loop import NonFiniteLossError, Optimisation, fit
from dinodiet.training.optim import build_fused
from dinodiet.training.state import TrainState
from dinodiet.types import Clock, DataSpec, Embeddings, Images, InputSpec, Runtime

BETAS = (0.9, 0.999)
STATE_PER_PARAMETER = 2.0  # AdamW's two moments


@dataclass(frozen=True)
class Task:
    """What all trainings of an evaluation have in common; `encoder` is copied for each and left as it is."""

    encoder: nn.Module
    input: InputSpec
    spec: DataSpec
    runtime: Runtime
    train: Images
    val: Images
    test: Images
    recipe: Recipe

    @functools.cached_property
    def embeddings(self) -> tuple[Embeddings, Embeddings]:
        """Return those of train and val before anything is trained."""
        labels = {"num_labels": self.spec.num_labels, "multilabel": self.spec.multilabel}
        train, val = (
            embed(self.encoder, images, self.input, self.runtime, **labels)  # type: ignore[arg-type]
            for images in (self.train, self.val)
        )
        return train, val

    def metrics(self, method: FineTuned, images: Images) -> dict[str, float]:
        """Return the metrics of a classifier on un-augmented images."""
        assert images.labels is not None
        logits = torch.cat(list(embedded(Logits(method), images, self.input, self.runtime))).double()
        return score(logits if self.spec.multilabel else logits.softmax(dim=1), images.labels)


@dataclass(frozen=True)
class Trainings:
    """Trains, and remembers what was trained; `seconds` lie between two checkpoints, `folder` takes the curves."""

    task: Task
    kept: Kept
    seconds: float
    folder: Path | None

    def trained(self, lr: float, seed: int) -> Outcome:
        """Return a training, judged on val alone; one that is kept is not done again."""
        found = self.kept.outcomes.get(name_of(lr, seed))
        if found is None or (found.test is None and found.diverged is None and self.kept.weights(found.name) is None):
            found = self._train(lr, seed)
        return found

    def tested(self, lr: float, seed: int) -> Outcome:
        """Return a training with its scores on test: after the last step, and after that which is best on val.

        Raises:
            UserError: it diverged.
        """
        outcome = self.trained(lr, seed)
        if outcome.diverged is not None:
            raise UserError(f"lr: {lr:g}; fine-tuning with seed {seed}: {outcome.diverged}")
        if outcome.test is None:
            weights = self.kept.weights(outcome.name)
            assert weights is not None
            outcome.test, outcome.best_test = (self._on_test(lr, seed, weights[which]) for which in ("last", "best"))
            self.kept.add(outcome)
            self.kept.forget(outcome.name)
        return outcome

    def best_of(self, lrs: list[float]) -> float:
        """Return the rate whose training is best on val after its last step; of equal ones the smallest.

        Raises:
            UserError: all diverged.
        """
        outcomes = [self.trained(lr, 0) for lr in sorted(lrs)]
        if all(outcome.diverged for outcome in outcomes):
            raise UserError(f"lr: {lrs}; fine-tuning diverged with each: {outcomes[0].diverged}")
        best = max(outcomes, key=lambda outcome: quality(outcome.val))
        for outcome in outcomes:
            if outcome is not best:
                self.kept.forget(outcome.name)
        return best.lr

    def _train(self, lr: float, seed: int) -> Outcome:
        state, loader, facts = prepared(self.task, seed)
        outcome = Outcome(lr, seed, facts)
        watch = self._watch(state, outcome)
        if (found := self.kept.checkpoint(outcome.name)) is not None:
            state.restore(found)
            watch.restore(found["watch"])
        elif self.task.recipe.head.start == "probe":
            start_from_probe(state.method.head, *self.task.embeddings, self.task.runtime.device)  # type: ignore[arg-type]
        try:
            with watch.watching(state.clock):
                self._fit(state, loader, lr, watch)
        except NonFiniteLossError as error:
            outcome.diverged = str(error)
            self.kept.add(outcome)
            return outcome
        self.kept.add(outcome, {"last": _copied(state.method), "best": watch.best})
        return outcome

    def _fit(self, state: TrainState, loader: TrainLoader, lr: float, watch: Watch) -> None:
        runtime, batches = self.task.runtime, loader.batches(state.clock.step)
        optimisation = _optimisation(self.task.recipe, lr, runtime)
        fit(
            state.method,
            batches,
            state.optimizer,
            state.scaler,
            optimisation,
            state.clock,
            runtime.world,
            on_step=watch.on_step,
        )

    def _watch(self, state: TrainState, outcome: Outcome) -> Watch:
        clock, method = state.clock, state.method
        assert isinstance(method, FineTuned)

        def save(seen: dict[str, Any]) -> None:
            self.kept.save(outcome.name, {**state.content(), **seen})

        return Watch(
            outcome,
            self.task.recipe.validated(clock.total_steps, clock.steps_per_epoch),
            functools.partial(self.task.metrics, method, self.task.val),
            functools.partial(_copied, method),
            save,
            self.seconds,
            None if self.folder is None else self.folder / f"{outcome.name}.jsonl",
        )

    def _on_test(self, lr: float, seed: int, weights: dict[str, Tensor]) -> dict[str, float]:
        method = fresh(self.task, seed)[0]
        method.load_state_dict(weights)
        return self.task.metrics(method, self.task.test)


def fresh(task: Task, seed: int) -> tuple[FineTuned, float]:
    """Return a fresh classifier on a copy of the encoder, all of it open, and its rate of stochastic depth."""
    torch.manual_seed(seed)
    backbone, drop_path = opened(task.encoder, task.recipe.regularisation.drop_path)
    made = FineTuned(backbone, task.spec, task.recipe, len(task.train))
    return made.to(task.runtime.device), drop_path


def prepared(task: Task, seed: int) -> tuple[TrainState, TrainLoader, dict[str, Any]]:
    """Return what is trained, before its first step, its batches, and facts about it for the protocol."""
    recipe, runtime = task.recipe, task.runtime
    method, drop_path = fresh(task, seed)
    groups = [group.as_dict() for group in method.param_groups()]
    optimizer = build_fused(functools.partial(torch.optim.AdamW, betas=BETAS, lr=0.0), groups)
    batch, fill = recipe.batch(len(task.train)), recipe.length.last_batch == "filled"
    on_gpu = runtime.device.type == "cuda"
    loader = TrainLoader(task.train, batch, seed, runtime.num_workers, on_gpu, fill=fill)
    steps = recipe.length.total(loader.steps_per_epoch) if recipe.steps is None else recipe.steps
    scaler = torch.amp.GradScaler(runtime.device.type, enabled=runtime.precision == "fp16")
    facts = {
        "trainable_parameters": count(p for group in optimizer.param_groups for p in group["params"]),
        "parameters": count(method.parameters()),
        "steps": steps,
        "epochs": round(steps / loader.steps_per_epoch, 4),
        "batch_size": loader.batch_size,
        "learning_rate_factors": sorted({group["lr_scale"] for group in optimizer.param_groups}),
        "drop_path": drop_path,
        "mixing": method.mix.kinds,
        "train_transform": repr(method.views),
    }
    return TrainState(method, optimizer, scaler, Clock(0, steps, loader.steps_per_epoch, seed=seed)), loader, facts


def _optimisation(recipe: Recipe, lr: float, runtime: Runtime) -> Optimisation:
    optimiser = recipe.optimiser
    return Optimisation(
        lr=Cosine(lr, final=min(optimiser.final_lr, lr), warmup_fraction=optimiser.warmup_fraction),
        weight_decay=optimiser.weight_decay,
        clip_grad=optimiser.clip_grad,
        precision=runtime.precision,
    )


def _copied(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}


@contextmanager
def global_state_kept(device: torch.device) -> Iterator[None]:
    """Leave torch's global random state as it was."""
    devices = [torch.cuda.current_device() if device.index is None else device.index] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield
