from typing import Any

import httpx
import pytest
from huggingface_hub.errors import GatedRepoError

from dinodiet.io.gated import access

PAGE = "https://huggingface.co/datasets/a/b"
EXPECTED = f"; where it is gated, accept its terms on {PAGE} and set HF_TOKEN to a token of yours"


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_says_where_terms_are_accepted(status: int) -> None:
    response: Any = httpx.Response(status, request=httpx.Request("GET", PAGE))
    refused = GatedRepoError("no access", response=response)
    wrapped = OSError("not found")
    wrapped.__cause__ = refused
    for error in (refused, wrapped, FileNotFoundError("Dataset 'a/b' is a gated dataset on the Hub.")):
        assert access(error, PAGE) == EXPECTED


def test_other_faults_say_nothing_of_it() -> None:
    assert access(OSError("no network"), PAGE) == ""
