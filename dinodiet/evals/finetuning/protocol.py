"""How a fine-tuning was done, as plain values: what its scores are compared by, and what was seen on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from dinodiet.evals.finetuning.kept import Outcome
from dinodiet.evals.finetuning.training import Task
from dinodiet.io import machine
from dinodiet.types import Images

VERSION = 1  # of the procedure; raise it when scores change though settings are the same


def protocol_of(task: Task, outcomes: Sequence[Outcome], chosen: str, validation: str) -> dict[str, Any]:
    """Return the record of trainings that differ in their seed alone.

    `chosen` says how the learning rate was, `validation` what val is.
    """
    return {
        "version": VERSION,
        **outcomes[0].facts,
        "lr": outcomes[0].lr,
        "lr_chosen": chosen,
        "seeds": [outcome.seed for outcome in outcomes],
        "input": {name: _plain(value) for name, value in asdict(task.input).items()},
        "train_images": digest(task.train),
        "num_train": len(task.train),
        "validation": validation,
        "val_images": digest(task.val),
        "test_images": task.test.fingerprint(),
        "test_labels": label_digest(task.test),
        "precision": task.runtime.precision,
        "device": machine.describe_device(task.runtime.device),
        "first_loss": [outcome.first_loss for outcome in outcomes],
        "last_loss": [outcome.last_loss for outcome in outcomes],
        "best_step": [outcome.best_step for outcome in outcomes],
    }


def _plain(value: Any) -> Any:
    """Return a tuple as the list that JSON makes of it."""
    return list(value) if isinstance(value, tuple) else value


def digest(images: Images) -> str:
    """Return a hash of a split: its images in their order, and their labels."""
    return hashlib.blake2b(f"{images.fingerprint()} {label_digest(images)}".encode(), digest_size=16).hexdigest()


def label_digest(images: Images) -> str:
    """Return a hash of the labels of a split."""
    assert images.labels is not None
    return hashlib.blake2b(images.labels.contiguous().numpy(force=True).tobytes(), digest_size=16).hexdigest()
