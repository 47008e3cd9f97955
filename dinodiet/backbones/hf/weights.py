"""Weights for models of transformers, from a file in any of its layouts, all or nothing; nothing in it is executed.

The library's own table of names turns those of older versions and of models with a head into those of the model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import torch
import transformers

from dinodiet.backbones.hf.configuration import Architecture
from dinodiet.backbones.hf.pruned import remove
from dinodiet.backbones.weights.files import first_line, network_in, read_all, whose
from dinodiet.backbones.weights.huggingface import EXCHANGED, to_huggingface
from dinodiet.backbones.weights.misfit import refuse_broken, refuse_misfit, refuse_nothing
from dinodiet.backbones.weights.network import Found, State, find, tensors_in
from dinodiet.backbones.weights.timm import HEADS
from dinodiet.errors import UserError

# Beside the vision tower of a model of images and text; what is below a head has no place either.
_LEFT_OUT = (*HEADS, "text_model.", "text_projection.", "visual_projection.", "logit_scale", "logit_bias")
_LEFT_OUT += (
    "decode_head.",
    "auxiliary_head.",
    "qformer.",
    "language_model.",
    "query_tokens",
    "multi_modal_projector.",
)


def from_scratch(chosen: Architecture, unused: Collection[str]) -> Any:
    """Return a model with random weights, without its unused parameters."""
    with quiet():
        model = chosen.cls(chosen.config)
    remove(model, unused)
    return model.eval()


def from_file(chosen: Architecture, path: Path, prefix: str | None, unused: Collection[str]) -> tuple[Any, str]:
    """Return a model with the weights of a file, or of the shards of an index, and what was read in words.

    Args:
        chosen: the model's class and configuration.
        path: a checkpoint of transformers, or of a run.
        prefix: under which it keeps the network; None: it is found.
        unused: parameters that are left out: they may be missing.

    Raises:
        UserError: the file cannot be read, or does not fit.
    """
    checkpoint, source = read_all(path), f"{path}{whose(path)}"
    if prefix is None and (own := network_in(checkpoint)) is not None:
        return _of_run(chosen, tensors_in(own), source, unused), source
    found = Found(tensors_in(checkpoint), "")
    refuse_nothing(found, source)
    model, fitted = _loaded(chosen, found.state, unused)
    if prefix is not None or fitted.missing:
        size = len(fitted.expected)
        found = find(found.state, lambda state: _nearest(chosen, state, unused)[1].rank(), size, prefix, source)
        model, fitted = _nearest(chosen, found.state, unused)
    problem = f"weights: {source} does not fit {chosen.type}{found}"
    refuse_misfit(fitted.expected, fitted.found, problem, found.state)
    refuse_broken(model.state_dict(), model.state_dict(), f"weights: {source}{found}")
    return model, f"{source}{found}"


def _of_run(chosen: Architecture, state: State, source: str, unused: Collection[str]) -> Any:
    """Return a model with the weights that a run left, which has the model's own names."""
    model = from_scratch(chosen, unused)
    expected = model.state_dict()
    refuse_misfit(expected, state, f"weights: {source} does not fit {chosen.type}")
    refuse_broken(expected, state, f"weights: {source}")
    model.load_state_dict(state)
    return model


class _Fitted:
    """How a state dict fits a model, under the model's names.

    `found` is what of `expected` was there, as it was, and what has no place; heads are left out.
    """

    def __init__(self, model: Any, told: Any, state: State) -> None:
        self.expected: State = model.state_dict()
        # Positions and the like, which are no floating-point numbers, are computed: some versions name them here.
        lost = {key for key in told["missing_keys"] if key in self.expected and self.expected[key].is_floating_point()}
        self.missing = len(lost)
        self.found = {key: value for key, value in self.expected.items() if key not in lost}
        shapes = {key: shape for key, shape, _ in told["mismatched_keys"] if key in self.expected}
        self.found |= {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
        beside = [key for key in told["unexpected_keys"] if not key.startswith(_LEFT_OUT)]
        self.found |= {key: state.get(key, torch.empty(0)) for key in beside}
        self._misfits = len(shapes) + len(beside)

    def rank(self) -> tuple[int, int]:
        """Return how well it fits: see `network.Fit`."""
        return len(self.expected) - self.missing, -self._misfits


def _nearest(chosen: Architecture, state: State, unused: Collection[str]) -> tuple[Any, _Fitted]:
    """Return the model with a state dict under its own names or those of timm, whichever fit better."""
    own = _loaded(chosen, state, unused)
    if not own[1].missing or chosen.type not in EXCHANGED:
        return own
    try:
        other = _loaded(chosen, to_huggingface(chosen.type, state), unused)
    except Exception:  # it is of neither layout, which its tensors tell by missing or having another shape
        return own
    return max(own, other, key=lambda found: found[1].rank())


def _loaded(chosen: Architecture, state: State, unused: Collection[str]) -> tuple[Any, _Fitted]:
    with quiet():
        try:
            model, told = chosen.cls.from_pretrained(
                None,
                config=chosen.config,
                state_dict=dict(state),
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                dtype=torch.float32,
            )
        except Exception as error:  # the library stumbles over foreign layouts in ways of its own
            raise UserError(
                f"weights: not a layout that transformers knows for {chosen.type} ({first_line(error)})"
            ) from error
    remove(model, unused)
    return model.eval(), _Fitted(model, told, state)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the library from printing: what it would say is said in one line, or refused."""
    logging: Any = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
