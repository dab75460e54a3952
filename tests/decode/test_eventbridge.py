"""S3's own events on EventBridge."""

from __future__ import annotations

import pytest

from crr_monitor.core.events import Deleted, Mark, Written
from tests.decode.results import event_of, ignored_of, reason_of, written_of
from tests.messages import ACCOUNT, AT, BUCKET, ETAG, KEY, REGION, SIZE, VERSION, native, native_deleted


@pytest.mark.parametrize("reason", ["PutObject", "POST Object", "CopyObject", "CompleteMultipartUpload"])
def test_created(reason: str) -> None:
    """Every creation is a write by nobody knows whom, to the second; the key is taken raw."""
    assert event_of(native(reason=reason)) == Written(
        BUCKET,
        KEY,
        VERSION,
        AT,
        whole_seconds=True,
        mark=Mark.UNKNOWN,
        size=SIZE,
        etag=ETAG,
        account=ACCOUNT,
        region=REGION,
    )


@pytest.mark.parametrize(("reason", "by_lifecycle"), [("DeleteObject", False), ("Lifecycle Expiration", True)])
def test_delete_marker(*, reason: str, by_lifecycle: bool) -> None:
    """A delete marker is a write without a size; lifecycle's own are told apart."""
    event = written_of(native_deleted(reason=reason))
    assert (event.delete_marker, event.size, event.by_lifecycle, event.mark) == (True, None, by_lifecycle, Mark.UNKNOWN)


def test_size_of_a_marker() -> None:
    """A delete marker has no size, even if the message gives one."""
    message = native_deleted()
    message["detail"]["object"]["size"] = 0
    assert written_of(message).size is None


@pytest.mark.parametrize("reason", ["DeleteObject", "Lifecycle Expiration"])
def test_deleted(reason: str) -> None:
    """A permanent deletion of a version is one, whoever did it."""
    assert event_of(native_deleted("Permanently Deleted", reason)) == Deleted(
        BUCKET, KEY, VERSION, AT, whole_seconds=True
    )


@pytest.mark.parametrize("requester", ["s3.amazonaws.com", ACCOUNT])
def test_requester_proves_nothing(requester: str) -> None:
    """S3 itself also writes inventories, so its name marks no replica."""
    assert written_of(native(requester=requester)).mark is Mark.UNKNOWN


def test_zero_size() -> None:
    """A size of zero is a size."""
    message = native()
    message["detail"]["object"]["size"] = 0
    assert written_of(message).size == 0


def test_account_as_a_number() -> None:
    """An account that became a number gets its leading zeros back."""
    assert written_of(native() | {"account": 11122223333}).account == "011122223333"


def test_place_is_optional() -> None:
    """Account and Region may be missing, and the bucket's name may be in the resources alone."""
    message = native()
    del message["account"], message["region"], message["detail"]["bucket"]
    event = written_of(message)
    assert (event.bucket, event.account, event.region) == (BUCKET, None, None)


@pytest.mark.parametrize("version", [None, "", "null"])
@pytest.mark.parametrize("kind", ["Object Created", "Object Deleted"])
def test_unversioned(kind: str, version: str | None) -> None:
    """What happens to objects without a real version id is ignored."""
    assert ignored_of(native(kind, version)) == {"unversioned": 1}


@pytest.mark.parametrize("kind", ["Object Tags Added", "Object ACL Updated", "Object Restore Completed"])
def test_other_events(kind: str) -> None:
    """Other events are ignored under their name."""
    assert ignored_of(native(kind)) == {kind: 1}


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("time", None, "time is missing"),
        ("time", "date", "time: not an RFC 3339 time: 'date'"),
        ("time", "2021-11-12T00:00:00", "time: time without a zone: '2021-11-12T00:00:00'"),
        ("detail-type", None, "detail-type is missing"),
        ("detail", {"bucket": {"name": 5}}, "detail.bucket.name is no text but int"),
        ("detail", {"bucket": {"name": BUCKET}}, "detail.object.key is missing"),
        (
            "detail",
            {"bucket": {"name": BUCKET}, "object": {"key": "k", "version-id": 1}},
            "detail.object.version-id is no text but int",
        ),
        ("detail", [], "detail: Expected `object`, got `array`"),
    ],
)
def test_unfit(field: str, value: object, reason: str) -> None:
    """A creation that lacks what an event needs is rejected, envelope and all."""
    assert reason_of(native() | {field: value}) == reason


@pytest.mark.parametrize("deletion", ["", "Vanished"])
def test_unknown_deletion(deletion: str) -> None:
    """A deletion that is neither a marker's creation nor permanent is rejected: it could be either."""
    assert reason_of(native_deleted(deletion)) == f"detail.deletion-type is unknown: {deletion!r}"


def test_bucketless() -> None:
    """A creation that names no bucket anywhere is rejected."""
    message = native() | {"resources": []}
    del message["detail"]["bucket"]
    assert reason_of(message) == "detail.bucket.name is missing"
