"""A queue outside of Lambda: opened by its address, and taken from in rounds of several calls at once."""

from __future__ import annotations

import importlib
import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from crr_monitor.aws.queue import BATCH, Queue, QueueError, in_groups

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crr_monitor.aws.queue import Client, Message

SCHEME = "sqs://"
FORM = f"{SCHEME}sqs.REGION.amazonaws.com/ACCOUNT/NAME[?region=R&endpoint=URL]"
RECEIVERS = 8
"""So many calls at once where a queue is full: a call gives ten messages, and takes its time for the way."""

_REGION = re.compile(r"(?:sqs\.([a-z0-9-]+)|([a-z0-9-]+)\.queue)\.(?:amazonaws\.com(?:\.cn)?|api\.aws)", re.ASCII)
_PARAMETERS = frozenset({"region", "endpoint"})


def open_queue(
    address: str, region: str | None = None, profile: str | None = None, endpoint_url: str | None = None
) -> Queue:
    """The queue of an address: ``sqs://`` and the queue's URL, with or without its ``https://``.

    What the address says itself comes first. ``endpoint_url`` is where all calls go instead, for a local AWS; else a
    URL that is not of AWS is that as well.

    Raises:
        QueueError: it is no such address, or no Region is known; what to do is told.
    """
    rest, _, query = address.removeprefix(SCHEME).partition("?")
    given = dict(parse_qsl(query, keep_blank_values=True))
    parts = urlsplit(rest if "://" in rest else f"https://{rest}")
    path = parts.path.strip("/")
    if not address.startswith(SCHEME) or not parts.hostname or not path or not given.keys() <= _PARAMETERS:
        message = f"{address}: is no address of a queue: write {FORM}"
        raise QueueError(message)
    found = _REGION.fullmatch(parts.hostname)
    endpoint = given.get("endpoint") or endpoint_url or (None if found else f"{parts.scheme}://{parts.netloc}")
    named = given.get("region") or (found and (found[1] or found[2])) or region
    return Queue(_client(address, named, profile, endpoint), f"{parts.scheme}://{parts.netloc}/{path}")


def _client(address: str, region: str | None, profile: str | None, endpoint: str | None) -> Client:
    errors = importlib.import_module("botocore.exceptions")
    config = importlib.import_module("botocore.config").Config(
        connect_timeout=5,
        read_timeout=30,  # longer than a question waits for messages
        retries={"mode": "standard", "max_attempts": 4},
        max_pool_connections=RECEIVERS,
    )
    try:
        session = importlib.import_module("boto3").Session(profile_name=profile, region_name=region)
        client: Client = session.client("sqs", endpoint_url=endpoint, config=config)
    except errors.NoRegionError as error:
        message = f"{address}: its Region is not known: add ?region=us-east-1"
        raise QueueError(message) from error
    except (errors.BotoCoreError, ValueError) as error:
        message = f"{address}: {error} (check the address, and a profile if there is one)"
        raise QueueError(message) from error
    return client


class Drain:
    """Takes messages from a queue in rounds: one call where there are few, several at once where there are many."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._pool = ThreadPoolExecutor(RECEIVERS, thread_name_prefix="sqs")

    def receive(self, wait_seconds: int) -> list[Message]:
        """The messages of a round; none means that there were none, and that it waited.

        Raises:
            QueueError: the queue could not be asked.
        """
        found = self._queue.receive(wait_seconds)
        if len(found) < BATCH:
            return found
        others = [self._pool.submit(self._queue.receive, 0) for _ in range(RECEIVERS - 1)]
        for other in others:
            try:
                found += other.result()
            except QueueError:
                continue  # the messages come again; and if it goes on, the first call of the next round says why
        return found

    def delete(self, messages: Sequence[Message]) -> list[str]:
        """Remove messages; why, for each that was not: it comes again, without harm."""
        groups = self._pool.map(self._queue.delete, in_groups(messages))
        return [reason for group in groups for reason in group]

    def close(self) -> None:
        """End its threads."""
        self._pool.shutdown()
