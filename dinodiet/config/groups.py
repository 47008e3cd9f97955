"""The names of configuration groups and of keys that change no result. Imports nothing."""

from __future__ import annotations

NODES = ("model", "dataset", "method", "schedule", "eval", "tracker")  # groups that name what to build
RECORD = "record"  # the group of what is recorded while a run trains; runs of older versions lack it
CHOICES = ("model", "dataset", "method", "schedule", "tuned", "eval", RECORD, "tracker")  # groups of a run
LAUNCHER, SWEEPER, SWEEPS = "hydra/launcher", "hydra/sweeper", "sweeps"  # groups that say which runs, and where

# Keys that say what a command does with its runs.
COMMAND = (
    *("mode", "plan", "retry", "detach", "prune", "check_inputs", "trust_targets", "tower", "export", "export_dir"),
    *("views", "embed", "landscape"),
)

EVALUATION_DATASET = "dataset@eval.dataset"  # the group `dataset` once more: another dataset to score
REFERENCE_DATASET = "dataset@eval.reference.dataset"  # and of images that an evaluator compares with
TEACHER = "method.teacher.model"  # the group `model` once more: the network that a method's student learns from
TEACHER_MODEL = f"model@{TEACHER}"

# What a run is done with, and not what it is: keys of its configuration that are no part of the directory's name.
NOT_SCIENCE = (
    *COMMAND,
    *("name", "checkpoint", "device", "processes", "strategy", "num_workers", "compile", "deterministic"),
    *("grad_checkpointing",),
    *("tracker", RECORD, "data_dir", "outputs_dir", "cache_dir", "decoded_gib", "log_every", "checkpoint_minutes"),
    *("keep_every_epochs", "figures"),
)

# Keys of `eval` that say which scores there are, on how many labels, and change none of them.
LABEL_BUDGETS = ("labels_per_class", "label_fraction", "label_rule", "label_seeds")
# All keys of `eval` that say which scores there are.
SCORED = (*LABEL_BUDGETS, "towers")
BUDGET = "+"  # between the name of an evaluation and that of its budget of labels

STUDENT = "student/"  # before the name of a score of the backbone that gradients train, where a teacher is evaluated
PHASES = ("initial", "final")  # of a run: its encoder before and after the training
