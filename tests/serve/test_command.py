"""What the command hands on of its options."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crr_monitor.serve import service
from tests.cli.running import asked

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

ENDPOINT = "http://127.0.0.1:9"
"""Nobody listens there, and nothing is called."""


def test_endpoint_holds_for_queues_and_questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--endpoint-url is where queues are read and S3 is asked; without a role it is asked with these credentials."""
    given: list[service.Options] = []
    monkeypatch.setattr(service, "serve", lambda options, _say: given.append(options))
    queue = "sqs://sqs.eu-west-1.amazonaws.com/111122223333/events"
    asked(tmp_path / "store.db", "serve", queue, "--ask-s3", "--endpoint-url", ENDPOINT)
    (options,) = given
    opened = options.open_queue(queue)
    assert opened.url == "https://sqs.eu-west-1.amazonaws.com/111122223333/events"
    assert opened._client.meta.endpoint_url == ENDPOINT  # type: ignore[attr-defined] # boto3's client
    assert options.prober is not None
    assert options.prober._own_only is True  # type: ignore[attr-defined] # the prober's own
    assert options.limits.always_status is False
