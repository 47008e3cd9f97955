"""What people are shown of an error is one line, also of one that a loader's worker raised."""

import pytest
from torch._utils import ExceptionWrapper

from dinodiet.data.samples import TooBright
from dinodiet.errors import UserError, one_line


@pytest.mark.parametrize(
    "error", [UserError("a\nb.png: empty"), TooBright("a.png: values up to 9"), FileNotFoundError(2, "no", "x")]
)
def test_an_error_of_a_worker_reads_as_the_error_itself(error: Exception) -> None:
    try:
        raise error
    except Exception:
        wrapped = ExceptionWrapper(where="in DataLoader worker process 0")
    with pytest.raises(type(error)) as raised:
        wrapped.reraise()
    assert one_line(raised.value) == one_line(error)
