"""Exceptions that are shown to people as a single line, and that line."""

from collections.abc import Sequence


class UserError(ValueError):
    """A mistake that the user can mend: printed as one line, without a traceback.

    The message names the key or file, what was found and the valid choices.
    """

    def __str__(self) -> str:
        """Return the message as `printable`: a file's name may hold a line break, or bytes that are no text."""
        return printable(super().__str__())


class ManyReasons(UserError):  # noqa: N818 - as below
    """Several mistakes of one command: the message says how many and which keys, and `lines` tell one each."""

    def __init__(self, message: str, lines: Sequence[str]) -> None:
        super().__init__(message)
        self.lines = [one_line(Exception(line)) for line in lines]


class NotReleased(UserError):  # noqa: N818 - a fact about a model
    """Weights of this model, or of this size of it, were never published."""


class NotOnDisk(UserError):  # noqa: N818 - a fact about this machine
    """Files of a dataset or of weights are not where they are looked for."""


class MachineLimit(UserError):  # noqa: N818 - a statement about this machine, not about the settings
    """Something that this machine cannot give at present, such as room on a disk: the same command continues later."""

    EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: try again


class NotBuilt(UserError):  # noqa: N818 - a statement about a part
    """A part failed while it was built, with an error that is no refusal of its settings."""


class NotApplicable(Exception):  # noqa: N818 - a statement about the data, not a failure
    """An evaluator's word that its scores make no sense for this data; the message says why."""


def one_line(error: BaseException) -> str:
    """Return an error's message without line breaks, or its type where it has none.

    Of an error in a loader's worker it is the message, and not its traceback.
    """
    text = str(error)
    if "Original Traceback" in text:
        text = str(error.args[0]).rpartition(f"{type(error).__name__}: ")[2]  # its end is a line break, not printable
    return printable(" ".join(text.split())) or type(error).__name__


def printable(text: str) -> str:
    r"""Return text with escapes (`\n`, `\xff`) for what no terminal or UTF-8 file shows, as names of files may hold."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a name that is no UTF-8, see PEP 383
        return f"\\x{code - 0xDC00:02x}"
    return char.encode("unicode_escape").decode()
