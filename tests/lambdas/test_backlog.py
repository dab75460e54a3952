"""What had settled before a stack's archive was switched on, as the change stream brings it later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("boto3")

from crr_monitor.core.reconcile import LONGEST_MS
from crr_monitor.core.times import HOUR_MS, MINUTE_MS
from crr_monitor.lambdas.backlog import ASKED_MS, MARGIN_MS, NOTE, changes_of, since_of
from crr_monitor.sinks.firehose import rows_of
from crr_monitor.stores.dynamodb_items import encode_parts
from crr_monitor.stores.memory import MemoryStore
from tests.factories import AT, KEY, VERSION, evidence_of, failed, replica, user_write

if TYPE_CHECKING:
    from crr_monitor.core.events import Event

SINCE = AT + HOUR_MS


def image(*told: Event, changed_at: int = AT, revision: int = 1) -> dict[str, Any]:
    """An item of the status table, as the stream has it."""
    numbers = {"born_at": AT, "revision": revision, "changed_at": changed_at, "expires_at": 9}
    return {
        "object_key": {"S": KEY},
        "version_id": {"S": VERSION},
        **{name: {"N": str(number)} for name, number in numbers.items()},
        **{name: {"B": body} for name, body in encode_parts(evidence_of(*told)).items()},
    }


def entry(before: dict[str, Any] | None, after: dict[str, Any] | None, at: int) -> dict[str, Any]:
    """An entry of the stream; its times are seconds."""
    images = {"OldImage": before, "NewImage": after}
    told = {name: found for name, found in images.items() if found is not None}
    return {"dynamodb": {"SequenceNumber": "1", "ApproximateCreationDateTime": at // 1_000, **told}}


def statuses(entries: list[dict[str, Any]]) -> list[str]:
    """Of each row that entries add to the archive."""
    return [row.status for change in changes_of(entries, SINCE) for row in rows_of(change, SINCE)]


FAILED = image(user_write(), failed())
FAILED_LATER = image(user_write(), failed(), changed_at=SINCE + 1)


def test_since_when_is_noted_once() -> None:
    """The first run says from when on every change goes to the stream, a little later; all others read that."""
    store = MemoryStore()
    assert since_of(store, "one", AT) == since_of(store, "one", AT + HOUR_MS) == AT + MARGIN_MS


def test_another_stream_begins_anew() -> None:
    """Switched off and on again the stack has another stream, to which what settled meanwhile has to be told."""
    store = MemoryStore()
    since_of(store, "one", AT)
    assert since_of(store, "two", AT + HOUR_MS) == AT + HOUR_MS + MARGIN_MS


def test_a_note_that_cannot_be_read_is_made_anew() -> None:
    """Then more is told twice, and nothing is left out."""
    store = MemoryStore()
    store.keep_note(NOTE, b"{}")
    assert since_of(store, "one", AT) == AT + MARGIN_MS


def test_what_leaves_is_told() -> None:
    """A record that settled before is archived when it leaves the table; one that changed later was told then."""
    arrived = (user_write(), replica())
    assert statuses([entry(image(*arrived), None, SINCE + 25 * HOUR_MS)]) == ["COMPLETED"]
    assert statuses([entry(image(*arrived, changed_at=SINCE + 1), None, SINCE + 25 * HOUR_MS)]) == []


def test_what_failed_is_told_when_s3_is_asked() -> None:
    """A question to S3 changes no evidence, but brings the record of what failed before."""
    asked = {**FAILED, "asks": {"N": "3"}}
    assert statuses([entry(FAILED, asked, SINCE + MINUTE_MS)]) == ["FAILED"]


@pytest.mark.parametrize(
    "told",
    [
        pytest.param(entry(FAILED, FAILED, SINCE + ASKED_MS + 1_000), id="all were asked about meanwhile"),
        pytest.param(entry(image(user_write()), image(user_write()), SINCE), id="nothing has settled"),
        pytest.param(entry(FAILED_LATER, FAILED_LATER, SINCE + MINUTE_MS), id="it failed later, and was told then"),
        pytest.param(entry(None, image(user_write(), changed_at=SINCE + 1), SINCE + 1), id="a new write"),
    ],
)
def test_what_is_not_told(told: dict[str, Any]) -> None:
    """A question brings nothing where the archive has it, or nothing is settled."""
    assert statuses([told]) == []


def test_what_failed_is_asked_about_in_time() -> None:
    """Until questions bring nothing any more, each open record was asked about, and an hour was left for that."""
    assert ASKED_MS == LONGEST_MS + HOUR_MS


def test_told_by_several_entries_it_is_one_row() -> None:
    """The questions and the leaving of one record say the same, under one idempotency key."""
    entries = [entry(FAILED, FAILED, SINCE), entry(FAILED, FAILED, SINCE + HOUR_MS), entry(FAILED, None, SINCE)]
    rows = {row for change in changes_of(entries, SINCE) for row in rows_of(change, SINCE)}
    assert len(rows) == 1
