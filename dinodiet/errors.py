"""The one exception that is shown to people as a single line."""


class UserError(ValueError):
    """A mistake that the user can mend: printed as one line, without a traceback.

    The message names the key or file, what was found and the valid choices.
    """


class NotApplicable(Exception):  # noqa: N818 - a statement about the data, not a failure
    """An evaluator's word that its scores make no sense for this data; the message says why."""
