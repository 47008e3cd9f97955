"""Which evaluators score which budgets of labels, and why others are left out: known before any work."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping, Sequence

from dinodiet.config.budgets import Budget
from dinodiet.errors import NotApplicable, UserError
from dinodiet.evals.labels import draw
from dinodiet.types import Backbone, Data, Evaluator, TokenEvaluator, fits_labels, of_train

NEEDS = ("embeddings", "encoder", "training")
Evaluation = tuple[str, Budget | None]  # an evaluator's name, and a budget of labels; None: all labels


class Asked:
    """Every evaluator with every budget, or once where it fits no labels.

    Args:
        evaluators: by name.
        data: what is scored.
        budgets: of labels; None stands for all of them.
        backbone: what will be scored, where that is known: evaluators that do not suit it are left out.

    Attributes:
        evaluators: those that can score all labels, by name.
        skipped: why others cannot, by name.
        subsets: the images of each budget.
        left_out: why an evaluation is left out, None where it is not; every evaluation that is asked for is a key.

    Raises:
        UserError: an evaluator's settings do not fit the data or backbone, or a budget of labels does not.
    """

    def __init__(
        self,
        evaluators: Mapping[str, Evaluator],
        data: Data,
        budgets: Sequence[Budget | None] = (None,),
        backbone: Backbone | None = None,
    ) -> None:
        self.evaluators: dict[str, Evaluator] = {}
        self.skipped: dict[str, str] = {}
        self.left_out: dict[Evaluation, str | None] = {}
        self._data, labelled = data, data.train.labels is not None
        self.subsets = {budget: draw(budget, data) for budget in budgets if budget is not None and labelled}
        self._fits = {name: fits_labels(evaluator) for name, evaluator in evaluators.items()}
        for name, evaluator in evaluators.items():
            _refuse_other_contracts(name, evaluator)
            reason = self._inapplicable(name, evaluator, None) or _unsuited(name, evaluator, backbone)
            if reason is None:
                self.evaluators[name] = evaluator
            else:
                self.skipped[name] = reason
            for budget in budgets if self._fits[name] else [None]:
                self.left_out[name, budget] = reason or self._inapplicable(name, evaluator, budget)

    def __iter__(self) -> Iterator[Evaluation]:
        """Yield every evaluation that is asked for."""
        return iter(self.left_out)

    def fits_labels(self, name: str) -> bool:
        """Return whether labels of train change what an evaluator says."""
        return self._fits[name]

    def of_train(self, name: str) -> bool:
        """Return whether what an evaluator says is of train alone, whichever split is reported on."""
        return name in self.evaluators and of_train(self.evaluators[name])

    def _inapplicable(self, name: str, evaluator: Evaluator, budget: Budget | None) -> str | None:
        """Return why an evaluator cannot score so many labels, None where it can; raises as the constructor."""
        subset = self.subsets.get(budget) if budget is not None else None
        try:
            with argument_errors(name, evaluator):
                evaluator.applies(self._data.spec, len(self._data.train) if subset is None else len(subset.positions))
        except NotApplicable as reason:
            return str(reason)
        except UserError as error:
            if subset is None:
                raise
            raise type(error)(f"{error} ({subset.budget.key}: {subset.budget.amount})") from error
        return None


def _unsuited(name: str, evaluator: Evaluator, backbone: Backbone | None) -> str | None:
    """Return why an evaluator that reads tokens cannot score a backbone; None where it can, or it is not known."""
    if backbone is not None and isinstance(evaluator, TokenEvaluator):
        try:
            with argument_errors(name, evaluator):
                evaluator.suits(backbone)
        except NotApplicable as reason:
            return str(reason)
    return None


def _refuse_other_contracts(name: str, evaluator: Evaluator) -> None:
    """Raise UserError, naming what is missing, for an object that is no evaluator."""
    lacks = [member for member in ("needs", "applies", "__call__") if not hasattr(evaluator, member)]
    if lacks:
        raise UserError(
            f"eval.{name}: {type(evaluator).__name__} lacks {', '.join(lacks)}, which an evaluator has; "
            "see dinodiet.types.Evaluator"
        )
    if evaluator.needs not in NEEDS:
        raise UserError(f"eval.{name}: needs {evaluator.needs!r}; choose from: {', '.join(NEEDS)}")


@contextlib.contextmanager
def argument_errors(name: str, evaluator: Evaluator) -> Iterator[None]:
    """Tell errors of an evaluator's arguments under its name in the configuration; others are not its own."""
    try:
        yield
    except UserError as error:
        if str(error).partition(":")[0] in inspect.signature(type(evaluator)).parameters:
            raise UserError(f"eval.{name}.{error}") from error
        raise
