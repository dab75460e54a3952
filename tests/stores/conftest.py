"""What tests of the DynamoDB store share."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.stores.dynamodb_server import Server, serve, without_credentials

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One DynamoDB for all tests of a file, and no way to AWS."""
    with pytest.MonkeyPatch.context() as patch:
        without_credentials(patch)
        for endpoint in serve():
            with closing(Server(endpoint)) as server:
                yield server
