"""Whether the optimiser of a run can train weights whose rows are spread over processes."""

from __future__ import annotations

from dinodiet.config.build import build
from dinodiet.config.signature import Node
from dinodiet.errors import UserError
from dinodiet.training.optim import moves_rows_apart


def check_rows_apart(optimizer: Node, spread: str, instead: str) -> None:
    """Refuse an optimiser that looks at whole weights.

    Args:
        optimizer: of the schedule.
        spread: what lies in rows, in words.
        instead: the setting under which it does not.

    Raises:
        UserError: it does.
    """
    if not moves_rows_apart(build(optimizer, "schedule.optimizer")):
        raise UserError(
            f"schedule.optimizer: {optimizer['_target_']} looks at whole weights, and {spread} are spread "
            f"over the processes; set {instead}, or choose another, as torch.optim.AdamW"
        )
